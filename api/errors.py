"""The registry of errors: each code with its HTTP status and its sentence, in English and in French.

Everything else derives from it: docs/errors.md, the enums and examples of the OpenAPI document, the page's
sentences, and the name of each error of the contract. A code means the same wherever it comes from.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from string import Formatter
from typing import Any, Self, TypedDict, Unpack

from api.language import language
from api.words import Language, Words
from creneau import errors
from creneau.errors import ContractError
from creneau.lifecycle import Action, Role, Status
from creneau.order import SlotCode


class Parameters(TypedDict, total=False):
    """The values that sentences name. Amounts are in base units, times are aware of their zone."""

    account: str
    act: Action
    allowed: Collection[Status]
    amount: Decimal
    available: int
    batch: str
    booking: str
    count: int
    date: str
    days: int
    field: str
    line: int
    listing_rate: int
    path: str
    picked: datetime
    price: int
    published: int
    rate: int
    read: datetime
    reason: str
    roles: Collection[Role]
    seconds: int
    since: datetime
    slot: int
    status: Status
    time: str
    until: datetime
    zone: str


_NOT_AS_ISSUED = (
    "In this message line {line} is not as it was issued; sign the message as it is.",
    "La ligne {line} de ce message n'est pas celle d'origine ; signez le message tel quel.",
)


class Code(StrEnum):
    """A code: its value, its status, its sentences in English and French, and perhaps a note for programs.

    Of several sentences a code says the one that has exactly the parameters given. 422 is the status of what
    the OpenAPI document tells to be wrong, 404 of what is not there, and 409 of what does not fit what is. A
    sentence that begins with a verb in small letters is about a lesson, and follows on its day and time.
    """

    status: int
    sentences: Mapping[Language, tuple[str, ...]]
    note: str

    def __new__(cls, value: str, status: int = 500, *texts: str) -> Self:
        """Take the texts in pairs, and an odd one for the note."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.status = status
        pairs = len(texts) // 2 * 2
        code.sentences = {"en": texts[0:pairs:2], "fr": texts[1:pairs:2]}
        code.note = texts[-1] if pairs < len(texts) else ""
        return code

    # fmt: off
    BAD_REQUEST = "bad_request", 400, "This request can't be read.", "Cette requête est illisible."

    BOTH_GIVEN = ("both_given", 422,
        "Give allowPartial or minLessons, not both: allowPartial false asks for all lessons, true for at "
        "least one, and minLessons for at least so many.",
        "Donnez allowPartial ou minLessons, pas les deux : allowPartial false demande tous les cours, true "
        "au moins un, et minLessons au moins ce nombre.")

    TOKEN_MISSING = "token_missing", 401, "Please sign in.", "Connectez-vous."
    TOKEN_EXPIRED = ("token_expired", 401,
        "Your session has expired. Please sign in again.", "Votre session a expiré. Reconnectez-vous.")
    INVALID_TOKEN = ("invalid_token", 401,
        "Your session is not valid, or names no user. Please sign in again.",
        "Votre session n'est pas valide, ou ne désigne personne. Reconnectez-vous.")

    NOT_A_TUTOR = ("not_a_tutor", 403,
        "Only a tutor has time of their own here.", "Seul un professeur a ici du temps à soi.")
    UNKNOWN_USER = ("unknown_user", 403,
        "Nobody is known by the id of your session.",
        "Personne n'est connu sous l'identifiant de votre session.")
    NOT_AN_OPERATOR = ("not_an_operator", 403,
        "Only an operator can do this.", "Seule l'exploitation du service peut faire cela.")
    NOT_YOURS = ("not_yours", 403,
        "You can see your own bookings only.", "Vous ne pouvez voir que vos propres réservations.")
    NOT_YOURS_TO_DO = ("not_yours_to_do", 403,
        "Only the {roles:roles} can have a lesson {act:done}.",
        "Un cours ne peut être {act:done} que par {roles:roles}.",
        "Only the listing's tutor can publish it.", "Seul le professeur d'une annonce peut la publier.")
    METRICS_PRIVATE = ("metrics_private", 403,
        "Metrics are for this machine, or for a request with the token.",
        "Les mesures sont réservées à cette machine, ou à une requête munie du jeton.")

    NOT_FOUND = "not_found", 404, "There is nothing at this address.", "Il n'y a rien à cette adresse."
    BOOKING_NOT_FOUND = ("booking_not_found", 404,
        "There is no such booking.", "Cette réservation n'existe pas.",
        "Or the booking is somebody else's.")
    USER_NOT_FOUND = "user_not_found", 404, "There is no such user.", "Cette personne n'existe pas."
    TUTOR_NOT_FOUND = ("tutor_not_found", 404,
        "There is no such tutor.", "Ce professeur n'existe pas.")
    ANNONCE_NOT_FOUND = ("annonce_not_found", 404,
        "There is no such listing.", "Cette annonce n'existe pas.", "Or the listing is another tutor's.")
    BATCH_NOT_FOUND = ("batch_not_found", 404,
        "There is no such batch.", "Ce lot n'existe pas.", "Or the batch is somebody else's.")
    ACT_NOT_FOUND = ("act_not_found", 404,
        "There is no such act.", "Cet acte n'existe pas.", "Or the act is about somebody else's lessons.")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405,
        "This address does not take that method.", "Cette adresse n'accepte pas cette méthode.")

    IN_PAST = ("in_past", 409,
        "has already begun, or begins within a minute",
        "a déjà commencé, ou commence dans moins d'une minute")
    OUTSIDE_SCHEDULE = ("outside_schedule", 409,
        "is not within the times at which the tutor gives lessons", "est hors des heures du professeur")
    MISALIGNED = ("misaligned", 409,
        "does not start on a quarter of an hour", "ne commence pas à un quart d'heure")
    TOO_SOON = ("too_soon", 409,
        "begins sooner than the tutor's notice allows",
        "commence plus tôt que ne le permet le préavis du professeur")
    TOO_FAR = ("too_far", 409,
        "is further ahead than the tutor takes lessons",
        "est au-delà de ce que le professeur propose à l'avance")
    INVALID_DURATION = ("invalid_duration", 409,
        "must last 15 to 480 minutes, in steps of 15", "doit durer de 15 à 480 minutes, de 15 en 15")
    OVERLAP = ("overlap", 409,
        "overlaps another lesson of this request", "chevauche un autre cours de cette demande")
    TAKEN = ("taken", 409,
        "is already taken", "est déjà pris",
        "is already taken by your own batch {batch}", "est déjà pris par votre propre lot {batch}",
        "`batchId`, if it is your own.")
    AMOUNT_MISMATCH = ("amount_mismatch", 409,
        "costs {price:edu}, not {amount:exact}", "coûte {price:edu}, et non {amount:exact}",
        "has another price", "a un autre prix")
    NONEXISTENT_TIME = ("nonexistent_time", 409,
        "falls into the hour that the clocks skip that day in {zone}",
        "tombe dans l'heure que le changement d'heure supprime ce jour-là ({zone})",
        "falls into the hour that the clocks skip", "tombe dans l'heure que le changement d'heure supprime")
    AMBIGUOUS_TIME = ("ambiguous_time", 409,
        "falls into the hour that comes twice that day in {zone}",
        "tombe dans l'heure qui revient deux fois ce jour-là ({zone})",
        "falls into the hour that comes twice", "tombe dans l'heure qui revient deux fois")

    TIME_ZONE_MISMATCH = ("time_zone_mismatch", 409,
        "was picked as {picked:utc}, and in {zone} it begins at {read:utc}: the time zone data differ. "
        "Pick it by its time in UTC, with timeZone UTC",
        "a été choisi à {picked:utc}, et commence à {read:utc} ({zone}) : les données de fuseau horaire "
        "diffèrent. Choisissez-le par son heure UTC, avec le fuseau UTC",
        "is another instant by the service's time zone data",
        "est un autre instant selon les données de fuseau horaire du service")

    ANNONCE_NOT_BOOKABLE = ("annonce_not_bookable", 409,
        "This listing has no rate that can be booked.", "Cette annonce n'a pas de tarif réservable.")
    INSUFFICIENT_BALANCE = ("insufficient_balance", 402,
        "The price of {count:lessons} is {price:edu}, and you have {available:edu}. Nothing was booked.",
        "Le prix de {count:lessons} est de {price:edu}, et vous avez {available:edu}. Rien n'est réservé.",
        "`neededWei`, `availableWei`.")
    INSUFFICIENT_ALLOWANCE = ("insufficient_allowance", 409,
        "The price of {count:lessons} is {price:edu}, and the contract may take {available:edu} of yours. "
        "Nothing was booked.",
        "Le prix de {count:lessons} est de {price:edu}, et le contrat n'est autorisé à prélever que "
        "{available:edu}. Rien n'est réservé.",
        "`neededWei`, `availableWei`, `token`, `spender`.")
    SIGNATURE_REQUIRED = ("signature_required", 409,
        "Your account has a wallet of its own, which has to sign. Nothing was changed.",
        "Votre compte a son propre portefeuille, qui doit signer. Rien n'a changé.",
        "Your account has a wallet of its own, which has to sign: begin with POST {path}. "
        "Nothing was booked.",
        "Votre compte a son propre portefeuille, qui doit signer : commencez par POST {path}. "
        "Rien n'est réservé.")
    CUSTODIAL_ACCOUNT = ("custodial_account", 409,
        "Your account is kept for you: book with POST {path}. Nothing was prepared.",
        "Votre compte est tenu pour vous : réservez par POST {path}. Rien n'est préparé.")
    ALREADY_SUBMITTED = ("already_submitted", 409,
        "This was submitted already.", "Cette réservation a déjà été envoyée.", "`batchId`.")
    PREPARED_EXPIRED = ("prepared_expired", 409,
        "This waited too long for its signature. Please prepare it again.",
        "La signature est venue trop tard. Préparez à nouveau la réservation.")
    WALLET_CHANGED = ("wallet_changed", 409,
        "The wallet of a party has changed meanwhile. Please prepare it again.",
        "Le portefeuille d'une des parties a changé entre-temps. Préparez à nouveau la réservation.")
    NO_CHALLENGE = ("no_challenge", 409,
        "Please ask for a message to sign first.", "Demandez d'abord un message à signer.")
    CHALLENGE_EXPIRED = ("challenge_expired", 409,
        "This took too long. Please ask for another message.",
        "Le délai est passé. Demandez un autre message.")
    LESSONS_AHEAD = ("lessons_ahead", 409,
        "You have lessons ahead in your present account. Give or cancel them first.",
        "Des cours sont encore à venir sous votre compte actuel. Donnez-les ou annulez-les d'abord.")
    WALLET_TAKEN = ("wallet_taken", 409,
        "This wallet is another user's already.", "Ce portefeuille est déjà celui d'une autre personne.")
    ACCOUNT_TAKEN = ("account_taken", 409,
        "The account of a new user would be another user's. Only the operators can help. Nothing was done.",
        "Le compte d'une nouvelle personne serait celui d'une autre. Seuls les opérateurs peuvent aider. "
        "Rien n'a été fait.")
    NOT_BOOKED_YET = ("not_booked_yet", 409,
        "These lessons are not in a block yet. Please try again in a moment.",
        "Ces cours ne sont pas encore dans un bloc. Réessayez dans un instant.", "`Retry-After`.")
    WRONG_STATUS = ("wrong_status", 409,
        "The lesson of {date} at {time} is {status:status}; only one that is {allowed:statuses} can be "
        "{act:done}.",
        "Le cours du {date} à {time} est {status:status} ; seul un cours {allowed:statuses} peut être "
        "{act:done}.",
        "No lesson of this batch can be {act:done}.", "Aucun cours de ce lot ne peut être {act:done}.",
        "{count:lessons} already {act:done}.", "{count:lessons} déjà {act:done}.",
        "`bookingId`, `lessonStatus`.")
    TOO_EARLY = ("too_early", 409,
        "The lesson of {date} at {time} can be {act:done} from {since:utc} on.",
        "Le cours du {date} à {time} peut être {act:done} à partir de {since:utc}.", "`bookingId`, `from`.")
    TOO_LATE = ("too_late", 409,
        "The lesson of {date} at {time} could be {act:done} until {until:utc}.",
        "Le cours du {date} à {time} pouvait être {act:done} jusqu'à {until:utc}.", "`bookingId`, `until`.")
    NO_OFFER = ("no_offer", 409,
        "The other party does not offer exactly this split of these lessons.",
        "L'autre partie ne propose pas exactement ce partage de ces cours.")
    NO_CREDIT = ("no_credit", 409,
        "Nothing is kept for your account.", "Rien n'est gardé pour votre compte.")
    NO_ARBITER = ("no_arbiter", 409,
        "This service does not have the arbiter's account: decide it from the console.",
        "Ce service n'a pas le compte de l'arbitre : décidez depuis la console.")
    NOT_PUBLISHED = ("not_published", 409,
        "The tutor has not published this listing yet. Nothing was booked.",
        "Le professeur n'a pas encore publié cette annonce. Rien n'est réservé.")
    RATE_MISMATCH = ("rate_mismatch", 409,
        "The tutor has published {published:edu} an hour, not {rate:edu}. Nothing was booked.",
        "Le professeur a publié {published:edu} de l'heure, et non {rate:edu}. Rien n'est réservé.",
        "The tutor's rate is {rate:edu} an hour now. Please prepare it again.",
        "Le tarif du professeur est maintenant de {rate:edu} de l'heure. Préparez à nouveau la réservation.",
        "The tutor has just changed the rate.", "Le professeur vient de changer son tarif.",
        "The listing's rate is {listing_rate:edu}; change it there first.",
        "Le tarif de l'annonce est de {listing_rate:edu} ; changez-le d'abord là.")
    EXPIRED = ("expired", 409,
        "It could not be sent in time. Please try again.",
        "L'envoi n'a pas pu se faire à temps. Réessayez.")
    FEWER_LESSONS = ("fewer_lessons", 409,
        "There are fewer lessons in this request than minLessons.",
        "Cette demande a moins de cours que minLessons.")
    INVALID_RANGE = ("invalid_range", 409,
        "It must be between 1970 and 9998.", "La date doit être entre 1970 et 9998.",
        "`to` has to be later than `from`, by at most {days} days.",
        "`to` doit suivre `from`, de {days} jours au plus.")
    OWN_LESSONS = ("own_lessons", 409,
        "Nobody books lessons with themselves.", "On ne réserve pas de cours avec soi-même.")
    OTHER_BATCH = ("other_batch", 409,
        "The booking {booking} is of another batch.", "La réservation {booking} est d'un autre lot.")
    WRONG_SIGNER = ("wrong_signer", 409,
        "This is not the signature of {account} for exactly this. Nothing was changed.",
        "Ce n'est pas la signature de {account} pour exactement cela. Rien n'a changé.")
    WALLET_NOT_DEPLOYED = ("wallet_not_deployed", 409,
        "The wallet {account} has no code on this chain yet (ERC-6492), so the contract can't ask it. "
        "Deploy it with a first transaction, and sign again. Nothing was changed.",
        "Le portefeuille {account} n'a pas encore de code sur cette chaîne (ERC-6492) : le contrat ne peut "
        "l'interroger. Déployez-le par une première transaction, puis signez. Rien n'a changé.")
    WRONG_DOMAIN = "wrong_domain", 409, *_NOT_AS_ISSUED, "The message is for another site."
    WRONG_ADDRESS = ("wrong_address", 409, *_NOT_AS_ISSUED, "The message names another wallet.")
    WRONG_NONCE = ("wrong_nonce", 409, *_NOT_AS_ISSUED, "The message was issued at another time.")
    WRONG_MESSAGE = ("wrong_message", 409, *_NOT_AS_ISSUED)
    PERMIT_REQUIRED = ("permit_required", 409,
        "The contract may not take the price yet, so the permit has to be signed too.",
        "Le contrat n'est pas encore autorisé à prélever le prix : signez aussi l'autorisation.")
    REFUSED = ("refused", 409,
        "The lesson of {date} at {time} was refused: {reason}",
        "Le cours du {date} à {time} a été refusé : {reason}",
        "The contract refused it: {reason}", "Le contrat l'a refusé : {reason}",
        "The contract refused it.", "Le contrat l'a refusé.")

    TOO_LARGE = "too_large", 413, "This request is too large.", "Cette requête est trop longue."

    INVALID_REQUEST = ("invalid_request", 422,
        "{field}: {reason}.", "{field} : {reason}.",
        "Lesson {slot}, {field}: {reason}.", "Cours {slot}, {field} : {reason}.",
        "`errors` names each field, with its slot.")
    IDEMPOTENCY_KEY_REUSED = ("idempotency_key_reused", 422,
        "This key was already used for another request.", "Cette clé a déjà servi à une autre requête.")
    INVALID_CURSOR = ("invalid_cursor", 422,
        "This is no cursor that an earlier page gave.", "Ce curseur ne vient d'aucune page précédente.")

    TOO_MANY_REQUESTS = ("too_many_requests", 429,
        "Too many requests. Please try again in {seconds} seconds.",
        "Trop de requêtes. Réessayez dans {seconds} secondes.", "`Retry-After`.")

    INTERNAL_ERROR = ("internal_error", 500,
        "Something went wrong on our side. Ask for the batch before you try again.",
        "Une erreur s'est produite de notre côté. Demandez où en est le lot avant de réessayer.")
    DIRECTORY_INVALID = ("directory_invalid", 502,
        "The user service answered something that can't be read. Nothing was done.",
        "La réponse du service des utilisateurs est illisible. Rien n'a été fait.")
    DIRECTORY_REFUSED = ("directory_refused", 502,
        "The user service answered {reason}: it does not take the token. Nothing was done.",
        "Le service des utilisateurs a répondu {reason} : il n'accepte pas le jeton. Rien n'a été fait.")
    DIRECTORY_UNAVAILABLE = ("directory_unavailable", 503,
        "The user service does not answer just now. Nothing was done; please try again.",
        "Le service des utilisateurs ne répond pas. Rien n'a été fait ; réessayez.")
    KEYS_UNAVAILABLE = ("keys_unavailable", 503,
        "Your session can't be verified just now. Please try again.",
        "Votre session ne peut être vérifiée pour l'instant. Réessayez.")
    SIGNER_UNAVAILABLE = ("signer_unavailable", 503,
        "The account that is kept for you can't sign just now. Nothing was done; please try again.",
        "Le compte tenu pour vous ne peut pas signer pour l'instant. Rien n'a été fait ; réessayez.")
    NODE_UNAVAILABLE = ("node_unavailable", 503,
        "The blockchain node does not answer just now. Nothing was booked; please try again.",
        "Le nœud de la blockchain ne répond pas. Rien n'est réservé ; réessayez.")
    DATABASE_UNAVAILABLE = ("database_unavailable", 503,
        "The service can't store anything just now. Please send the same request again.",
        "Le service ne peut rien enregistrer pour l'instant. Renvoyez la même requête.")
    # fmt: on

    @property
    def is_lesson(self) -> bool:
        """Return True for the reason of one lesson that was not booked: of `failures`."""
        return self.sentences["en"][0][0].islower()

    def templates(self, language: Language = "en") -> list[str]:
        """Return the sentences, with their parameters in braces."""
        said = self.sentences[language]
        return [_ABOUT[language].format(each) for each in said] if self.is_lesson else list(said)

    def template(self, names: Collection[str], language: Language = "en") -> str:
        """Return the sentence that has these parameters. Raises `LookupError` if none has."""
        for template in self.templates(language):
            if placeholders(template) == set(names):
                return template
        raise LookupError(f"{self} says nothing of {', '.join(sorted(names)) or 'nothing'}")

    def sentence(self, in_: Language | None = None, **parameters: Unpack[Parameters]) -> str:
        """Return the sentence with its parameters filled in, in the request's language if none is given."""
        said = in_ or language.get()
        return Words(said).vformat(self.template(parameters.keys(), said), (), parameters)


class Problem(Exception):
    """A refused request: a code for programs, a sentence for people, and perhaps more members and headers."""

    def __init__(
        self,
        code: Code,
        *,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **parameters: Unpack[Parameters],
    ) -> None:
        """Say the code's sentence, unless a message is given that was composed of others."""
        self.code = code
        self.status = code.status
        self.message = code.sentence(**parameters) if message is None else message
        self.details = dict(details or {})
        self.headers = _HEADERS.get(code, {}) | dict(headers or {})
        super().__init__(self.message)

    @classmethod
    def of_field(cls, code: Code, field_name: str, **parameters: Unpack[Parameters]) -> Self:
        """Refuse a request for one of its fields, and name the field."""
        problem = cls(code, **parameters)
        problem.details["errors"] = [{"field": field_name, "slot": None, "message": problem.message}]
        return problem


LESSON_CODES = tuple(code for code in Code if code.is_lesson)
"""The reasons of lessons that were not booked: of `failures`, and of the whole if nothing was."""

SLOT_CODES = {
    SlotCode.IN_PAST: Code.IN_PAST,
    SlotCode.TOO_SOON: Code.TOO_SOON,
    SlotCode.TOO_FAR: Code.TOO_FAR,
    SlotCode.DURATION: Code.INVALID_DURATION,
    SlotCode.TAKEN: Code.TAKEN,
    SlotCode.OVERLAP: Code.OVERLAP,
}
"""The code of each reason that the contract's `check` gives."""

_OF_CONTRACT: dict[type[ContractError], Code] = {
    errors.ERC20InsufficientBalance: Code.INSUFFICIENT_BALANCE,
    errors.ERC20InsufficientAllowance: Code.INSUFFICIENT_ALLOWANCE,
    errors.NotListed: Code.NOT_PUBLISHED,
    errors.OrderExpired: Code.EXPIRED,
    errors.SignatureExpired: Code.EXPIRED,
    errors.NoCredit: Code.NO_CREDIT,
    errors.RateMismatch: Code.RATE_MISMATCH,
    errors.WrongStatus: Code.WRONG_STATUS,
    errors.TooEarly: Code.TOO_EARLY,
    errors.TooLate: Code.TOO_LATE,
    errors.SlotInPast: Code.IN_PAST,
    errors.SlotTooSoon: Code.TOO_SOON,
    errors.SlotTooFar: Code.TOO_FAR,
    errors.SlotDuration: Code.INVALID_DURATION,
    errors.SlotTaken: Code.TAKEN,
    errors.SlotOverlap: Code.OVERLAP,
}


def code_of(error: ContractError | type[ContractError]) -> Code:
    """Return the code of an error of the contract, or of the token behind it."""
    return _OF_CONTRACT.get(error if isinstance(error, type) else type(error), Code.REFUSED)


def placeholders(template: str) -> set[str]:
    """Return the names of a template's parameters."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


_LATER = {"Retry-After": "5"}
_HEADERS: dict[Code, dict[str, str]] = {
    code: {"WWW-Authenticate": 'Bearer error="invalid_token"'} for code in Code if code.status == 401
}
_HEADERS[Code.TOKEN_MISSING] = {"WWW-Authenticate": "Bearer"}  # RFC 6750, 3.1: no error where no token is.
_HEADERS |= {code: _LATER for code in Code if code.status == 503}
_HEADERS[Code.NOT_BOOKED_YET] = {"Retry-After": "2"}

_ABOUT: dict[Language, str] = {
    "en": "The lesson of {{date}} at {{time}} {}.",
    "fr": "Le cours du {{date}} à {{time}} {}.",
}

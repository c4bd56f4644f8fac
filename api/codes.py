"""Every code of a refusal and what it means, for docs/errors.md and the documentation of the routes."""

from creneau import errors
from creneau.errors import ContractError

LESSON = {
    "in_past": "The lesson has begun, or begins within a minute.",
    "outside_schedule": "The tutor gives no lessons at that time.",
    "misaligned": "The lesson does not start on a quarter of an hour.",
    "invalid_duration": "The lesson does not last 15 to 480 minutes, in steps of 15.",
    "overlap": "The lesson overlaps another one of the request.",
    "taken": "The tutor's time is taken.",
    "amount_mismatch": "The amount is not the price: the published rate times the duration.",
    "nonexistent_time": "The clocks skip that hour in that time zone.",
    "ambiguous_time": "That hour comes twice in that time zone.",
}
"""Why one lesson was not booked: of `failures`, and of the whole if nothing was."""

REQUEST: dict[int, dict[str, str]] = {
    400: {"bad_request": "This is no HTTP that can be read."},
    401: {
        "token_missing": "There is no bearer token.",
        "token_expired": "The token has expired.",
        "invalid_token": "The token is not valid, or names no user.",
    },
    403: {
        "not_a_student": "Only a student can book.",
        "unknown_user": "Nobody is known by the id of the token.",
        "not_an_operator": "Only an operator can do this.",
        "not_yours": "One can see one's own bookings only.",
        "not_yours_to_do": "Another party of the lesson, or another tutor, can do this.",
        "metrics_private": "Metrics are for the same machine, or for who shows their token.",
    },
    404: {
        "not_found": "There is nothing at this address.",
        "booking_not_found": "There is no such booking, or it is somebody else's.",
        "user_not_found": "There is no such user.",
        "tutor_not_found": "There is no such tutor.",
        "annonce_not_found": "There is no such annonce.",
        "batch_not_found": "There is no such batch, or it is somebody else's.",
    },
    405: {"method_not_allowed": "The address does not take that method."},
    409: {
        **LESSON,
        "annonce_not_bookable": "The annonce has no rate that can be booked.",
        "insufficient_balance": "The student has less than the price: `neededWei`, `availableWei`.",
        "insufficient_allowance": "The contract may take less of the student's than the price.",
        "signature_required": "The account has a wallet of its own, which has to sign.",
        "custodial_account": "The account is kept here and signs by itself: book without preparing.",
        "already_submitted": "The key's batch was submitted: `batchId`.",
        "prepared_expired": "What was prepared waited too long for its signature.",
        "wallet_changed": "The wallet is not the one that it was prepared for.",
        "no_challenge": "There is no message to sign: ask for one.",
        "challenge_expired": "The message to sign is too old: ask for another.",
        "lessons_ahead": "The account still has lessons ahead.",
        "wallet_taken": "The wallet is another user's.",
        "not_booked_yet": "The batch is not in a block yet. `Retry-After` says when to come again.",
        "wrong_status": "The lesson's status does not allow it.",
        "too_early": "It is too early for it: `from`.",
        "too_late": "It is too late for it: `until`.",
        "no_arbiter": "The shim does not have the arbiter's account.",
        "not_published": "The tutor has not published the annonce.",
        "rate_mismatch": "The tutor has published another rate.",
        "expired": "The order could not be sent in time. Book again.",
        "refused": "The contract refused for another reason, which the message names.",
        "reverted": "The transaction reverted, and the node can't tell why any more.",
    },
    413: {"too_large": "The body is larger than CRENEAU_MAX_BODY_BYTES."},
    422: {
        "invalid_request": "Fields can't be read: `errors` names each, with its slot.",
        "idempotency_key_reused": "The key belongs to another request.",
        "invalid_cursor": "The cursor is none that a list gave.",
        "invalid_range": "The time from and to can't be answered for.",
        "other_batch": "A lesson is not of this batch.",
        "wrong_signer": "The signature is not the wallet's, of what was to be signed.",
        "wrong_domain": "The message to sign is for another site.",
        "wrong_address": "The message to sign names another wallet.",
        "wrong_nonce": "The message to sign was issued for another time.",
        "wrong_message": "The message is not the one that was to be signed.",
        "permit_required": "The allowance is short: sign the permit, too.",
        "tutor_not_found": "There is no such tutor.",
        "annonce_not_found": "The tutor has no such annonce.",
    },
    429: {"too_many_requests": "Too many requests. `Retry-After` says when to come again."},
    500: {"internal_error": "The program is at fault. Ask for the batch before you try again."},
    502: {"directory_invalid": "The user service gave an answer that can't be read."},
    503: {
        "directory_unavailable": "The user service does not answer. Nothing was booked; try again.",
        "keys_unavailable": "The keys to verify tokens with can't be had just now. Try again.",
        "node_unavailable": "The node does not answer. Nothing was booked; try again.",
        "database_unavailable": "Nothing can be stored just now. Send the same request again.",
    },
}
"""Why a request was refused, by status."""

CONTRACT: dict[type[ContractError], str] = {
    errors.ERC20InsufficientBalance: "insufficient_balance",
    errors.ERC20InsufficientAllowance: "insufficient_allowance",
    errors.NotListed: "not_published",
    errors.OrderExpired: "expired",
    errors.OrderExists: "(booked already: the answer is the batch)",
    errors.RateMismatch: "rate_mismatch",
    errors.WrongStatus: "wrong_status",
    errors.TooEarly: "too_early",
    errors.TooLate: "too_late",
    errors.NothingFree: "(the code of each lesson)",
    errors.SlotInPast: "in_past",
    errors.SlotMisaligned: "misaligned",
    errors.SlotDuration: "invalid_duration",
    errors.SlotTaken: "taken",
    errors.SlotOverlap: "overlap",
}
"""What the shim says of the contract's errors. Of any other: refused."""


def of(status: int) -> list[str]:
    """The codes that an answer of this status can have."""
    return list(REQUEST.get(status, {}))


def every() -> list[str]:
    """All of them."""
    return sorted({code for known in REQUEST.values() for code in known})


def _concrete(base: type[ContractError]) -> list[type[ContractError]]:
    below = [leaf for child in base.__subclasses__() for leaf in _concrete(child)]
    return below or [base]


def page() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Made by `make openapi`. Every refusal is `application/problem+json` (RFC 9457) with a stable `code`",
        "for programs and a `message` for people. Lessons that were not booked have a code each, in",
        "`failures`.",
        "",
        "| status | code | means |",
        "| --- | --- | --- |",
    ]
    for status, known in REQUEST.items():
        lines += [f"| {status} | `{code}` | {text} |" for code, text in known.items()]
    lines += ["", "## The contract's errors", ""]
    lines += ["| error | says | the shim's code |", "| --- | --- | --- |"]
    for error in sorted(_concrete(ContractError), key=lambda error: error.__name__):
        code = CONTRACT.get(error, "refused")
        shown = code if code.startswith("(") else f"`{code}`"
        lines.append(f"| `{error.__name__}` | {(error.__doc__ or '').splitlines()[0]} | {shown} |")
    return "\n".join(lines) + "\n"

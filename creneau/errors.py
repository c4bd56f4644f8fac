"""Every way it can fail, as exceptions.

    CreneauError
    ├── UnreadableOrder             an order on chain that names a time after the year 9999
    ├── BatchNotFound
    ├── UnsupportedToken            a deployment's token lacks 18 decimal places, permits, or exact transfers
    ├── ProxyMissing                the network lacks the proxy that contracts are created through
    ├── DeploymentDiffers           the contract on the chain is not the one that was planned
    ├── NotDeployed                 the network has no escrow, or none at the address that was named
    ├── NoAccount                   no account was named that could send, or one that must not
    ├── TransactionFailed           reverted in its block, and the node can't say why any more
    └── ContractError               the contract or the token refused
        ├── NotActor, SignatureExpired, StudentIsTutor, OrderExpired, SlotCount, MinLessons, OrderExists,
        │   NotListed, RateMismatch, TooFewFree, UnknownBatch, NoLessons, ShareTooLarge, ShareNotDefault,
        │   NoCredit, InvalidRecipient, TokenWithoutCode, PeriodOutOfRange, ArbiterRequired,
        │   OwnableInvalidOwner, OwnableUnauthorizedAccount
        ├── SlotError               one slot is at fault
        │   └── SlotInPast, SlotTooSoon, SlotTooFar, SlotDuration, SlotTaken, SlotOverlap
        ├── LessonError             one lesson does not allow the act
        │   └── WrongStatus, TooLate, TooEarly
        ├── TokenError
        │   └── ERC20InsufficientBalance, ERC20InsufficientAllowance, SafeERC20FailedOperation,
        │       ERC20InvalidApprover, ERC20InvalidReceiver, ERC20InvalidSender, ERC20InvalidSpender,
        │       ERC2612ExpiredSignature, ERC2612InvalidSigner, InvalidAccountNonce
        ├── LibraryError            OpenZeppelin's own, which few callers ever meet
        │   └── ECDSAInvalidSignature, ECDSAInvalidSignatureLength, ECDSAInvalidSignatureS,
        │       AddressEmptyCode, FailedCall, InvalidShortString, StringTooLong
        ├── Reverted                Solidity's Error(string)
        ├── Panicked                Solidity's Panic(uint256)
        └── UnknownRevert           anything else

A contract error has the Solidity error's name, and its arguments as attributes in snake case, as the chain
has them: unix seconds, minutes, base units, indexes from zero. Its text is a sentence for people, with dates,
amounts of the token, and slots and lessons counted from one ("the 2nd slot"). Its arguments and its selector
come from the ABI.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from string import Formatter
from typing import Any, ClassVar, TypeVar, dataclass_transform

from eth_abi.exceptions import DecodingError
from eth_utils.abi import get_abi_input_types
from eth_utils.crypto import keccak

from creneau.abi import decode, entries, snake
from creneau.amounts import Token
from creneau.lifecycle import Status
from creneau.types import from_unix, to_address, to_hex


class CreneauError(Exception):
    """The base of all."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks for it. On the console the sentence says all; `%debug` still leads to the place.
        return [f"{type(self).__name__}: {self}"]


class UnreadableOrder(CreneauError):
    """An order on chain names a time that no datetime can tell."""


class BatchNotFound(CreneauError):
    """The contract has no such batch."""


class UnsupportedToken(CreneauError):
    """The token of a deployment is no ERC-20 with 18 decimal places, permits and exact transfers."""


class ProxyMissing(CreneauError):
    """The network has no deterministic deployment proxy."""


class DeploymentDiffers(CreneauError):
    """The contract on the chain is not the one that was planned."""


class NotDeployed(CreneauError):
    """The network has no escrow, or none at the address that was named."""


class NoAccount(CreneauError):
    """No account was named that could send, or one that must not."""


class TransactionFailed(CreneauError):
    """A transaction reverted in its block, and the node can't say why any more."""


@dataclass_transform(eq_default=False)
class ContractError(CreneauError):
    """The contract, or the token behind it, refused.

    The fields of a subclass are the error's arguments in the ABI's order; `sentence` is its text, formatted
    with them, and with amounts of the `currency`.
    """

    sentence: ClassVar[str]
    currency = Token()

    def __init_subclass__(cls) -> None:
        """Make the class a dataclass."""
        dataclass(eq=False)(cls)

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return _Words(self.currency).format(self.sentence, **vars(self))


class _Words(Formatter):
    """Formats a sentence's arguments: the specs are those of `_FORMATS`, "amount", and Python's."""

    def __init__(self, token: Token) -> None:
        self._formats = _FORMATS | {"amount": token.text}

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in self._formats:
            return self._formats[format_spec](value)
        return str(super().format_field(value, format_spec))


def _time(unix: int) -> str:
    try:
        return f"{from_unix(unix):%Y-%m-%d %H:%M:%S} UTC".replace(":00 UTC", " UTC")
    except ValueError:
        return f"unix time {unix}"


def _nth(index: int) -> str:
    number = index + 1
    suffix = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _status(status: int) -> str:
    return Status(status).name.lower() if 0 < status < len(Status) else "not booked"


_FORMATS: dict[str, Callable[[Any], str]] = {
    "time": _time,
    "nth": _nth,
    "status": _status,
    "statuses": lambda bits: " or ".join(_status(bit) for bit in range(bits.bit_length()) if bits >> bit & 1),
    "hex": to_hex,
}


# --- Making them ---

_ABI = entries("EduToken", "error") | entries("BookingEscrow", "error")
_RENAMED = {"str": "text", "from": "from_"}  # A type's name and a keyword in Python.
_Base = TypeVar("_Base", bound=ContractError)


def _error(name: str, base: type[_Base], sentence: str) -> type[_Base]:
    """Return the class of an error in the ABI, with its arguments as fields and the sentence as its text."""
    names = [_RENAMED.get(each["name"], snake(each["name"])) for each in _ABI[name]["inputs"]]
    body = {
        "__annotations__": dict.fromkeys(names, object),
        "__doc__": sentence,
        "__module__": __name__,
        "sentence": sentence,
    }
    return type(name, (base,), body)


# --- The escrow's ---

StudentIsTutor = _error("StudentIsTutor", ContractError, "{account} can't book paid lessons with itself.")
SignatureExpired = _error(
    "SignatureExpired",
    ContractError,
    "The signature counted until {deadline:time}; it is {timestamp:time} now.",
)
OrderExists = _error(
    "OrderExists", ContractError, "This order was already created or revoked, as batch {batch:hex}."
)
MinLessons = _error(
    "MinLessons",
    ContractError,
    "An order asks for at least 1 and at most all of its {max} lessons; this one asks for {actual}.",
)
SlotCount = _error("SlotCount", ContractError, "An order has from 1 to {max} slots; this one has {actual}.")
NotListed = _error("NotListed", ContractError, "The tutor {tutor} does not offer the listing {listing:hex}.")
RateMismatch = _error(
    "RateMismatch",
    ContractError,
    "The tutor's rate is {expected:amount} an hour; the order says {actual:amount}.",
)
TooFewFree = _error(
    "TooFewFree",
    ContractError,
    "Of the order's slots {actual} are free, and it asks for at least {min}.",
)
UnknownBatch = _error(
    "UnknownBatch", ContractError, "There is no batch {batch:hex}: no order with these terms was created."
)
NoLessons = _error("NoLessons", ContractError, "No lesson was named.")
ShareTooLarge = _error(
    "ShareTooLarge", ContractError, "A share has at most {max} basis points; this one has {actual}."
)
ShareNotDefault = _error(
    "ShareNotDefault",
    ContractError,
    "Only the arbiter chooses a share of {actual} basis points; anyone else resolves with {expected}.",
)
NoCredit = _error("NoCredit", ContractError, "{account} has no credit.")
InvalidRecipient = _error(
    "InvalidRecipient", ContractError, "A credit can't be paid to the escrow itself, {to}."
)
PeriodOutOfRange = _error(
    "PeriodOutOfRange",
    ContractError,
    "This period lasts from {min} to {max} seconds; the one given lasts {actual}.",
)
ArbiterRequired = _error(
    "ArbiterRequired",
    ContractError,
    "The arbiter can hand over to another account, but can't leave the place empty.",
)
OwnableInvalidOwner = _error("OwnableInvalidOwner", ContractError, "{owner} can't be the owner.")
OwnableUnauthorizedAccount = _error(
    "OwnableUnauthorizedAccount", ContractError, "Only the owner may do this, and {account} is not."
)


class NotActor(ContractError):
    """`sender` is not `actor`, and the signature given is not the actor's for this action."""

    actor: str
    sender: str
    sentence = "{sender} sent this for {actor} without a valid signature of that account."


class OrderExpired(ContractError):
    """The order could be created until `deadline`, and it is `timestamp` now (unix seconds)."""

    deadline: int
    timestamp: int
    sentence = "The order expired at {deadline:time}; it is {timestamp:time} now."


class TokenWithoutCode(ContractError):
    """The token given to the constructor is an account without code."""

    token: str
    sentence = "There is no token contract at {token}."


class SlotError(ContractError):
    """The slot `index`, from zero, is at fault."""

    index: int


SlotInPast = _error(
    "SlotInPast", SlotError, "The {index:nth} slot is in the past: it starts at {start:time}."
)
SlotTooSoon = _error(
    "SlotTooSoon",
    SlotError,
    "The {index:nth} slot starts at {start:time}; the tutor takes lessons from {earliest:time} on.",
)
SlotTooFar = _error(
    "SlotTooFar",
    SlotError,
    "The {index:nth} slot starts at {start:time}; the tutor takes lessons until {latest:time}.",
)
SlotDuration = _error(
    "SlotDuration",
    SlotError,
    "The {index:nth} slot lasts {duration} minutes; a lesson lasts from {step} to {max}, in steps of {step}.",
)
SlotTaken = _error("SlotTaken", SlotError, "The {index:nth} slot, at {start:time}, is already taken.")
SlotOverlap = _error(
    "SlotOverlap", SlotError, "The {index:nth} slot overlaps the {other:nth} one of the same order."
)


class LessonError(ContractError):
    """The lesson `index`, from zero, does not allow the action."""

    index: int


class WrongStatus(LessonError):
    """Lesson `index` has the status `actual`; the act takes one of the set `allowed`, bit s for status s."""

    actual: int
    allowed: int
    sentence = "The {index:nth} lesson is {actual:status}; for this it must be {allowed:statuses}."


class TooLate(LessonError):
    """For lesson `index` this was possible `until`, and it is `timestamp` now (unix seconds)."""

    until: int
    timestamp: int
    sentence = "For the {index:nth} lesson this was possible until {until:time}; it is {timestamp:time} now."


class TooEarly(LessonError):
    """For lesson `index` this becomes possible at `from_`, and it is `timestamp` now (unix seconds)."""

    from_: int
    timestamp: int
    sentence = "For the {index:nth} lesson this becomes possible at {from_:time}; it is {timestamp:time} now."


# --- The token's, and OpenZeppelin's ---


class TokenError(ContractError):
    """The token refused."""


class LibraryError(ContractError):
    """An error of OpenZeppelin's own."""


ERC20InsufficientBalance = _error(
    "ERC20InsufficientBalance", TokenError, "{sender} has {balance:amount} and needs {needed:amount}."
)
ERC20InsufficientAllowance = _error(
    "ERC20InsufficientAllowance",
    TokenError,
    "{spender} is allowed to take {allowance:amount} and needs {needed:amount}.",
)
SafeERC20FailedOperation = _error(
    "SafeERC20FailedOperation", TokenError, "The token {token} refused the transfer."
)
ERC20InvalidApprover = _error("ERC20InvalidApprover", TokenError, "{approver} can't give an allowance.")
ERC20InvalidReceiver = _error("ERC20InvalidReceiver", TokenError, "{receiver} can't receive the token.")
ERC20InvalidSender = _error("ERC20InvalidSender", TokenError, "{sender} can't send the token.")
ERC20InvalidSpender = _error("ERC20InvalidSpender", TokenError, "{spender} can't be given an allowance.")
ERC2612ExpiredSignature = _error(
    "ERC2612ExpiredSignature", TokenError, "The permit expired at {deadline:time}."
)
ERC2612InvalidSigner = _error(
    "ERC2612InvalidSigner", TokenError, "The permit of {owner} is not signed by that account."
)
InvalidAccountNonce = _error(
    "InvalidAccountNonce", TokenError, "The next permit of {account} must carry the nonce {current_nonce}."
)
ECDSAInvalidSignature = _error("ECDSAInvalidSignature", LibraryError, "The signature is not valid.")
ECDSAInvalidSignatureLength = _error(
    "ECDSAInvalidSignatureLength", LibraryError, "A signature has 65 bytes; this one has {length}."
)
ECDSAInvalidSignatureS = _error(
    "ECDSAInvalidSignatureS", LibraryError, "The signature is malleable: its s is {s:hex}."
)
AddressEmptyCode = _error("AddressEmptyCode", LibraryError, "There is no contract at {target}.")
FailedCall = _error("FailedCall", LibraryError, "A call inside the transaction failed without a reason.")
InvalidShortString = _error(
    "InvalidShortString", LibraryError, "A short string of the contract is not valid."
)
StringTooLong = _error("StringTooLong", LibraryError, "The text is too long for the contract: {text!r}.")


# --- Solidity's ---


class Reverted(ContractError):
    """A contract reverted with the text `reason`."""

    reason: str
    sentence = "The contract refused: {reason}"


class Panicked(ContractError):
    """A contract failed a check of the compiler's, with its `code`."""

    code: int
    sentence = "The contract panicked with code 0x{code:02x}."


class UnknownRevert(ContractError):
    """A call reverted with `data`, which is none of the above; possibly empty."""

    data: bytes
    sentence = "The contract refused without a reason that is known: {data:hex}"


# --- Decoding ---

_BY_SELECTOR: dict[bytes, tuple[type[ContractError], list[str]]] = {
    keccak(text="Error(string)")[:4]: (Reverted, ["string"]),
    keccak(text="Panic(uint256)")[:4]: (Panicked, ["uint256"]),
}
for _name, _entry in _ABI.items():
    _types = get_abi_input_types(_entry)
    _selector = keccak(text=f"{_name}({','.join(_types)})")[:4]
    _BY_SELECTOR[_selector] = globals()[_name], _types


def decode_revert(data: bytes, token: Token | None = None) -> ContractError:
    """Return the exception for the data that a call reverted with; its text names amounts of the token.

    Never raises: data that can't be read is an `UnknownRevert`.
    """
    error = _decoded(data) or UnknownRevert(data)
    if token is not None:
        error.currency = token
    return error


def _decoded(data: bytes) -> ContractError | None:
    if data[:4] not in _BY_SELECTOR:
        return None
    error, types = _BY_SELECTOR[data[:4]]
    try:
        values = decode(types, data[4:])
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return None
    return error(
        *(
            to_address(value) if type_ == "address" else value
            for type_, value in zip(types, values, strict=True)
        )
    )

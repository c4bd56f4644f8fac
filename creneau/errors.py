"""Every way it can fail, as exceptions.

    CreneauError
    ├── UnreadableOrder             an order on chain that names a time after the year 9999
    ├── BatchNotFound
    ├── UnsupportedToken            a deployment's token lacks 18 decimal places, permits, or exact transfers
    ├── ProxyMissing                the network lacks the proxy that contracts are created through
    ├── DeploymentDiffers           what is on the chain is not what was to be deployed
    ├── NotDeployed                 the network has no escrow, or none where it was said to be
    ├── NoAccount                   nobody was named who could send, or somebody who must not
    ├── TransactionFailed           reverted in its block, and the node can't say why any more
    └── ContractError               the contract or the token refused
        ├── NotActor, StudentIsTutor, OrderExpired, SlotCount, OrderExists, NotListed, RateMismatch,
        │   NothingFree, UnknownBatch, NoLessons, ShareTooLarge, TokenWithoutCode, PeriodTooLong,
        │   ArbiterRequired, OwnableInvalidOwner, OwnableUnauthorizedAccount
        ├── SlotError               one slot is at fault
        │   └── SlotInPast, SlotMisaligned, SlotDuration, SlotTaken, SlotOverlap
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
EDU, and slots and lessons counted from one ("the 2nd slot").
"""

# the names are Solidity's

from collections.abc import Callable
from dataclasses import dataclass, fields
from string import Formatter
from typing import Any, ClassVar, TypeVar, dataclass_transform

from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from creneau.amounts import format_edu
from creneau.booking import Status
from creneau.fields import from_unix, to_address, to_hex
from creneau.strict_abi import decode


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
    """What is on the chain is not what was to be deployed."""


class NotDeployed(CreneauError):
    """The network has no escrow, or none where it was said to be."""


class NoAccount(CreneauError):
    """Nobody was named who could send, or somebody who must not."""


class TransactionFailed(CreneauError):
    """A transaction reverted in its block, and the node can't say why any more."""


class ContractError(CreneauError):
    """The contract, or the token behind it, refused."""

    _sentence: ClassVar[str]

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return _Words().format(self._sentence, **vars(self))


_Error = TypeVar("_Error", bound=ContractError)
_by_selector: dict[bytes, tuple[type[ContractError], list[str]]] = {}


@dataclass_transform(eq_default=False)
def _solidity(signature: str, sentence: str) -> Callable[[type[_Error]], type[_Error]]:
    """Makes a class the exception of a Solidity error, its fields the error's arguments in their order."""
    inputs = signature[signature.index("(") + 1 : -1]

    def register(cls: type[_Error]) -> type[_Error]:
        _by_selector[keccak(text=signature)[:4]] = cls, inputs.split(",") if inputs else []
        cls._sentence = sentence
        return dataclass(eq=False)(cls)

    return register


def decode_revert(data: bytes) -> ContractError:
    """The exception for what a call reverted with. Never raises: what it can't read is an `UnknownRevert`."""
    if data[:4] not in _by_selector:
        return UnknownRevert(data)
    cls, types = _by_selector[data[:4]]
    try:
        values = decode(types, data[4:])
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return UnknownRevert(data)
    return cls(
        *(
            to_address(value) if type_ == "address" else value
            for type_, value in zip(types, values, strict=True)
        )
    )


class _Words(Formatter):
    """Formats a sentence's arguments: the specs are those of `_FORMATS`, and Python's."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in _FORMATS:
            return _FORMATS[format_spec](value)
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
    "edu": lambda wei: f"{format_edu(wei)} EDU",
    "nth": _nth,
    "status": _status,
    "statuses": lambda bits: " or ".join(_status(bit) for bit in range(bits.bit_length()) if bits >> bit & 1),
    "hex": to_hex,
}


# --- The escrow's ---


@_solidity(
    "NotActor(address,address)", "{sender} sent this for {actor} without a valid signature of that account."
)
class NotActor(ContractError):
    """`sender` is not `actor`, and the signature given is not the actor's for this act."""

    actor: str
    sender: str


@_solidity("StudentIsTutor(address)", "{account} can't book lessons with itself.")
class StudentIsTutor(ContractError):
    """The student and the tutor of an order are the same account."""

    account: str


@_solidity(
    "OrderExpired(uint256,uint256)", "The order expired at {deadline:time}; it is {timestamp:time} now."
)
class OrderExpired(ContractError):
    """The order could be created until `deadline`, and it is `timestamp` now (unix seconds)."""

    deadline: int
    timestamp: int


@_solidity("SlotCount(uint256,uint256)", "An order has from 1 to {max} slots; this one has {actual}.")
class SlotCount(ContractError):
    """The order has `actual` slots. It must have at least one and at most `max`."""

    actual: int
    max: int


@_solidity("OrderExists(bytes32)", "This order was already created, as batch {batch:hex}.")
class OrderExists(ContractError):
    """The order was already created, as `batch`."""

    batch: bytes


@_solidity("NotListed(address,bytes32)", "The tutor {tutor} does not offer the listing {listing:hex}.")
class NotListed(ContractError):
    """The tutor never published this listing, or withdrew it."""

    tutor: str
    listing: bytes


@_solidity(
    "RateMismatch(uint256,uint256)",
    "The tutor's rate is {expected:edu} an hour; the order says {actual:edu}.",
)
class RateMismatch(ContractError):
    """The order names the rate `actual`, the tutor published `expected` (base units an hour)."""

    actual: int
    expected: int


@_solidity("NothingFree(uint256)", "Every slot is already taken.")
class NothingFree(ContractError):
    """The order allows to leave out slots that were taken, and all of its `slots` slots were."""

    slots: int


@_solidity("UnknownBatch(bytes32)", "There is no batch {batch:hex}: no order with these terms was created.")
class UnknownBatch(ContractError):
    """No batch has these terms: the order given is not, to the letter, one that was created."""

    batch: bytes


@_solidity("NoLessons()", "No lesson was named.")
class NoLessons(ContractError):
    """An act names at least one lesson."""


@_solidity("ShareTooLarge(uint256,uint256)", "A share has at most {max} basis points; this one has {actual}.")
class ShareTooLarge(ContractError):
    """The tutor's share is `actual` basis points, and may be at most `max`."""

    actual: int
    max: int


@_solidity("TokenWithoutCode(address)", "There is no token contract at {token}.")
class TokenWithoutCode(ContractError):
    """The token given to the constructor is an account without code."""

    token: str


@_solidity("PeriodTooLong(uint256,uint256)", "A period lasts at most {max} seconds; this one lasts {actual}.")
class PeriodTooLong(ContractError):
    """A period given to the constructor is `actual` seconds long, and may be at most `max`."""

    actual: int
    max: int


@_solidity(
    "ArbiterRequired()", "The arbiter can hand over to another account, but can't leave the place empty."
)
class ArbiterRequired(ContractError):
    """The arbiter may hand over to another account, but may not leave the place empty."""


@_solidity("OwnableInvalidOwner(address)", "{owner} can't be the owner.")
class OwnableInvalidOwner(ContractError):
    """`owner` can't own a contract, or be its arbiter."""

    owner: str


@_solidity("OwnableUnauthorizedAccount(address)", "Only the owner may do this, and {account} is not.")
class OwnableUnauthorizedAccount(ContractError):
    """`account` is not the owner or arbiter, who alone may do this."""

    account: str


# --- One slot's ---


@dataclass(eq=False)
class SlotError(ContractError):
    """The slot `index`, from zero, is at fault."""

    index: int


@_solidity(
    "SlotInPast(uint256,uint256,uint256)", "The {index:nth} slot is in the past: it starts at {start:time}."
)
class SlotInPast(SlotError):
    """Slot `index` starts at `start`, which is not after the block's `timestamp` (unix seconds)."""

    start: int
    timestamp: int


@_solidity(
    "SlotMisaligned(uint256,uint256,uint256)",
    "The {index:nth} slot starts at {start:time}, which is not on a quarter of an hour.",
)
class SlotMisaligned(SlotError):
    """Slot `index` starts at `start` (unix seconds), which is not a multiple of `step` seconds."""

    start: int
    step: int


@_solidity(
    "SlotDuration(uint256,uint256,uint256,uint256)",
    "The {index:nth} slot lasts {duration} minutes; a lesson lasts from {step} to {max}, in steps of {step}.",
)
class SlotDuration(SlotError):
    """Slot `index` lasts `duration` minutes, which is not a multiple of `step` from `step` to `max`."""

    duration: int
    step: int
    max: int


@_solidity("SlotTaken(uint256,uint256)", "The {index:nth} slot, at {start:time}, is already taken.")
class SlotTaken(SlotError):
    """Slot `index`, at `start` (unix seconds), overlaps a lesson that the tutor already gives."""

    start: int


@_solidity(
    "SlotOverlap(uint256,uint256)", "The {index:nth} slot overlaps the {other:nth} one of the same order."
)
class SlotOverlap(SlotError):
    """Slot `index` overlaps slot `other`, an earlier one of the same order."""

    other: int


# --- One lesson's ---


@dataclass(eq=False)
class LessonError(ContractError):
    """The lesson `index`, from zero, does not allow the act."""

    index: int


@_solidity(
    "WrongStatus(uint256,uint8,uint256)",
    "The {index:nth} lesson is {actual:status}; for this it must be {allowed:statuses}.",
)
class WrongStatus(LessonError):
    """Lesson `index` has the status `actual`; the act takes one of the set `allowed`, bit s for status s."""

    actual: int
    allowed: int


@_solidity(
    "TooLate(uint256,uint256,uint256)",
    "For the {index:nth} lesson this was possible until {until:time}; it is {timestamp:time} now.",
)
class TooLate(LessonError):
    """For lesson `index` this was possible `until`, and it is `timestamp` now (unix seconds)."""

    until: int
    timestamp: int


@_solidity(
    "TooEarly(uint256,uint256,uint256)",
    "For the {index:nth} lesson this becomes possible at {from_:time}; it is {timestamp:time} now.",
)
class TooEarly(LessonError):
    """For lesson `index` this becomes possible at `from_`, and it is `timestamp` now (unix seconds)."""

    from_: int
    timestamp: int


# --- The token's ---


class TokenError(ContractError):
    """The token refused."""


@_solidity(
    "ERC20InsufficientBalance(address,uint256,uint256)", "{sender} has {balance:edu} and needs {needed:edu}."
)
class ERC20InsufficientBalance(TokenError):
    """`sender` has `balance` base units, and `needed` are to be moved."""

    sender: str
    balance: int
    needed: int


@_solidity(
    "ERC20InsufficientAllowance(address,uint256,uint256)",
    "{spender} is allowed to take {allowance:edu} and needs {needed:edu}.",
)
class ERC20InsufficientAllowance(TokenError):
    """`spender` may take `allowance` base units, and `needed` are to be moved."""

    spender: str
    allowance: int
    needed: int


@_solidity("SafeERC20FailedOperation(address)", "The token {token} refused the transfer.")
class SafeERC20FailedOperation(TokenError):
    """The transfer of `token` failed without a reason."""

    token: str


@_solidity("ERC20InvalidApprover(address)", "{approver} can't give an allowance.")
class ERC20InvalidApprover(TokenError):
    """`approver` can't give an allowance."""

    approver: str


@_solidity("ERC20InvalidReceiver(address)", "{receiver} can't receive the token.")
class ERC20InvalidReceiver(TokenError):
    """`receiver` can't receive the token."""

    receiver: str


@_solidity("ERC20InvalidSender(address)", "{sender} can't send the token.")
class ERC20InvalidSender(TokenError):
    """`sender` can't send the token."""

    sender: str


@_solidity("ERC20InvalidSpender(address)", "{spender} can't be given an allowance.")
class ERC20InvalidSpender(TokenError):
    """`spender` can't be given an allowance."""

    spender: str


@_solidity("ERC2612ExpiredSignature(uint256)", "The permit expired at {deadline:time}.")
class ERC2612ExpiredSignature(TokenError):
    """The permit could be used until `deadline` (unix seconds)."""

    deadline: int


@_solidity("ERC2612InvalidSigner(address,address)", "The permit of {owner} is not signed by that account.")
class ERC2612InvalidSigner(TokenError):
    """The permit of `owner` carries a signature of `signer`."""

    signer: str
    owner: str


@_solidity(
    "InvalidAccountNonce(address,uint256)",
    "The next permit of {account} must carry the nonce {current_nonce}.",
)
class InvalidAccountNonce(TokenError):
    """The next permit of `account` must carry the nonce `current_nonce`."""

    account: str
    current_nonce: int


# --- The libraries' ---


class LibraryError(ContractError):
    """OpenZeppelin's own, which few callers ever meet."""


@_solidity("ECDSAInvalidSignature()", "The signature is not valid.")
class ECDSAInvalidSignature(LibraryError):
    """The signature is no point of the curve."""


@_solidity("ECDSAInvalidSignatureLength(uint256)", "A signature has 65 bytes; this one has {length}.")
class ECDSAInvalidSignatureLength(LibraryError):
    """The signature has `length` bytes."""

    length: int


@_solidity("ECDSAInvalidSignatureS(bytes32)", "The signature is malleable: its s is {s:hex}.")
class ECDSAInvalidSignatureS(LibraryError):
    """The signature's `s` is in the upper half of the curve's order."""

    s: bytes


@_solidity("AddressEmptyCode(address)", "There is no contract at {target}.")
class AddressEmptyCode(LibraryError):
    """`target` was called and has no code."""

    target: str


@_solidity("FailedCall()", "A call inside the transaction failed without a reason.")
class FailedCall(LibraryError):
    """A call inside the transaction failed without a reason."""


@_solidity("InvalidShortString()", "A short string of the contract is not valid.")
class InvalidShortString(LibraryError):
    """A constant of the contract is not a short string."""


@_solidity("StringTooLong(string)", "The text is too long for the contract: {text!r}.")
class StringTooLong(LibraryError):
    """A constant of the contract has more than 31 bytes."""

    text: str


# --- Solidity's ---


@_solidity("Error(string)", "The contract refused: {reason}")
class Reverted(ContractError):
    """A contract reverted with the text `reason`."""

    reason: str


@_solidity("Panic(uint256)", "The contract panicked with code 0x{code:02x}.")
class Panicked(ContractError):
    """A contract failed a check of the compiler's, with its `code`."""

    code: int


@dataclass(eq=False)
class UnknownRevert(ContractError):
    """A call reverted with `data`, which is none of the above; possibly empty."""

    data: bytes

    def __str__(self) -> str:
        return f"The contract refused without a reason that is known: {to_hex(self.data)}"

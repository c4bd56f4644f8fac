"""EIP-712 typed data of the escrow and of its token's permits.

`TYPES` is the only place that knows the signed structs: type strings, type hashes, struct hashes and the
dicts for `eth_signTypedData_v4` derive from it. Values are given in the table's order, as the ABI codec takes
them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from eth_utils.crypto import keccak

from creneau.types import to_address, to_bytes32, to_hex

DOMAIN_NAME = "Creneau"
DOMAIN_VERSION = "1"

_LESSONS = {"batch": "bytes32", "lessons": "uint40", "deadline": "uint40"}

TYPES: dict[str, dict[str, str]] = {
    "EIP712Domain": {
        "name": "string",
        "version": "string",
        "chainId": "uint256",
        "verifyingContract": "address",
    },
    "Order": {
        "student": "address",
        "tutor": "address",
        "listing": "bytes32",
        "hourlyRate": "uint96",
        "minLessons": "uint8",
        "deadline": "uint40",
        "salt": "bytes32",
        "slots": "Slot[]",
    },
    "Slot": {"start": "uint40", "duration": "uint16"},
    "Listing": {
        "tutor": "address",
        "listing": "bytes32",
        "hourlyRate": "uint96",
        "instant": "bool",
        "minNotice": "uint32",
        "horizon": "uint32",
        "nonce": "uint64",
        "deadline": "uint40",
    },
    "Confirm": _LESSONS,
    "Cancel": _LESSONS,
    "Complete": _LESSONS,
    "Dispute": _LESSONS,
    "Settle": {"batch": "bytes32", "lessons": "uint40", "tutorShareBps": "uint16", "deadline": "uint40"},
    "Revoke": {"batch": "bytes32", "deadline": "uint40"},
    "Withdraw": {"account": "address", "to": "address", "deadline": "uint40"},
    "Permit": {
        "owner": "address",
        "spender": "address",
        "value": "uint256",
        "nonce": "uint256",
        "deadline": "uint256",
    },
}
"""The fields of each struct and their types, in the signed order. An array is of structs."""

SignedAction = Literal["Confirm", "Cancel", "Complete", "Dispute"]


# --- Domains ---


class Domain(NamedTuple):
    """The EIP-712 domain of one escrow: name `Creneau`, version `1`, and these."""

    chain_id: int
    contract: str

    @property
    def separator(self) -> bytes:
        """The domain's hash. Raises `ValueError` if the contract is not an address."""
        return _separator(DOMAIN_NAME, DOMAIN_VERSION, self.chain_id, self.contract)

    def typed_data(self) -> dict[str, Any]:
        """Return the `domain` of a typed data message."""
        return _domain(DOMAIN_NAME, DOMAIN_VERSION, self.chain_id, self.contract)

    def digest(self, struct_hash: bytes) -> bytes:
        """Return the hash that is signed for a struct in this domain."""
        return keccak(b"\x19\x01" + self.separator + struct_hash)


@lru_cache(maxsize=64)
def _separator(name: str, version: str, chain_id: int, contract: str) -> bytes:
    return hash_struct("EIP712Domain", (name, version, chain_id, to_address(contract)))


def _domain(*values: Any) -> dict[str, Any]:
    return dict(zip(TYPES["EIP712Domain"], values, strict=True))  # A chain's id stays a number.


# --- Messages ---


def order_typed_data(domain: Domain, order: Sequence[Any]) -> dict[str, Any]:
    """Return the message that a student signs to have lessons booked, from the order's signed values.

    JSON-ready for `eth_signTypedData_v4`, like every message here: integers of more than 64 bits are text,
    because JavaScript would round them.
    """
    return _typed_data(domain.typed_data(), "Order", order)


def listing_typed_data(
    domain: Domain,
    tutor: str,
    listing: bytes,
    hourly_rate_wei: int,
    instant: bool,
    min_notice: int,
    horizon: int,
    nonce: int,
    deadline: int,
) -> dict[str, Any]:
    """Return the message that a tutor signs to have a listing published.

    `min_notice` and `horizon` are in seconds, `deadline` is in unix seconds; `nonce` is the listing's present
    one.
    """
    terms = (hourly_rate_wei, instant, min_notice, horizon, nonce, deadline)
    return _typed_data(domain.typed_data(), "Listing", (to_address(tutor), to_bytes32(listing), *terms))


def action_typed_data(
    domain: Domain, action: SignedAction, batch: bytes, lessons: int, deadline: int
) -> dict[str, Any]:
    """Return the message that an actor signs to have lessons of a batch confirmed, cancelled, and so on.

    `lessons` is their set, bit i standing for the order's slot i. The signature counts until `deadline`, in
    unix seconds, like those below.
    """
    return _typed_data(domain.typed_data(), action, (to_bytes32(batch), lessons, deadline))


def settle_typed_data(
    domain: Domain, batch: bytes, lessons: int, tutor_share_bps: int, deadline: int
) -> dict[str, Any]:
    """Return the message that a student and a tutor sign to split the money of lessons as they agree.

    The tutor's share is in basis points.
    """
    return _typed_data(domain.typed_data(), "Settle", (to_bytes32(batch), lessons, tutor_share_bps, deadline))


def revoke_typed_data(domain: Domain, batch: bytes, deadline: int) -> dict[str, Any]:
    """Return the message that a student signs to have an order taken back before it is created."""
    return _typed_data(domain.typed_data(), "Revoke", (to_bytes32(batch), deadline))


def withdraw_typed_data(domain: Domain, account: str, to: str, deadline: int) -> dict[str, Any]:
    """Return the message that an account signs to have its credit paid to `to`."""
    return _typed_data(domain.typed_data(), "Withdraw", (to_address(account), to_address(to), deadline))


def permit_typed_data(
    token_name: str,
    token_version: str,
    chain_id: int,
    token: str,
    owner: str,
    spender: str,
    value: int,
    nonce: int,
    deadline: int,
) -> dict[str, Any]:
    """Return the message that a student signs to allow `spender` to take `value` base units (EIP-2612).

    The token takes the permit until `deadline`, in unix seconds; `nonce` is the owner's present one.
    """
    domain = _domain(token_name, token_version, chain_id, to_address(token))
    return _typed_data(domain, "Permit", (to_address(owner), to_address(spender), value, nonce, deadline))


def _typed_data(domain: dict[str, Any], primary_type: str, values: Sequence[Any]) -> dict[str, Any]:
    names = ("EIP712Domain", primary_type, *_references(primary_type))
    return {
        "types": {
            name: [{"name": field, "type": type_} for field, type_ in TYPES[name].items()] for name in names
        },
        "primaryType": primary_type,
        "domain": domain,
        "message": _message(primary_type, values),
    }


def _message(struct: str, values: Sequence[Any]) -> dict[str, Any]:
    fields = TYPES[struct].items()
    return {name: _json(type_, value) for (name, type_), value in zip(fields, values, strict=True)}


def _json(type_: str, value: Any) -> Any:
    if type_.endswith("[]"):
        return [_message(type_[:-2], item) for item in value]
    if type_ == "bytes32":
        return to_hex(value)
    if type_ in {"uint96", "uint256"}:
        return str(value)
    return value


# --- Hashes ---


def digest(message: Mapping[str, Any]) -> bytes:
    """Return the hash that is signed for a message that one of the functions above returned."""
    return keccak(preimage(message))


def preimage(message: Mapping[str, Any]) -> bytes:
    """Return the 66 bytes whose hash is signed for such a message, for signers that hash themselves."""
    struct_hash = hash_struct(message["primaryType"], _values(message["primaryType"], message["message"]))
    return b"\x19\x01" + _separator(*message["domain"].values()) + struct_hash


def _values(struct: str, message: Mapping[str, Any]) -> list[Any]:
    return [_value(type_, message[name]) for name, type_ in TYPES[struct].items()]


def _value(type_: str, value: Any) -> Any:
    if type_.endswith("[]"):
        return [_values(type_[:-2], item) for item in value]
    return bytes.fromhex(value[2:]) if type_ == "bytes32" else value


def type_string(struct: str) -> str:
    """Return EIP-712's `encodeType` of a struct: its fields, then the structs that it refers to."""
    return "".join(
        f"{name}({','.join(f'{type_} {field}' for field, type_ in TYPES[name].items())})"
        for name in (struct, *_references(struct))
    )


@cache
def type_hash(struct: str) -> bytes:
    """Return the hash of the struct's type string."""
    return keccak(text=type_string(struct))


def hash_struct(struct: str, values: Sequence[Any]) -> bytes:
    """Return EIP-712's `hashStruct` of values in the table's order.

    Hashes directly: eth_account's general encoding of an order takes several times as long.
    """
    words = (encode(value) for encode, value in zip(_encoders(struct), values, strict=True))
    return keccak(type_hash(struct) + b"".join(words))


@cache
def _encoders(struct: str) -> list[Callable[[Any], bytes]]:
    return [_encoder(type_) for type_ in TYPES[struct].values()]


def _encoder(type_: str) -> Callable[[Any], bytes]:
    if type_.endswith("[]"):
        return lambda items: keccak(b"".join(hash_struct(type_[:-2], item) for item in items))
    match type_:
        case "address":
            return lambda address: bytes(12) + bytes.fromhex(address[2:])
        case "string":
            return lambda text: keccak(text=text)
        case "bytes32":
            return bytes
    return lambda number: int(number).to_bytes(32, "big")


def _references(struct: str) -> list[str]:
    """Return the structs that a struct's arrays are made of, sorted as EIP-712 wants them."""
    return sorted({type_[:-2] for type_ in TYPES[struct].values() if type_.endswith("[]")})

"""EIP-712 written out by hand, so that the contract's hashes are compared with others than its own."""

from collections.abc import Callable
from functools import cache
from typing import Any

from coincurve import PrivateKey
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from fuzz.model import Listing, Order

_DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_SLOT = "Slot(uint40 start,uint16 duration)"
_ORDER = (
    "Order(address student,address tutor,bytes32 listing,uint96 hourlyRate,uint8 minLessons,uint40 deadline,"
    "bytes32 salt,Slot[] slots)"
)
_LISTING = (
    "Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint32 minNotice,uint32 horizon,"
    "uint64 nonce,uint40 deadline)"
)
_PERMIT = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"

Digest = Callable[..., bytes]


class Domain:
    """The digests of one contract on one chain."""

    def __init__(self, name: str, chain_id: int, contract: str) -> None:
        values = (keccak(text=_DOMAIN), keccak(text=name), keccak(text="1"), chain_id, contract)
        self._separator = keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], values))
        self.order = cache(self._order)

    def _order(self, order: Order) -> bytes:
        return self._digest(struct_of(order))

    def listing(self, tutor: str, listing: bytes, offer: Listing, deadline: int) -> bytes:
        """Of an offer with its publications so far, which are the nonce."""
        types = "address,bytes32,uint96,bool,uint32,uint32,uint64,uint40"
        return self._digest(_struct(_LISTING, types, (tutor, listing, *offer, deadline)))

    def act(self, act: str, order: Order, lessons: int, deadline: int) -> bytes:
        """Of confirm, cancel, complete, dispute."""
        name = f"{act.capitalize()}(bytes32 batch,uint40 lessons,uint40 deadline)"
        return self._digest(_struct(name, "bytes32,uint40,uint40", (batch_of(order), lessons, deadline)))

    def settle(self, order: Order, lessons: int, share: int, deadline: int) -> bytes:
        name = "Settle(bytes32 batch,uint40 lessons,uint16 tutorShareBps,uint40 deadline)"
        values = (batch_of(order), lessons, share, deadline)
        return self._digest(_struct(name, "bytes32,uint40,uint16,uint40", values))

    def revoke(self, order: Order, deadline: int) -> bytes:
        values = (batch_of(order), deadline)
        return self._digest(_struct("Revoke(bytes32 batch,uint40 deadline)", "bytes32,uint40", values))

    def withdraw(self, account: str, to: str, deadline: int) -> bytes:
        name = "Withdraw(address account,address to,uint40 deadline)"
        return self._digest(_struct(name, "address,address,uint40", (account, to, deadline)))

    def permit(self, owner: str, spender: str, value: int, nonce: int, deadline: int) -> bytes:
        """Of the token."""
        values = (owner, spender, value, nonce, deadline)
        return self._digest(_struct(_PERMIT, "address,address,uint256,uint256,uint256", values))

    def _digest(self, struct: bytes) -> bytes:
        return keccak(b"\x19\x01" + self._separator + struct)


@cache
def struct_of(order: Order) -> bytes:
    """EIP-712's struct hash of an order."""
    slots = b"".join(_struct(_SLOT, "uint40,uint16", slot) for slot in order.slots)
    types = "address,address,bytes32,uint96,uint8,uint40,bytes32,bytes32"
    return _struct(_ORDER + _SLOT, types, (*order[:7], keccak(slots)))


def batch_of(order: Order) -> bytes:
    """The key of an order's batch, on every chain."""
    return struct_of(order)[:31] + b"\0"


def sign(key: bytes, digest: bytes) -> bytes:
    """The 65 bytes r, s, v of a signature."""
    signature = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def _struct(definition: str, types: str, values: tuple[Any, ...]) -> bytes:
    return keccak(keccak(text=definition) + encode(types.split(","), values))

"""The contract as the shim uses it: all that decides about a request in one round trip, and signed calls."""

from dataclasses import dataclass
from typing import Any

from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from sqlalchemy import Row

from api.custody import Custodian
from api.node import Call, Node, NodeUnavailable, RpcError, eth_call
from api.slots import order_slots
from creneau import codec
from creneau.amounts import from_wei
from creneau.booking import Listing, SlotCode
from creneau.fields import from_unix, to_address
from creneau.order import Domain, Order, Permit, Slot, listing_typed_data, permit_typed_data

UNLIMITED = 2**256 - 1


class WrongChain(Exception):
    """The node, or the contract, is not the one that the settings name."""


@dataclass(frozen=True)
class Facts:
    """The chain's view of an order, in its latest block."""

    codes: list[SlotCode]
    listing: Listing
    balance: int
    allowance: int
    permit_nonce: int | None  # None: the token knows no permits.
    timestamp: int


class Chain:
    """One escrow and its token, on one node."""

    def __init__(self, node: Node, chain_id: int, escrow: str) -> None:
        """Raises `WrongChain` unless the node serves that chain and the escrow is there."""
        self.node = node
        self.escrow = escrow
        self.domain = Domain(chain_id, escrow)
        actual, code = node.batch([("eth_chainId", []), ("eth_getCode", [escrow, "latest"])])
        if isinstance(actual, RpcError) or int(actual, 16) != chain_id:
            raise WrongChain(f"the node serves chain {actual}, not {chain_id}")
        if isinstance(code, RpcError) or code == "0x":
            raise WrongChain(f"chain {chain_id} has no contract at {escrow}")
        try:
            [token] = codec.decode_result(
                "BookingEscrow", "token", self._view(escrow, "BookingEscrow", "token")
            )
        except (RpcError, ValueError):
            raise WrongChain(f"the contract at {escrow} is no BookingEscrow") from None
        self.token = to_address(token)
        self._token_name, self._token_version = self._token_domain()

    def check(self, order: Order) -> Call:
        """The call that says what would become of each slot."""
        return eth_call(self.escrow, codec.check_data(order))

    def listing(self, tutor: str, listing: bytes) -> Call:
        """The call that says what the tutor published."""
        return eth_call(self.escrow, codec.listings_data(tutor, listing))

    def facts(self, order: Order) -> Facts:
        """Everything that decides about an order. Only its slots, tutor, listing and student matter here."""
        block, codes, listing, balance, allowance, permit_nonce = self.node.batch(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                self.check(order),
                self.listing(order.tutor, order.listing),
                eth_call(self.token, codec.balance_of_data(order.student)),
                eth_call(self.token, codec.allowance_data(order.student, self.escrow)),
                eth_call(self.token, codec.nonces_data(order.student)),
            ]
        )
        for result in (block, codes, listing, balance, allowance):
            if isinstance(result, RpcError):
                raise NodeUnavailable(result.message)
        known = not isinstance(permit_nonce, RpcError) and len(permit_nonce) == 66
        return Facts(
            codes=codec.decode_check(unhex(codes))[0],
            listing=codec.decode_listing(unhex(listing)),
            balance=codec.decode_uint(unhex(balance)),
            allowance=codec.decode_uint(unhex(allowance)),
            permit_nonce=codec.decode_uint(unhex(permit_nonce)) if known and self._token_name else None,
            timestamp=int(block["timestamp"], 16),
        )

    def create_call(self, order: Order, custodian: Custodian, index: int, facts: Facts) -> bytes:
        """The signed `createBookings` of a custodial student, with a permit if his allowance is short.

        The permit is for a standing allowance: the escrow can only pull what an order signed by the student
        says, and exact permits would make parallel batches of one student clash on the permit's nonce.
        """
        permit = None
        total = sum(order.amounts_wei)
        if facts.allowance < total and facts.permit_nonce is not None:
            deadline = int(order.deadline.timestamp())
            message = permit_typed_data(
                self._token_name,
                self._token_version,
                self.domain.chain_id,
                self.token,
                order.student,
                self.escrow,
                UNLIMITED,
                facts.permit_nonce,
                deadline,
            )
            permit = Permit.from_signature(UNLIMITED, deadline, custodian.sign(index, _digest(message)))
        return codec.create_bookings_data(order, custodian.sign(index, order.digest(self.domain)), permit)

    def publish_call(self, order: Order, custodian: Custodian, index: int, listing: Listing) -> bytes:
        """The signed `publish` of a custodial tutor that puts the order's rate in force."""
        message = listing_typed_data(
            self.domain, order.tutor, order.listing, order.hourly_rate_wei, listing.instant, listing.nonce
        )
        signature = custodian.sign(index, _digest(message))
        return codec.publish_data(
            order.tutor, order.listing, order.hourly_rate_wei, listing.instant, signature
        )

    def _token_domain(self) -> tuple[str, str]:
        """Name and version of the token's EIP-712 domain; empty if it has none, and so knows no permits."""
        try:
            data = self._view(self.token, "EduToken", "eip712Domain")
            _, name, version, *_ = codec.decode_result("EduToken", "eip712Domain", data)
        except (RpcError, ValueError):
            return "", ""
        return name, version

    def _view(self, address: str, contract: codec.ContractName, function: str) -> bytes:
        method, params = eth_call(address, codec.call_data(contract, function))
        return unhex(self.node.call(method, *params))


def order_of(row: Row[Any]) -> Order:
    """The order of a batch's row."""
    return Order(
        student=row.student,
        tutor=row.tutor,
        listing=row.listing,
        hourly_rate=from_wei(row.hourly_rate),
        allow_partial=row.allow_partial,
        deadline=from_unix(row.deadline),
        salt=row.salt,
        slots=tuple(Slot.of(*slot) for slot in order_slots(row.lessons)),
    )


def unhex(text: str) -> bytes:
    """The bytes of 0x hex."""
    return bytes.fromhex(text[2:])


def _digest(message: dict[str, object]) -> bytes:
    signable = encode_typed_data(full_message=message)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)

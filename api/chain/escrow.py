"""The contract: a snapshot of all that decides about a request in one round trip, and signed calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from api.chain import signatures
from api.chain.rpc import Call, Head, Node, NodeUnavailable, RpcError, eth_call
from api.chain.signers import Signer
from api.settings import Settings
from creneau import abi
from creneau.amounts import Token
from creneau.booking import Listing
from creneau.lifecycle import Periods
from creneau.order import Order, Permit, SlotCode
from creneau.typed_data import Domain, listing_typed_data, permit_typed_data
from creneau.types import to_address, to_bytes32, to_hex, to_unix

UNLIMITED = 2**256 - 1


class WrongChain(Exception):
    """The node, or the contract, is not the one that the settings name."""


@dataclass(frozen=True)
class ChainSnapshot:
    """The chain's view of an order, in its latest block."""

    codes: list[SlotCode]
    listing: Listing
    balance: int
    allowance: int
    permit_nonce: int | None  # None: the token knows no permits.
    timestamp: int
    signature: bytes | None = None  # The student's, if one was given and is theirs.


class Chain:
    """One escrow and its token, on one node."""

    def __init__(self, node: Node, chain_id: int, escrow: str) -> None:
        """Check the node. Raises `WrongChain` unless it serves that chain and the escrow is there."""
        self.node = node
        self.escrow = escrow
        self.domain = Domain(chain_id, escrow)
        actual, code = node.call_many([("eth_chainId", []), ("eth_getCode", [escrow, "latest"])])
        if isinstance(actual, RpcError) or int(actual, 16) != chain_id:
            raise WrongChain(f"the node serves chain {actual}, not {chain_id}")
        if isinstance(code, RpcError) or code == "0x":
            raise WrongChain(f"chain {chain_id} has no contract at {escrow}")
        try:
            [token] = abi.decode_result(
                "BookingEscrow", "token", self._view(escrow, "BookingEscrow", "token")
            )
        except (RpcError, ValueError):
            raise WrongChain(f"the contract at {escrow} is no BookingEscrow") from None
        self.token = to_address(token)
        self._token_name, self._token_version = self._token_domain()
        self.currency = self._currency()
        self.periods = Periods(
            *(
                timedelta(seconds=abi.decode_uint(self._view(escrow, "BookingEscrow", name)))
                for name in ("cancelWindow", "reviewPeriod", "arbitrationPeriod")
            )
        )

        share = self._view(escrow, "BookingEscrow", "defaultTutorShareBps")
        self.default_tutor_share_bps = abi.decode_uint(share)

    def read(self, data: bytes) -> bytes:
        """Return the result of a view of the escrow. Raises `NodeUnavailable` for any error."""
        [answer] = self.node.call_many([eth_call(self.escrow, data)])
        if isinstance(answer, RpcError):
            raise NodeUnavailable(answer.message)
        return unhex(answer)

    def check(self, terms: tuple[Any, ...]) -> Call:
        """Return the call that checks each slot of an order, which is in the form of the ABI."""
        return eth_call(self.escrow, abi.call_data("BookingEscrow", "check", terms))

    def listing(self, tutor: str, listing: bytes, block: str = "latest") -> Call:
        """Return the call for a listing as the tutor published it."""
        method, [call, _] = eth_call(self.escrow, abi.listings_data(tutor, listing))
        return method, [call, block]

    def transaction(self, sender: str, data: bytes) -> dict[str, str]:
        """Return a transaction to the escrow, for the node to try."""
        return {"from": sender, "to": self.escrow, "data": to_hex(data)}

    def snapshot(
        self, terms: tuple[Any, ...], digest: bytes = bytes(32), signature: bytes | None = None
    ) -> ChainSnapshot:
        """Return all that decides about an order in the form of the ABI, in one round trip.

        With a signature, return also if it is the student's of the digest, and if the account takes permits.
        """
        student, tutor, key = terms[:3]
        block, codes, listing, balance, allowance, permit_nonce, *wallet = self.node.call_many(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                self.check(terms),
                self.listing(tutor, key),
                eth_call(self.token, abi.balance_of_data(student)),
                eth_call(self.token, abi.allowance_data(student, self.escrow)),
                eth_call(self.token, abi.nonces_data(student)),
                *([] if signature is None else signatures.calls(student, digest, signature)),
            ]
        )
        for result in (block, codes, listing, balance, allowance):
            if isinstance(result, RpcError):
                raise NodeUnavailable(result.message)
        known = not isinstance(permit_nonce, RpcError) and len(permit_nonce) == 66
        if signature is not None:
            known = known and signatures.has_key(wallet[0])
            signature = signatures.judge(student, digest, signature, *wallet)
        return ChainSnapshot(
            codes=abi.decode_check(unhex(codes))[0],
            listing=abi.decode_listing(unhex(listing)),
            balance=abi.decode_uint(unhex(balance)),
            allowance=abi.decode_uint(unhex(allowance)),
            permit_nonce=abi.decode_uint(unhex(permit_nonce)) if known and self._token_name else None,
            timestamp=int(block["timestamp"], 16),
            signature=signature,
        )

    def batch(self, batch_id: str, block: str = "latest") -> Call:
        """Return the call for a batch as the contract has it."""
        method, [call, _] = eth_call(self.escrow, abi.batches_data(to_bytes32(batch_id)))
        return method, [call, block]

    def created(self, orders: Sequence[Order]) -> Order | None:
        """Return the one of these orders that was created."""
        answers = self.node.call_many([self.batch(to_hex(each.batch_id)) for each in orders])
        for order, answer in zip(orders, answers, strict=True):
            if not isinstance(answer, RpcError) and abi.decode_batch(unhex(answer)).created_at:
                return order
        return None

    def create_call(self, order: Order, signer: Signer, snapshot: ChainSnapshot) -> bytes:
        """Return a custodial student's signed `createBookings`, with a permit if the allowance is short.

        The permit is for a standing allowance: the escrow can only pull what an order signed by the student
        says, and exact permits would make parallel batches of one student clash on the permit's nonce.
        """
        permit = None
        total = sum(order.amounts_wei)
        if snapshot.allowance < total and snapshot.permit_nonce is not None:
            deadline = to_unix(order.deadline)
            message = self.permit_message(order, UNLIMITED, snapshot.permit_nonce)
            permit = Permit.from_signature(UNLIMITED, deadline, signer.sign_typed_data(message))
        signature = signer.sign_typed_data(order.typed_data(self.domain))
        return abi.create_bookings_data(order, signature, permit)

    def permit_message(self, order: Order, value: int, nonce: int) -> dict[str, Any]:
        """Return the permit for the student to sign: `value` base units, until the order's deadline."""
        return permit_typed_data(
            self._token_name,
            self._token_version,
            self.domain.chain_id,
            self.token,
            order.student,
            self.escrow,
            value,
            nonce,
            to_unix(order.deadline),
        )

    def publish_call(self, order: Order, signer: Signer, listing: Listing) -> bytes:
        """Return a custodial tutor's signed `publish`, which puts the order's rate in force.

        The listing's other terms stay. The signature counts as long as the order's.
        """
        deadline = to_unix(order.deadline)
        terms = order.tutor, order.listing, order.hourly_rate_wei, *listing.rules
        message = listing_typed_data(self.domain, *terms, listing.nonce, deadline)
        return abi.publish_data(*terms, deadline, signer.sign_typed_data(message))

    def _token_domain(self) -> tuple[str, str]:
        """Return name and version of the token's EIP-712 domain; empty if the token knows no permits."""
        try:
            data = self._view(self.token, "EduToken", "eip712Domain")
            _, name, version, *_ = abi.decode_result("EduToken", "eip712Domain", data)
        except (RpcError, ValueError):
            return "", ""
        return name, version

    def _currency(self) -> Token:
        """Return the token's symbol and decimal places, without a symbol if it names none (EIP-20)."""
        try:
            [symbol], [decimals] = (
                abi.decode_result("EduToken", name, self._view(self.token, "EduToken", name))
                for name in ("symbol", "decimals")
            )
        except (RpcError, ValueError):
            return Token()
        return Token(symbol, decimals)

    def _view(self, address: str, contract: abi.ContractName, function: str) -> bytes:
        method, params = eth_call(address, abi.call_data(contract, function))
        return unhex(self.node.call(method, *params))


def connect(settings: Settings) -> Chain:
    """Return the contract of the settings. Raises `ValueError` or `WrongChain` if there is none."""
    if settings.escrow is None:
        raise ValueError("CRENEAU_ESCROW must be the contract's address")
    return Chain(
        Node(settings.rpc_url, timeout=settings.rpc_timeout_seconds), settings.chain_id, settings.escrow
    )


def final_block(node: Node, settings: Settings, head: Head) -> int:
    """Return the number of the newest block that is final."""
    if settings.finality == "finalized":
        [block] = node.call_many([("eth_getBlockByNumber", ["finalized", False])])
        if isinstance(block, dict):
            return int(block["number"], 16)
    return max(head.number - settings.confirmations, 0)


def unhex(text: str) -> bytes:
    """Return the bytes of 0x hex."""
    return bytes.fromhex(text[2:])

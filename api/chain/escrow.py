"""The contract: a snapshot of all that decides about a request in one round trip, and signed calls."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from api.chain import signatures
from api.chain.rpc import Call, Head, Node, NodeBehind, NodeUnavailable, RpcError, eth_call
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

_HEADS = 64  # Blocks that are known to be of the chain.
_NODES = 20  # Of a pool that are asked, until one has the newest block.


class WrongChain(Exception):
    """The node, or the contract, is not the one that the settings name."""


class OtherChain(NodeUnavailable):
    """The node serves another chain than at the start, with the same id: it was begun anew."""


@dataclass(frozen=True)
class ChainSnapshot:
    """The chain's view of an order, in one block."""

    head: Head  # The block.
    codes: list[SlotCode]
    listing: Listing
    balance: int
    allowance: int
    permit_nonce: int | None  # None: the token knows no permits.
    signature: bytes | None = None  # The student's, if one was given and is theirs.


class Chain:
    """One escrow and its token, on one node."""

    def __init__(self, node: Node, chain_id: int, escrow: str, deployment_block: int) -> None:
        """Check the node. Raises `WrongChain` unless it serves that chain and the escrow is there."""
        self.node = node
        self.escrow = escrow
        self._deployed = hex(deployment_block), False
        self._checked: deque[str] = deque(maxlen=_HEADS)
        self.domain = Domain(chain_id, escrow)
        actual, code, latest, deployed = node.call_many(
            [
                ("eth_chainId", []),
                ("eth_getCode", [escrow, "latest"]),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getBlockByNumber", [*self._deployed]),
            ]
        )
        if isinstance(actual, RpcError) or int(actual, 16) != chain_id:
            raise WrongChain(f"the node serves chain {actual}, not {chain_id}")
        if isinstance(code, RpcError) or code == "0x":
            raise WrongChain(f"chain {chain_id} has no contract at {escrow}")
        if not isinstance(latest, dict) or "baseFeePerGas" not in latest:
            raise WrongChain(
                f"the blocks of chain {chain_id} have no base fee (EIP-1559), and transactions need it"
            )
        if not isinstance(deployed, dict):
            raise WrongChain(
                f"chain {chain_id} has no block {deployment_block}, where the contract was deployed"
            )
        self._anchor = str(deployed["hash"])
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

    @property
    def anchor(self) -> str:
        """Number and hash of the deployment's block: by them a chain is known again that has the same id."""
        return f"{int(self._deployed[0], 16)} {self._anchor}"

    def has(self, anchor: str) -> bool:
        """Return True if the block of an `anchor` is this chain's. Raises `NodeUnavailable`."""
        number, _, block_hash = anchor.partition(" ")
        block = self.node.call("eth_getBlockByNumber", hex(int(number)), False)
        return block is not None and block["hash"] == block_hash

    def head(self, within: float = 0) -> Head:
        """Return the newest block, as `Node.head` does. Raises `NodeUnavailable` if it is another chain's."""
        head = self.node.head(within)
        answered = self.node.answered or head
        if answered.hash not in self._checked:
            if answered.parent_hash not in self._checked:
                deployed = self.node.call("eth_getBlockByNumber", *self._deployed)
                if deployed is None:
                    raise NodeBehind("a node without the block of the deployment")
                if deployed["hash"] != self._anchor:
                    raise OtherChain("the node serves another chain with the same id")
            self._checked.append(answered.hash)
        return head

    def read(self, data: bytes) -> bytes:
        """Return the result of a view of the escrow. Raises `NodeUnavailable` for any error."""
        [answer] = self.node.call_many([eth_call(self.escrow, data)])
        return told(answer)

    def check(self, terms: tuple[Any, ...]) -> Call:
        """Return the call that checks each slot of an order, which is in the form of the ABI."""
        return eth_call(self.escrow, abi.call_data("BookingEscrow", "check", terms))

    def listing(self, tutor: str, listing: bytes) -> Call:
        """Return the call for a listing as the tutor published it."""
        return eth_call(self.escrow, abi.listings_data(tutor, listing))

    def permits(self, student: str) -> list[Call]:
        """Return the calls for the student's allowance and the nonce of the student's next permit."""
        return [
            eth_call(self.token, abi.allowance_data(student, self.escrow)),
            eth_call(self.token, abi.nonces_data(student)),
        ]

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
        block, codes, listing, balance, allowance, permit_nonce, *wallet = self._current(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                self.check(terms),
                self.listing(tutor, key),
                eth_call(self.token, abi.balance_of_data(student)),
                *self.permits(student),
                *([] if signature is None else signatures.calls(student, digest, signature)),
            ]
        )
        answers = [told(result) for result in (codes, listing, balance, allowance)]
        allowed, permit = self.decode_permits(allowance, permit_nonce)
        if signature is not None:
            permit = permit if signatures.has_key(wallet[0]) else None
            signature = signatures.judge(student, digest, signature, *wallet)
        return ChainSnapshot(
            head=Head.from_rpc(block),
            codes=abi.decode_check(answers[0])[0],
            listing=abi.decode_listing(answers[1]),
            balance=abi.decode_uint(answers[2]),
            allowance=allowed,
            permit_nonce=permit,
            signature=signature,
        )

    def _current(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of calls, the first of which is for the latest block, from a node that has it.

        Raises `NodeUnavailable` if none has: a node of a pool may be behind the newest block that was seen.
        """
        for _ in range(_NODES):
            block, *results = self.node.call_many(calls)
            if isinstance(block, RpcError):
                raise NodeUnavailable(block.message)
            head = Head.from_rpc(block)
            if self.node.see(head) == head:
                return [block, *results]
        raise NodeBehind("a node behind the newest block")

    def decode_permits(self, allowance: str | RpcError, nonce: str | RpcError) -> tuple[int, int | None]:
        """Return the allowance in base units, and the next permit's nonce; None: the token has no permits.

        Raises `NodeUnavailable` where the node fails, which says nothing of the token.
        """
        if isinstance(nonce, RpcError) and not nonce.is_revert:
            raise NodeUnavailable(nonce.message)
        known = not isinstance(nonce, RpcError) and len(nonce) == 66 and self._token_name
        return abi.decode_uint(told(allowance)), abi.decode_uint(unhex(str(nonce))) if known else None

    def batch(self, batch_id: str) -> Call:
        """Return the call for a batch as the contract has it."""
        return eth_call(self.escrow, abi.batches_data(to_bytes32(batch_id)))

    def creation(self, batch_id: str, transaction_hash: str) -> bytes | None:
        """Return the signed call by which a transaction to the contract created a batch, if it did."""
        [sent] = self.node.call_many([("eth_getTransactionByHash", [transaction_hash])])
        if not isinstance(sent, dict) or str(sent.get("to")).lower() != self.escrow.lower():
            return None
        return abi.creation_in(unhex(sent["input"]), to_bytes32(batch_id))

    def create_call(self, order: Order, signer: Signer, allowance: int, permit_nonce: int | None) -> bytes:
        """Return a custodial student's signed `createBookings`, with a permit if the allowance is short.

        The permit is for a standing allowance: the escrow can only pull what an order signed by the student
        says, and exact permits would make parallel batches of one student clash on the permit's nonce.
        """
        permit = None
        total = sum(order.amounts_wei)
        if allowance < total and permit_nonce is not None:
            deadline = to_unix(order.deadline)
            message = self.permit_message(order, UNLIMITED, permit_nonce)
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
    node = Node(settings.rpc_url, timeout=settings.rpc_timeout_seconds)
    return Chain(node, settings.chain_id, settings.escrow, settings.deployment_block)


def final_block(node: Node, settings: Settings, head: Head) -> int:
    """Return the number of the newest block that is final; 0 if the node does not say which one is."""
    if settings.finality == "confirmations":
        return max(head.number - settings.confirmations, 0)
    [block] = node.call_many([("eth_getBlockByNumber", ["finalized", False])])
    return int(block["number"], 16) if isinstance(block, dict) else 0


def knows_finality(node: Node) -> bool:
    """Return True if the node has a block that it calls `finalized`."""
    [block] = node.call_many([("eth_getBlockByNumber", ["finalized", False])])
    return isinstance(block, dict)


def told(result: Any) -> bytes:
    """Return a contract's answer. Raises `NodeUnavailable` for an error, or a node without the contract."""
    if isinstance(result, RpcError):
        raise NodeUnavailable(result.message)
    if result == "0x":
        raise NodeUnavailable("a node that does not have the contract")
    return unhex(result)


def unhex(text: str) -> bytes:
    """Return the bytes of 0x hex."""
    return bytes.fromhex(text[2:])

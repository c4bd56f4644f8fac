"""Calls that carry a signature: actions and publications. Who signs, and one submission for each."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from eth_utils.crypto import keccak
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from api.chain import signatures
from api.chain.escrow import Chain
from api.chain.rpc import NodeUnavailable, RpcError, eth_call
from api.chain.signers import Custodian
from api.db import repository
from api.db.store import Store
from api.errors import Code, Problem
from api.outbox.models import Submission, TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory
from creneau import typed_data
from creneau.errors import ContractError, decode_revert
from creneau.types import to_hex


class SignedCalls:
    """Puts calls that carry a signature into the outbox."""

    def __init__(
        self, store: Store, chain: Chain, directory: Directory, custodian: Custodian, seconds: int
    ) -> None:
        """Take the `seconds` that a signature counts; a call in no block by then came to nothing."""
        self._seconds = seconds
        self._store = store
        self._chain = chain
        self._directory = directory
        self._custodian = custodian

    def find(self, what: str) -> tuple[str, Submission | None]:
        """Return the submission's id, and the submission unless it is still to be made.

        A failed submission is kept; a retry gets a new id.
        """
        attempt = 0
        while True:
            submission_id = to_hex(keccak(text=f"{what}:{attempt}"))
            known = self.submission(submission_id)
            if known is None or not known.failed:
                return submission_id, known
            attempt += 1

    def submission(self, submission_id: str) -> Submission | None:
        """Return a submission by its id."""
        with self._store.read() as db:
            return repository.submission(db, submission_id)

    def deadline(self) -> int:
        """Return until when a signature that is made now counts: some minutes, in unix seconds."""
        return max(self._chain.node.head().timestamp, int(time.time())) + self._seconds

    def signature(self, user_id: str, account: str, message: dict[str, Any], given: bytes | None) -> bytes:
        """Return the account's signature: the one that is given, or the custodian's for its accounts.

        Raises `Problem` if the signature is not the account's, or a wallet has to sign.
        """
        if given is not None:
            digest = typed_data.digest(message)
            answers = self._chain.node.call_many(signatures.calls(account, digest, given))
            judged = signatures.judge(account, digest, given, *answers)
            if judged is None:
                raise signatures.refused("signature", account, given)
            return judged
        user = self._directory.user(user_id)
        kept = None if user is None else user.kept_account  # For earlier orders also when it is not in force.
        if kept is None or (signer := self._custodian.signer(kept)).address != account:
            raise Problem(Code.SIGNATURE_REQUIRED)
        return signer.sign_typed_data(message)

    def refusal(self, sender: str, call: bytes) -> ContractError | None:
        """Return the contract's error if it would refuse the call now."""
        [answer] = self._chain.node.call_many([eth_call(self._chain.escrow, call, sender)])
        if not isinstance(answer, RpcError):
            return None
        if not answer.is_revert:
            raise NodeUnavailable(answer.message)
        return decode_revert(answer.data or b"", self._chain.currency)

    def add(
        self,
        sender: Sender,
        kind: TransactionKind,
        submission_id: str,
        call: bytes,
        locks: Mapping[str, int],
        request_id: str,
        expires: int | None = None,
        beside: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Put a call into the outbox, unless another request does so at the same time.

        `beside` stores what belongs to it in the same transaction.
        """
        head = self._chain.node.head()
        submission = Submission(
            id=submission_id,
            kind=kind,
            request_id=request_id,
            call=call,
            locks=locks,
            expires=self.deadline() if expires is None else expires,
            seen_block=head.number,
            chain_id=self._chain.domain.chain_id,
        )
        try:
            with self._store.write() as db:
                repository.add(db, submission)
                beside(db)
        except IntegrityError:
            return
        sender.accepted(submission_id)

"""What acts and publications have in common: who signs, what the contract would say, one send for each."""

from collections.abc import Mapping
from typing import Any

from eth_utils.crypto import keccak
from sqlalchemy.exc import IntegrityError

from api.chain import signatures
from api.chain.escrow import Chain, typed_digest
from api.chain.rpc import NodeUnavailable, RpcError, eth_call
from api.chain.signers import Custodian
from api.db import repository
from api.db.store import Store
from api.errors import Code, Problem
from api.outbox.models import Submission, TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory
from creneau.errors import ContractError, decode_revert
from creneau.types import to_hex


class SignedCalls:
    """Takes calls that carry a signature."""

    def __init__(self, store: Store, chain: Chain, directory: Directory, custodian: Custodian) -> None:
        self._store = store
        self._chain = chain
        self._directory = directory
        self._custodian = custodian

    def find(self, what: str) -> tuple[str, Submission | None]:
        """The send that this is, and its row unless it is still to be made.

        One that came to nothing is left alone, and what it was for can be sent anew.
        """
        attempt = 0
        while True:
            submission_id = to_hex(keccak(text=f"{what}:{attempt}"))
            with self._store.read() as db:
                submission = repository.submission(db, submission_id)
            if submission is None or not submission.failed:
                return submission_id, submission
            attempt += 1

    def signature(self, user_id: str, account: str, typed_data: dict[str, Any], given: bytes | None) -> bytes:
        """The account's signature: the one that is given, or the custodian's if it keeps this account."""
        if given is not None:
            digest = typed_digest(typed_data)
            asked = self._chain.node.call_many(signatures.calls(account, digest, given))
            judged = signatures.judge(account, digest, given, *asked)
            if judged is None:
                raise Problem.of_field(Code.WRONG_SIGNER, "signature", account=account)
            return judged
        user = self._directory.user(user_id)
        index = None if user is None else user.kept_index  # For former orders also when it is not in force.
        if index is None or self._custodian.address(index) != account:
            raise Problem(Code.SIGNATURE_REQUIRED)
        return self._custodian.sign(index, typed_digest(typed_data))

    def refusal(self, sender: str, call: bytes) -> ContractError | None:
        """Why the contract would refuse it now, if it would."""
        [answer] = self._chain.node.call_many([eth_call(self._chain.escrow, call, sender)])
        if not isinstance(answer, RpcError):
            return None
        if not answer.is_revert:
            raise NodeUnavailable(answer.message)
        return decode_revert(answer.data or b"", self._chain.currency)

    def enqueue(
        self,
        relayer: Sender,
        kind: TransactionKind,
        submission_id: str,
        call: bytes,
        locks: Mapping[str, int],
        request_id: str,
    ) -> None:
        """Puts it into the outbox, unless that was done at the same time."""
        chain_id = self._chain.domain.chain_id
        try:
            with self._store.write() as db:
                submission = Submission(
                    id=submission_id,
                    kind=kind,
                    request_id=request_id,
                    call=call,
                    locks=locks,
                    chain_id=chain_id,
                )
                repository.add(db, submission)
        except IntegrityError:
            return
        relayer.accepted(submission_id)

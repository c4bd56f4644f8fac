"""Credits: payments that the token refused, which the escrow keeps for their account until it withdraws."""

from typing import Any

from api.booking.models import Withdrawal
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain
from api.errors import Code, Problem
from api.outbox.models import TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory, User
from creneau import abi
from creneau.typed_data import withdraw_typed_data


class Credits:
    """Shows credits, and puts their withdrawals into the outbox."""

    def __init__(self, chain: Chain, directory: Directory, signed_calls: SignedCalls, sender: Sender) -> None:
        self._chain = chain
        self._directory = directory
        self._signed_calls = signed_calls
        self._sender = sender

    def credit(self, user_id: str) -> int:
        """Return the credit, in base units, of the user's account in force. Raises `Problem`."""
        return self._of(self._user(user_id))

    def withdrawal(self, user_id: str, to: str) -> Withdrawal:
        """Return the withdrawal of the user's whole credit. Raises `Problem` if there is none."""
        user = self._user(user_id)
        if not (amount := self._of(user)):
            raise Problem(Code.NO_CREDIT)
        return Withdrawal(user_id, user.wallet, amount, to)

    def typed_data(self, withdrawal: Withdrawal, deadline: int | None = None) -> dict[str, Any]:
        """Return what the account signs: until that deadline, or for some minutes."""
        until = self._signed_calls.deadline() if deadline is None else deadline
        return withdraw_typed_data(self._chain.domain, withdrawal.account, withdrawal.to, until)

    def withdraw(
        self, withdrawal: Withdrawal, signature: bytes | None, deadline: int | None, request_id: str
    ) -> str:
        """Put a withdrawal into the outbox, once while it is under way. Return its id. Raises `Problem`."""
        account, to = withdrawal.account, withdrawal.to
        head = self._chain.node.head()
        submission_id, known = self._signed_calls.find(
            f"withdraw:{account}:{to}:{withdrawal.amount}:{head.hash}"
        )
        if known is not None:
            return submission_id
        typed_data = self.typed_data(withdrawal, deadline)
        until = typed_data["message"]["deadline"]
        signed = self._signed_calls.signature(withdrawal.user_id, account, typed_data, signature)
        call = abi.withdraw_data(account, to, until, signed)
        if error := self._signed_calls.refusal(self._sender.address, call):
            raise Problem(Code.REFUSED, reason=str(error))
        locks = {f"credit/{account}": 1}
        kind = TransactionKind.ACT
        self._signed_calls.add(self._sender, kind, submission_id, call, locks, request_id, until)
        return submission_id

    def _of(self, user: User) -> int:
        return abi.decode_uint(self._chain.read(abi.call_data("BookingEscrow", "credits", user.wallet)))

    def _user(self, user_id: str) -> User:
        user = self._directory.user(user_id)
        if user is None:
            raise Problem(Code.UNKNOWN_USER)
        return user

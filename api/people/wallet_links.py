"""Links of wallets to users: a wallet signs that it is the user's (EIP-4361, Sign-In with Ethereum).

The message is composed here and has to come back to the letter, so nothing that a client wrote is ever
parsed. Orders name the account that made them, and go on with that account.
"""

import secrets
from itertools import zip_longest
from urllib.parse import urlsplit

from eth_account.messages import encode_defunct
from sqlalchemy.exc import IntegrityError

from api.chain import signatures
from api.chain.escrow import Chain
from api.db import bookings, challenges
from api.db.challenges import Challenge
from api.db.store import Store
from api.db.tables import now
from api.errors import Code, Problem
from api.people.directory import Directory, TableDirectory, User
from api.settings import Settings
from api.words import rfc3339

_LIFETIME_SECONDS = 600
_SECOND = 1_000_000
_CODES = {0: Code.WRONG_DOMAIN, 1: Code.WRONG_ADDRESS, 8: Code.WRONG_NONCE}  # By the line that differs.


class WalletLinks:
    """Challenges, and the links that signed ones make."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        chain: Chain,
        directory: Directory,
        accounts: TableDirectory,
    ) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._directory = directory
        self._accounts = accounts

    def user(self, user_id: str) -> User:
        """Return the user, with the account in force. Raises `Problem` if nobody is known by the id."""
        user = self._directory.user(user_id)
        if user is None:
            raise Problem(Code.UNKNOWN_USER)
        return user

    def challenge(self, user_id: str, wallet: str) -> Challenge:
        """Return a message for the wallet to sign, in place of any that the user asked for before."""
        self.user(user_id)
        moment, nonce = now() // _SECOND * _SECOND, secrets.token_hex(16)
        expires = moment + _LIFETIME_SECONDS * _SECOND
        origin = self._settings.origin
        message = (
            f"{urlsplit(origin).netloc} wants you to sign in with your Ethereum account:\n"
            f"{wallet}\n\n"
            f"Link this wallet to the account {user_id} of Creneau.\n\n"
            f"URI: {origin}\n"
            "Version: 1\n"
            f"Chain ID: {self._settings.chain_id}\n"
            f"Nonce: {nonce}\n"
            f"Issued At: {rfc3339(moment)}\n"
            f"Expiration Time: {rfc3339(expires)}"
        )
        challenge = Challenge(nonce, user_id, wallet, message, expires)
        with self._store.write() as db:
            challenges.replace(db, challenge)
        return challenge

    def link(self, user_id: str, message: str, signature: bytes) -> User:
        """Put the wallet that signed in force. Raises `Problem`, and then nothing has changed."""
        user = self.user(user_id)
        with self._store.read() as db:
            issued = challenges.challenge(db, user_id)
        if issued is None:
            raise Problem(Code.NO_CHALLENGE)
        if issued.expires_at <= now():
            raise Problem(Code.CHALLENGE_EXPIRED)
        if message != issued.message:
            raise _differs(message, issued.message)
        digest = signatures.digest(encode_defunct(text=message))
        answers = self._chain.node.call_many(signatures.calls(issued.wallet, digest, signature))
        if signatures.judge(issued.wallet, digest, signature, *answers) is None:
            raise signatures.refused("signature", issued.wallet, signature)
        return self._change(user, issued.wallet, issued.nonce)

    def unlink(self, user_id: str) -> User:
        """Put the user's custodial account in force, which may still have money of theirs."""
        user = self.user(user_id)
        return user if user.custodial_account is not None else self._change(user, None)

    def _change(self, user: User, wallet: str | None, nonce: str | None = None) -> User:
        try:
            with self._store.write() as db:
                if nonce is not None and not challenges.use(db, nonce):
                    raise Problem(Code.NO_CHALLENGE)
                # A tutor's calendar is the account's: in a new one, the times of lessons ahead would be free.
                moves = wallet != user.wallet
                if moves and bookings.has_lessons_ahead(db, user.wallet, now() // _SECOND):
                    raise Problem(Code.LESSONS_AHEAD)
                self._accounts.set_wallet(db, user, wallet)
        except IntegrityError:
            raise Problem(Code.WALLET_TAKEN) from None
        return self.user(user.id)


def _differs(message: str, issued: str) -> Problem:
    """Return the refusal of a message that is not as it was issued, with its first other line's number."""
    lines = zip_longest(message.split("\n"), issued.split("\n"))
    place = next(place for place, (given, right) in enumerate(lines) if given != right)
    return Problem.of_field(_CODES.get(place, Code.WRONG_MESSAGE), "message", line=place + 1)

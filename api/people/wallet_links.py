"""Linking a wallet to a user: the wallet signs that it belongs to him (EIP-4361, Sign-In with Ethereum).

The message is composed here and has to come back to the letter, so nothing that a client wrote is ever
parsed. Orders that were made name the account that made them, and go on with that one.
"""

import secrets
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit

from eth_account.messages import encode_defunct
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from api.chain import signatures
from api.chain.escrow import Chain
from api.db.store import Store
from api.db.tables import bookings, challenges, now
from api.errors import Code, Problem
from api.people.directory import Directory, TableDirectory, User
from api.schemas.build import rfc3339
from api.settings import Settings

_LIFETIME_SECONDS = 600
_SECOND = 1_000_000
_AHEAD = ("PENDING", "CONFIRMED")
_CODES = {0: Code.WRONG_DOMAIN, 1: Code.WRONG_ADDRESS, 8: Code.WRONG_NONCE}  # By the line that differs.


class WalletLinks:
    """Challenges, and what their answers change."""

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

    def wallet(self, user_id: str) -> dict[str, Any]:
        """The account in force."""
        return _answer(self._user(user_id))

    def challenge(self, user_id: str, wallet: str) -> dict[str, Any]:
        """A message for the wallet to sign, in place of any that the user asked for before."""
        self._user(user_id)
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
        row = {"nonce": nonce, "user_id": user_id, "wallet": wallet, "message": message}
        with self._store.write() as db:
            db.execute(delete(challenges).where(challenges.c.user_id == user_id))
            db.execute(insert(challenges), row | {"expires_at": expires})
        data = {"message": message, "nonce": nonce, "expiresAt": rfc3339(expires)}
        return {"success": True, "message": "Sign this message with the wallet.", "data": data}

    def link(self, user_id: str, message: str, signature: bytes) -> dict[str, Any]:
        """Puts the wallet that signed in force. Raises `Problem`, and then nothing has changed."""
        user = self._user(user_id)
        newest = select(challenges).where(challenges.c.user_id == user_id)
        with self._store.read() as db:
            row = db.execute(newest.order_by(challenges.c.expires_at.desc()).limit(1)).one_or_none()
        if row is None:
            raise Problem(Code.NO_CHALLENGE)
        if row.expires_at <= now():
            raise Problem(Code.CHALLENGE_EXPIRED)
        if message != row.message:
            raise _differs(message, row.message)
        digest = signatures.digest(encode_defunct(text=message))
        calls = signatures.calls(row.wallet, digest, signature)
        if signatures.judge(row.wallet, digest, signature, *self._chain.node.call_many(calls)) is None:
            raise Problem.of_field(Code.WRONG_SIGNER, "signature", account=row.wallet)
        return self._change(user, row.wallet, row.nonce)

    def unlink(self, user_id: str) -> dict[str, Any]:
        """Puts the account that is kept for the user in force, which may still have money of his."""
        user = self._user(user_id)
        return _answer(user) if user.custody_index is not None else self._change(user, None)

    def _change(self, user: User, wallet: str | None, nonce: str | None = None) -> dict[str, Any]:
        # A tutor's calendar is his account's: in a new one, the lessons he has yet to give would be free.
        live = (bookings.c.tutor == user.wallet) & bookings.c.status.in_(_AHEAD)
        ahead = live & (bookings.c.start + bookings.c.minutes * 60 > now() // _SECOND)
        try:
            with self._store.write() as db:
                used = nonce and db.execute(delete(challenges).where(challenges.c.nonce == nonce)).rowcount
                if nonce and not used:
                    raise Problem(Code.NO_CHALLENGE)
                if wallet != user.wallet and db.execute(select(bookings.c.id).where(ahead).limit(1)).first():
                    raise Problem(Code.LESSONS_AHEAD)
                self._accounts.set_wallet(db, user, wallet)
        except IntegrityError:
            raise Problem(Code.WALLET_TAKEN) from None
        return _answer(self._user(user.id))

    def _user(self, user_id: str) -> User:
        user = self._directory.user(user_id)
        if user is None:
            raise Problem(Code.UNKNOWN_USER)
        return user


def _answer(user: User) -> dict[str, Any]:
    custodial = user.custody_index is not None
    message = "This account is kept for you." if custodial else "This wallet is your own."
    return {"success": True, "message": message, "data": {"address": user.wallet, "custodial": custodial}}


def _differs(message: str, issued: str) -> Problem:
    """Which line is not the one that was issued."""
    lines = zip_longest(message.split("\n"), issued.split("\n"))
    place = next(place for place, (given, right) in enumerate(lines) if given != right)
    return Problem.of_field(_CODES.get(place, Code.WRONG_MESSAGE), "message", line=place + 1)

"""A remote signer: keys that another service has, which signs over HTTP as Web3Signer does.

    GET  /api/v1/eth1/publicKeys          ["0x<128 hex digits>", …]
    POST /api/v1/eth1/sign/{public key}   {"data": "0x…"}: the signature of its hash (Keccak-256), as 0x and
                                          130 hex digits r, s, v; 404 if it does not have the key

The service gets what is signed, and hashes it itself. No signature is taken that is not the account's, by the
key that is recovered from it.
"""

import asyncio
import re
import time
from collections.abc import Collection, Sequence
from typing import Any

import httpx
import structlog
from eth_utils.crypto import keccak
from pydantic_core import from_json

from api.chain import signatures
from api.errors import Code, Problem
from api.http_client import HttpClient, OddAnswer
from api.settings import Settings
from creneau.types import to_address, to_hex

log = structlog.get_logger()

_MOST_BYTES = 4 * 1024 * 1024  # Of an answer: 30,000 public keys.
_AT_ONCE = 16  # Signatures that are asked for.
_ATTEMPTS = 2  # The service may have closed a kept connection.
_REST_SECONDS = 5.0  # After a time-out nobody waits for the service for so long.
_KEYS, _SIGN = "/api/v1/eth1/publicKeys", "/api/v1/eth1/sign/"
_PUBLIC_KEY, _SIGNATURE = re.compile(r"0x[0-9a-fA-F]{128}"), re.compile(rb"0x[0-9a-fA-F]{130}")


class SignerUnavailable(Problem):
    """The remote signer does not sign just now. The log has the reason."""

    def __init__(self) -> None:
        super().__init__(Code.SIGNER_UNAVAILABLE)


class RemoteKeys:
    """The keys of a remote signer, which is asked nothing before a signature is wanted; threads share them.

    All state is of the client's own thread.
    """

    def __init__(self, settings: Settings) -> None:
        self._http = HttpClient(settings.signer, settings.signer_timeout_seconds, _MOST_BYTES, {})
        self._identifiers: dict[str, str] = {}  # The public keys, by address.
        self._listing, self._places = asyncio.Lock(), asyncio.Semaphore(_AT_ONCE)
        self._rests_until = 0.0

    def sign(self, address: str, messages: Sequence[bytes]) -> list[bytes]:
        """Return an account's signatures (65 bytes r, s, v) of the hashes of as many of the first as it can.

        Raises `SignerUnavailable` if it can't sign the first.
        """
        answers = self._http.run(self._sign_all(address, messages))
        signed: list[bytes] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, OddAnswer):
                    raise answer
                log.warning("the remote signer does not sign", account=address, reason=str(answer))
                break
            signed.append(answer)
        if answers and not signed:
            raise SignerUnavailable
        return signed

    def missing(self, addresses: Collection[str]) -> list[str]:
        """Return those of these accounts whose keys the service does not have. Raises `SignerUnavailable`."""
        try:
            known = self._http.run(self._list()) if addresses else {}
        except OddAnswer as error:
            log.warning("the remote signer does not sign", reason=str(error))
            raise SignerUnavailable from None
        return [each for each in addresses if each not in known]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    async def _sign_all(self, address: str, messages: Sequence[bytes]) -> list[bytes | BaseException]:
        until = time.monotonic() + self._http.seconds
        tasks = (self._sign(address, message, until) for message in messages)
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def _sign(self, address: str, message: bytes, until: float) -> bytes:
        """Return a signature that is asked for until then, by the monotonic clock. Raises `OddAnswer`."""
        async with self._listing:
            if address not in self._identifiers:
                self._identifiers = await self._list()
        async with self._places:
            if time.monotonic() > until:
                raise OddAnswer("others take all the time")
            if (identifier := self._identifiers.get(address)) is None:
                raise OddAnswer("it does not have the key")
            status, body = await self._ask("POST", _SIGN + identifier, {"data": to_hex(message)})
        if status == 404:
            self._identifiers.pop(address, None)
            raise OddAnswer("it does not have the key any more")
        if status != 200:
            raise OddAnswer(f"status {status}")
        if not _SIGNATURE.fullmatch(body.strip()):
            raise OddAnswer("no signature")
        given = bytes.fromhex(body.strip()[2:].decode())
        signature = signatures.by_key(address, keccak(message), given)
        if signature is None:
            raise OddAnswer("the signature is not the account's")
        return signature

    async def _list(self) -> dict[str, str]:
        """Return the public keys by address."""
        status, body = await self._ask("GET", _KEYS)
        if status != 200:
            raise OddAnswer(f"status {status}")
        try:
            keys = from_json(body)
        except ValueError:
            keys = None
        if not isinstance(keys, list):
            raise OddAnswer("no list of keys")
        found = (each for each in keys if isinstance(each, str) and _PUBLIC_KEY.fullmatch(each))
        return {to_address(keccak(bytes.fromhex(key[2:]))[12:]): key for key in found}

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Return status and body. Raises `OddAnswer` if the service is away, slow, or to be left alone."""
        clock = time.monotonic()
        if clock < self._rests_until:
            raise OddAnswer("no answer in time, a moment ago")
        if self._rests_until:
            self._rests_until = clock + self._http.seconds  # The first one after a rest tries alone.
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._http.ask(method, path, json=body)
            except TimeoutError:
                self._rests_until = time.monotonic() + _REST_SECONDS
                raise OddAnswer("no answer in time") from None
            except httpx.TransportError as error:
                reason = type(error).__name__  # Not its text, which may name the address.
            except OddAnswer:
                self._rests_until = 0.0
                raise
            else:
                self._rests_until = 0.0
                return answer
        self._rests_until = 0.0
        raise OddAnswer(reason)

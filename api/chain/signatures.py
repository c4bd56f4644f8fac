"""Signatures of wallets, judged as the contract judges them.

One of the account's key counts, whatever code the account has (EIP-7702): ECDSA, 65 bytes r, s, v with the
lower s. The short form of EIP-2098 is not taken, because the contract does not take it. Else an account with
code judges its own signatures (ERC-1271), which may have any form.
"""

from typing import Any

from coincurve import PublicKey
from eth_abi.abi import encode
from eth_account.messages import SignableMessage
from eth_utils.crypto import keccak

from api.chain.rpc import Call, NodeUnavailable, RpcError, eth_call
from api.errors import Code, Problem
from creneau.types import to_address

_IS_VALID_SIGNATURE = bytes.fromhex("1626ba7e")
_VALID = _IS_VALID_SIGNATURE + bytes(28)
_HIGHEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PARITY = {0: 0, 1: 1, 27: 0, 28: 1}
_COUNTERFACTUAL = b"\x64\x92" * 16  # ERC-6492: the end of a signature of a wallet that is not deployed.
_DELEGATED = "0xef0100"  # EIP-7702: an account with a key, and code.


def digest(message: SignableMessage) -> bytes:
    """Return the hash that is signed for a message (EIP-191, EIP-712)."""
    return keccak(b"\x19" + message.version + message.header + message.body)


def calls(signer: str, digest: bytes, signature: bytes) -> list[Call]:
    """Return the calls to the node whose answers `judge` needs."""
    asks = _IS_VALID_SIGNATURE + encode(["bytes32", "bytes"], [digest, signature])
    return [("eth_getCode", [signer, "latest"]), eth_call(signer, asks)]


def judge(signer: str, digest: bytes, signature: bytes, code: Any, said: Any) -> bytes | None:
    """Return the signature as the contract takes it, or None if it is not the signer's.

    `code` and `said` are the node's answers to `calls`. Raises `NodeUnavailable` if they are none.
    """
    if isinstance(code, RpcError):
        raise NodeUnavailable(code.message)
    signed = by_key(signer, digest, signature)
    if signed is not None or code == "0x":
        return signed
    if isinstance(said, RpcError):
        if not said.is_revert:
            raise NodeUnavailable(said.message)
        return None
    return signature if bytes.fromhex(said[2:])[:32] == _VALID else None


def by_key(signer: str, digest: bytes, signature: bytes) -> bytes | None:
    """Return the same for ECDSA alone. A wallet's v of 0 or 1 becomes 27 or 28, which the contract takes."""
    if len(signature) != 65:
        return None
    r_s, v = signature[:64], _PARITY.get(signature[64])
    if v is None or int.from_bytes(r_s[32:]) > _HIGHEST_S:
        return None
    try:
        key = PublicKey.from_signature_and_message(r_s + bytes([v]), digest, hasher=None)
    except ValueError:
        return None
    recovered = to_address(keccak(key.format(compressed=False)[1:])[12:])
    return r_s + bytes([27 + v]) if recovered == signer else None


def refused(field: str, account: str, signature: bytes) -> Problem:
    """Return the problem of a signature that is not the account's, which `field` gave.

    One that is wrapped as ERC-6492 says is of a wallet without code, which the contract cannot ask.
    """
    not_deployed = signature.endswith(_COUNTERFACTUAL)
    return Problem.of_field(
        Code.WALLET_NOT_DEPLOYED if not_deployed else Code.WRONG_SIGNER, field, account=account
    )


def has_key(code: Any) -> bool:
    """Return True if an account with this code can sign by ECDSA, as permits must be (EIP-2612)."""
    return isinstance(code, str) and (code == "0x" or code.startswith(_DELEGATED))

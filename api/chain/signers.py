"""Who signs: custodial accounts for students and tutors, and the relayer's own account.

A custodian gives the same signature that a wallet would, over the digest of the same typed data, so a key
store in hardware or a service of somebody else's fits as well.
"""

import json
import os
from pathlib import Path
from typing import Protocol

from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from eth_utils.crypto import keccak

from api.settings import DEVELOPMENT_ACCOUNTS, Settings


class Custodian(Protocol):
    """Keeps an account for each index, and signs for it."""

    def address(self, index: int) -> str:
        """The checksummed address of the account."""

    def sign(self, index: int, digest: bytes) -> bytes:
        """The account's signature of an EIP-712 digest: 65 bytes r, s, v."""


def index_of(user_id: str) -> int:
    """A person's own index, of 62 bits: it follows from the id, so no lost database gives it to another.

    Of a million people no two have the same but for one chance in ten million; then the second is refused.
    """
    return int.from_bytes(keccak(text=user_id)[:8]) >> 2


class MnemonicCustodian:
    """Keys from one mnemonic by BIP-44: of an index the upper 31 bits are the path's change."""

    def __init__(self, mnemonic: str) -> None:
        self._seed = seed_from_mnemonic(mnemonic, "")
        self._accounts: dict[int, LocalAccount] = {}

    def address(self, index: int) -> str:
        """The checksummed address of the account."""
        return str(self._account(index).address)

    def sign(self, index: int, digest: bytes) -> bytes:
        """The account's signature of an EIP-712 digest: 65 bytes r, s, v."""
        return bytes(self._account(index).unsafe_sign_hash(Hash32(digest)).signature)

    def _account(self, index: int) -> LocalAccount:
        if index not in self._accounts:  # Deriving takes longer than signing.
            self._accounts[index] = _derive(self._seed, index)
        return self._accounts[index]


def relayer_accounts(settings: Settings) -> list[LocalAccount]:
    """The accounts that send the transactions: Ape accounts, or development accounts of the local network.

    Raises `ValueError` or `OSError` if there is no such account, or its passphrase is wrong.
    """
    accounts = _accounts(settings.relayer, settings.relayer_mnemonic_index)
    if not accounts:
        raise ValueError("CRENEAU_RELAYER must name the account that sends the transactions")
    return accounts


def arbiter_accounts(settings: Settings) -> list[LocalAccount]:
    """The account that decides disputes, if the shim has it. Raises like `relayer_accounts`."""
    return _accounts(settings.arbiter, settings.arbiter_mnemonic_index)


def relayer_account(settings: Settings) -> LocalAccount:
    """The first of them."""
    return relayer_accounts(settings)[0]


def _accounts(aliases: str, indexes: str | int | None) -> list[LocalAccount]:
    if indexes is not None:
        seed = seed_from_mnemonic(DEVELOPMENT_ACCOUNTS, "")
        return [_derive(seed, int(index)) for index in str(indexes).split(",")]
    return [_ape_account(alias.strip()) for alias in aliases.split(",") if alias]


def _ape_account(alias: str) -> LocalAccount:
    folder = Path(os.environ.get("APE_DATA_FOLDER", Path.home() / ".ape"))
    keyfile = json.loads((folder / "accounts" / f"{alias}.json").read_text())
    passphrase = os.environ.get(f"APE_ACCOUNTS_{alias}_PASSPHRASE", "")
    account: LocalAccount = Account.from_key(Account.decrypt(keyfile, passphrase))
    return account


def _derive(seed: bytes, index: int) -> LocalAccount:
    account: LocalAccount = Account.from_key(
        key_from_seed(seed, f"m/44'/60'/0'/{index >> 31}/{index & 0x7FFF_FFFF}")
    )
    return account

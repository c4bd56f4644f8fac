"""Signers: the accounts that sign for custodial users, and those that send and pay for transactions.

A signer is named by a reference of its account, which means something to its custodian alone: a path of keys,
say, or the name of a key in a key store. It gets all that it signs, never only a digest, because many key
stores refuse those; and it may take a second. Another key store is another `Custodian` here, and a setting.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from eth_account import Account
from eth_account.datastructures import SignedTransaction
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from eth_utils.crypto import keccak

from api.settings import DEVELOPMENT_ACCOUNTS, Settings
from creneau import published, typed_data

_KEYFILE, _KEY = ".json", re.compile(r"0x[0-9a-fA-F]{64}")
_STEP_BITS = 31  # Of a step of a path (BIP-32).
_MOST_CHARACTERS = 64  # Of an account's reference.


class Signer(Protocol):
    """An account that signs."""

    @property
    def address(self) -> str:
        """The checksummed address of the account."""

    def sign_typed_data(self, message: Mapping[str, Any]) -> bytes:
        """Return the account's signature of a message (EIP-712): 65 bytes r, s, v."""

    def sign_transaction(self, transaction: dict[str, Any]) -> SignedTransaction:
        """Return the signed transaction (EIP-1559) of these fields, as `eth_sendTransaction` names them."""


class Custodian(Protocol):
    """Keeps an account for each user."""

    def account_of(self, user_id: str) -> str:
        """Return the reference of the user's account, of at most 64 characters.

        It follows from the id, so no lost database gives it to another user.
        """

    def signer(self, account: str) -> Signer:
        """Return the signer of an account."""


class LocalSigner:
    """Signs with a key in this process's memory."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @property
    def address(self) -> str:
        """The checksummed address of the account."""
        return str(self._account.address)

    def sign_typed_data(self, message: Mapping[str, Any]) -> bytes:
        """Return the account's signature of a message (EIP-712): 65 bytes r, s, v."""
        return bytes(self._account.unsafe_sign_hash(Hash32(typed_data.digest(message))).signature)

    def sign_transaction(self, transaction: dict[str, Any]) -> SignedTransaction:
        """Return the signed transaction (EIP-1559) of these fields, as `eth_sendTransaction` names them."""
        return self._account.sign_transaction(transaction)


class MnemonicCustodian:
    """Keeps keys that one mnemonic gives; an account's reference is its path (BIP-44)."""

    def __init__(self, mnemonic: str) -> None:
        self._seed = seed_from_mnemonic(mnemonic, "")
        self._signers: dict[str, LocalSigner] = {}

    def account_of(self, user_id: str) -> str:
        """Return the path of the user's account: 93 bits of the id's hash, in account, change and index.

        Ids whose paths are equal can't be found on purpose: even among a billion users that takes 2⁶³ hashes.
        """
        bits = int.from_bytes(keccak(text=user_id)) >> (256 - 3 * _STEP_BITS)
        first, second, third = (bits >> by * _STEP_BITS & (1 << _STEP_BITS) - 1 for by in (2, 1, 0))
        return f"m/44'/60'/{first}'/{second}/{third}"

    def signer(self, account: str) -> LocalSigner:
        """Return the signer of an account. Raises `ValueError` if that is no path."""
        if account not in self._signers:  # Deriving takes longer than signing.
            self._signers[account] = LocalSigner(_derive(self._seed, account))
        return self._signers[account]


class KeyfileCustodian:
    """Keeps accounts that users had before, as encrypted keyfiles; everybody else's are another's.

    A keyfile (Web3 Secret Storage, version 3) is `<user id>.json`; its name is the account's reference.
    """

    def __init__(
        self, folder: Path, passphrase: str, others: Custodian, refused: Collection[str] = ()
    ) -> None:
        """`refused` are addresses of accounts that no user may have."""
        self._folder, self._passphrase, self._others = folder, passphrase, others
        self._refused = refused
        self._signers: dict[str, Signer] = {}

    def account_of(self, user_id: str) -> str:
        """Return the name of the user's keyfile; without one, the reference that the other custodian has."""
        name = f"{user_id}{_KEYFILE}"
        return name if (self._folder / name).is_file() else self._others.account_of(user_id)

    def signer(self, account: str) -> Signer:
        """Return the signer of an account. Raises `ValueError` if the passphrase is wrong, or `OSError`."""
        if not account.endswith(_KEYFILE):
            return self._others.signer(account)
        if account not in self._signers:  # Decrypting takes a second.
            keyfile = json.loads((self._folder / account).read_text())
            try:
                key = Account.decrypt(keyfile, self._passphrase)
            except ValueError:
                raise ValueError(
                    f"CRENEAU_KEYFILE_PASSPHRASE does not open {self._folder / account}"
                ) from None
            self._signers[account] = LocalSigner(Account.from_key(key))
        return self._signers[account]

    def add(self, user_id: str, key: str) -> None:
        """Encrypt a user's key into a keyfile. Raises `ValueError`, or `FileExistsError` if there is one."""
        name = f"{user_id}{_KEYFILE}"
        if len(name) > _MOST_CHARACTERS:
            raise ValueError(f"{user_id}: an id of a user with a keyfile has at most 59 characters")
        if not _KEY.fullmatch(key):
            raise ValueError(f"{user_id}: a key is 0x and 64 hex digits")
        if Account.from_key(key).address in self._refused:
            raise ValueError(f"{user_id}: everybody has this key, and the network is live")
        keyfile = Account.encrypt(bytes.fromhex(key[2:]), self._passphrase)
        with open(self._folder / name, "x", opener=lambda path, how: os.open(path, how, 0o600)) as file:
            json.dump(keyfile, file)

    def check(self) -> None:
        """Raise `ValueError` if the passphrase does not open the first keyfile, or `OSError`."""
        if first := min(self._folder.glob(f"*{_KEYFILE}"), default=None):
            self.signer(first.name)


def custodian(settings: Settings) -> Custodian:
    """Return the custodian that the settings name. Raises `ValueError` or `OSError` if it has no keys."""
    keys = MnemonicCustodian(settings.custody_mnemonic)
    return keys if settings.keyfile_dir is None else keyfiles(settings, keys)


def keyfiles(settings: Settings, others: Custodian) -> KeyfileCustodian:
    """Return the custodian of imported accounts. Raises like `custodian`."""
    if settings.keyfile_dir is None or not settings.keyfile_dir.is_dir():
        raise ValueError("CRENEAU_KEYFILE_DIR must be a folder")
    if not settings.keyfiles_secret:
        raise ValueError("CRENEAU_KEYFILE_PASSPHRASE is missing")
    refused = frozenset() if settings.is_local else published.addresses()
    keys = KeyfileCustodian(settings.keyfile_dir, settings.keyfiles_secret, others, refused)
    keys.check()
    return keys


def relayer_signers(settings: Settings) -> list[Signer]:
    """Return the signers that send transactions. Raises like `relayer_accounts`."""
    return [LocalSigner(account) for account in relayer_accounts(settings)]


def arbiter_signers(settings: Settings) -> list[Signer]:
    """Return the signer that decides disputes, if the settings name it. Raises like `relayer_accounts`."""
    return [LocalSigner(account) for account in _accounts(settings, "arbiter")]


def relayer_accounts(settings: Settings) -> list[LocalAccount]:
    """Return the accounts that send transactions: Ape accounts, or development accounts of the local network.

    Raises `ValueError` if there is no such account, its passphrase is wrong, or everybody has its key and the
    network is live.
    """
    accounts = _accounts(settings, "relayer")
    if not accounts:
        raise ValueError("CRENEAU_RELAYER must name the account that sends the transactions")
    return accounts


def relayer_account(settings: Settings) -> LocalAccount:
    """Return the first of the relayer's accounts. Raises like `relayer_accounts`."""
    return relayer_accounts(settings)[0]


def _accounts(settings: Settings, role: str) -> list[LocalAccount]:
    aliases, indexes = getattr(settings, role), getattr(settings, f"{role}_mnemonic_index")
    if indexes is not None:
        seed = seed_from_mnemonic(DEVELOPMENT_ACCOUNTS, "")
        return [_derive(seed, f"m/44'/60'/0'/0/{int(index)}") for index in str(indexes).split(",")]
    variable = f"CRENEAU_{role.upper()}"
    accounts = [_ape_account(alias.strip(), variable) for alias in aliases.split(",") if alias]
    for account in accounts:
        _refuse_published(settings, account.address, variable)
    return accounts


def _refuse_published(settings: Settings, address: str, variable: str) -> None:
    """Raise `ValueError` for an account of a live network whose key everybody has."""
    if not settings.is_local and address in published.addresses():
        raise ValueError(
            f"chain {settings.chain_id} is live: {variable} names {address}, a development account whose key"
            " everybody has"
        )


def _ape_account(alias: str, variable: str) -> LocalAccount:
    file = Path(os.environ.get("APE_DATA_FOLDER", Path.home() / ".ape")) / "accounts" / f"{alias}.json"
    passphrase = os.environ.get(f"APE_ACCOUNTS_{alias}_PASSPHRASE")
    try:
        keyfile = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(
            f"{variable} names {alias}, and {file} can't be read ({error.strerror}): `ape accounts import"
            f" {alias}` makes it; APE_DATA_FOLDER names its folder"
        ) from None
    except ValueError:
        raise ValueError(f"{variable} names {alias}, and {file} is no keyfile") from None
    if passphrase is None:
        raise ValueError(f"set APE_ACCOUNTS_{alias}_PASSPHRASE: it opens {file}")
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(keyfile, passphrase))
    except (ValueError, TypeError, KeyError):  # The last two: JSON that is no keyfile.
        raise ValueError(
            f"APE_ACCOUNTS_{alias}_PASSPHRASE is not the passphrase of {file}, or that is no keyfile"
        ) from None
    return account


def _derive(seed: bytes, path: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(key_from_seed(seed, path))
    return account

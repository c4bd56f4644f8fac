"""Signers: the accounts that sign for custodial users, and those that send and pay for transactions.

A signer is named by a reference of its account, which means something to its custodian alone: a path of keys,
say, or the name of a key in a key store. It gets all that it signs, never only a digest, because many key
stores refuse those; and it may take a second. Another key store is another `Custodian` here, and a setting.
"""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import rlp
from coincurve import PrivateKey
from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from api.chain.remote_signer import RemoteKeys, SignerUnavailable
from api.settings import DEVELOPMENT_ACCOUNTS, Settings
from creneau import published, typed_data
from creneau.types import to_address

_KEYFILE, _KEY = ".json", re.compile(r"0x[0-9a-fA-F]{64}")
_NAMED = re.compile(r'"address"\s*:\s*"(?:0x)?([0-9a-fA-F]{40})"')  # What most tools write beside the key.
_ADDRESS, _PATH = re.compile(r"0x[0-9a-fA-F]{40}"), re.compile(r"m(/\d{1,9}'?)+")
_STEP_BITS = 31  # Of a step of a path (BIP-32).
_MOST_CHARACTERS = 64  # Of an account's reference.
_MOST_SIGNERS = 1_000  # Of people, that a custodian keeps ready: those that signed last.
_DYNAMIC_FEE = b"\x02"  # EIP-1559, as EIP-2718 numbers it.


class Signer(Protocol):
    """An account that signs."""

    @property
    def address(self) -> str:
        """The checksummed address of the account."""

    def sign_typed_data(self, message: Mapping[str, Any]) -> bytes:
        """Return the account's signature of a message (EIP-712): 65 bytes r, s, v.

        Raises `SignerUnavailable`.
        """

    def sign_transactions(self, transactions: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Return the signed bytes of transactions (EIP-1559), of as many of the first as can be signed now.

        Their fields are named as `eth_sendTransaction` names them. Raises `SignerUnavailable` if the first
        can't be.
        """


class _Signer(ABC):
    """Signs what is hashed by whoever has the key."""

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def address(self) -> str:
        """The checksummed address of the account."""
        return self._address

    def sign_typed_data(self, message: Mapping[str, Any]) -> bytes:
        """Return the account's signature of a message (EIP-712): 65 bytes r, s, v."""
        [signature] = self._sign([typed_data.preimage(message)])
        return signature

    def sign_transactions(self, transactions: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Return the signed bytes of transactions (EIP-1559), of as many of the first as can be signed."""
        fields = [_fields(each) for each in transactions]
        signatures = self._sign([_DYNAMIC_FEE + rlp.encode(each) for each in fields])
        return [
            _DYNAMIC_FEE + rlp.encode([*each, signature[64] - 27, *map(int.from_bytes, _halves(signature))])
            for each, signature in zip(fields, signatures, strict=False)
        ]

    @abstractmethod
    def _sign(self, messages: Sequence[bytes]) -> list[bytes]:
        """Return the signatures (65 bytes r, s, v) of the hashes (Keccak-256) of messages."""


def _fields(transaction: Mapping[str, Any]) -> list[Any]:
    """Return the fields of a transaction in the order of EIP-1559, with an empty access list."""
    names = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas")
    to, data = bytes.fromhex(transaction["to"][2:]), bytes(transaction["data"])
    return [*(transaction[name] for name in names), to, transaction["value"], data, []]


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:64]


class LocalSigner(_Signer):
    """Signs with a key in this process's memory, which is overwritten when nobody uses the signer any more.

    Copies that libraries made meanwhile are not.
    """

    def __init__(self, account: LocalAccount) -> None:
        super().__init__(str(account.address))
        self._key = bytearray(account.key)

    @property
    def account(self) -> LocalAccount:
        """The account with its key."""
        account: LocalAccount = Account.from_key(bytes(self._key))
        return account

    def __del__(self) -> None:
        """Overwrite the key."""
        self._key[:] = bytes(len(self._key))

    def _sign(self, messages: Sequence[bytes]) -> list[bytes]:
        key = PrivateKey(bytes(self._key))
        found = [key.sign_recoverable(keccak(message), hasher=None) for message in messages]
        return [each[:64] + bytes([27 + each[64]]) for each in found]


class RemoteSigner(_Signer):
    """Signs with a key that a remote signer has."""

    def __init__(self, keys: RemoteKeys, address: str) -> None:
        super().__init__(address)
        self._keys = keys

    def _sign(self, messages: Sequence[bytes]) -> list[bytes]:
        return self._keys.sign(self._address, messages)


class Custodian(Protocol):
    """Keeps an account for each user."""

    def account_of(self, user_id: str) -> str:
        """Return the reference of the user's account, of at most 64 characters.

        It follows from the id, so no lost database gives it to another user.
        """

    def signer(self, account: str) -> Signer:
        """Return the signer of an account."""


class MnemonicCustodian:
    """Keeps keys that one mnemonic gives; an account's reference is its path (BIP-44)."""

    def __init__(self, mnemonic: str) -> None:
        self._seed = seed_from_mnemonic(mnemonic, "")
        self._ready = lru_cache(_MOST_SIGNERS)(self._load)  # Deriving takes longer than signing.

    def account_of(self, user_id: str) -> str:
        """Return the path of the user's account: 93 bits of the id's hash, in account, change and index.

        Ids whose paths are equal can't be found on purpose: even among a billion users that takes 2⁶³ hashes.
        """
        bits = int.from_bytes(keccak(text=user_id)) >> (256 - 3 * _STEP_BITS)
        first, second, third = (bits >> by * _STEP_BITS & (1 << _STEP_BITS) - 1 for by in (2, 1, 0))
        return f"m/44'/60'/{first}'/{second}/{third}"

    def signer(self, account: str) -> LocalSigner:
        """Return the signer of an account. Raises `ValueError` if that is no path."""
        return self._ready(account)

    def _load(self, account: str) -> LocalSigner:
        return LocalSigner(_derive(self._seed, account))


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
        self._ready = lru_cache(_MOST_SIGNERS)(self._load)  # Decrypting takes a second.

    def account_of(self, user_id: str) -> str:
        """Return the name of the user's keyfile; without one, the reference that the other custodian has."""
        name = f"{user_id}{_KEYFILE}"
        return name if (self._folder / name).is_file() else self._others.account_of(user_id)

    def signer(self, account: str) -> Signer:
        """Return the signer of an account. Raises `ValueError` if the passphrase is wrong, or `OSError`."""
        return self._ready(account) if account.endswith(_KEYFILE) else self._others.signer(account)

    def _load(self, account: str) -> LocalSigner:
        keyfile = json.loads((self._folder / account).read_text())
        try:
            key = Account.decrypt(keyfile, self._passphrase)
        except ValueError:
            raise ValueError(f"CRENEAU_KEYFILE_PASSPHRASE does not open {self._folder / account}") from None
        signer = LocalSigner(Account.from_key(key))
        self._refuse(signer.address, account)
        return signer

    def _refuse(self, address: str, whose: str) -> None:
        if address in self._refused:
            raise ValueError(f"{whose}: everybody has this key, and the network is live")

    def add(self, user_id: str, key: str) -> None:
        """Encrypt a user's key into a keyfile. Raises `ValueError`, or `FileExistsError` if there is one."""
        name = f"{user_id}{_KEYFILE}"
        if len(name) > _MOST_CHARACTERS:
            raise ValueError(f"{user_id}: an id of a user with a keyfile has at most 59 characters")
        if not _KEY.fullmatch(key):
            raise ValueError(f"{user_id}: a key is 0x and 64 hex digits")
        self._refuse(Account.from_key(key).address, user_id)
        keyfile = Account.encrypt(bytes.fromhex(key[2:]), self._passphrase)
        with open(self._folder / name, "x", opener=lambda path, how: os.open(path, how, 0o600)) as file:
            json.dump(keyfile, file)

    def check(self) -> None:
        """Raise `ValueError` if the passphrase does not open the first keyfile, or `OSError`.

        So does a keyfile that names an account that no user may have. The others are refused when they sign.
        """
        present = sorted(self._folder.glob(f"*{_KEYFILE}"))
        for each in present if self._refused else ():
            if named := _NAMED.search(each.read_text(errors="replace")):
                self._refuse(to_address("0x" + named[1]), each.name)
        if present:
            self.signer(present[0].name)


class RemoteCustodian:
    """Keeps accounts whose keys a remote signer has; everybody else's are another's.

    An account's reference is its address, and whose it is stands in a list that operators make.
    """

    def __init__(self, keys: RemoteKeys, accounts: Mapping[str, str], others: Custodian) -> None:
        """`accounts` are addresses by the ids of users."""
        self._keys, self._accounts, self._others = keys, accounts, others

    @property
    def addresses(self) -> Collection[str]:
        """The accounts on the list."""
        return self._accounts.values()

    def account_of(self, user_id: str) -> str:
        """Return the address on the list; for those who are not, the other custodian's reference."""
        return self._accounts.get(user_id) or self._others.account_of(user_id)

    def signer(self, account: str) -> Signer:
        """Return the signer of an account. Raises like the other custodian's."""
        is_remote = _ADDRESS.fullmatch(account)
        return RemoteSigner(self._keys, account) if is_remote else self._others.signer(account)


def custodian(settings: Settings, remote: RemoteKeys | None = None) -> Custodian:
    """Return the custodian that the settings name. Raises `ValueError` or `OSError` if it has no keys."""
    keys: Custodian = MnemonicCustodian(settings.custody_mnemonic)
    if settings.keyfile_dir is not None:
        keys = keyfiles(settings, keys)
    if not settings.signer and settings.signer_accounts is None:
        return keys
    return RemoteCustodian(remote or RemoteKeys(settings), _remote_accounts(settings), keys)


def _remote_accounts(settings: Settings) -> dict[str, str]:
    """Return the addresses on the list, by the ids of users. Raises `ValueError`."""
    if settings.signer_accounts is None:
        return {}
    if not settings.signer:
        raise ValueError("CRENEAU_SIGNER_ACCOUNTS are keys of a remote signer: set CRENEAU_SIGNER_URL")
    try:
        lines = settings.signer_accounts.read_text().splitlines()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "it is no text in UTF-8")
        raise ValueError(
            f"CRENEAU_SIGNER_ACCOUNTS names {settings.signer_accounts}, which can't be read: {why}"
        ) from None
    accounts: dict[str, str] = {}
    taken: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not (words := line.split()):
            continue
        if len(words) != 2 or not _ADDRESS.fullmatch(words[1]):
            raise ValueError(f"line {number} of CRENEAU_SIGNER_ACCOUNTS is not a user's id and an address")
        user_id, address = words[0], to_address(words[1])
        if user_id in accounts or address in taken:
            raise ValueError(f"line {number} of CRENEAU_SIGNER_ACCOUNTS names a user or an account again")
        _refuse_published(settings, address, "CRENEAU_SIGNER_ACCOUNTS")
        accounts[user_id] = address
        taken.add(address)
    return accounts


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


def relayer_signers(settings: Settings, remote: RemoteKeys | None = None) -> list[Signer]:
    """Return the signers that send transactions.

    Raises `ValueError` if there is none, one can't be had, or everybody has its key and the network is live.
    """
    signers = _signers(settings, "relayer", remote)
    if not signers:
        raise ValueError("CRENEAU_RELAYER must name the account that sends the transactions")
    return signers


def arbiter_signers(settings: Settings, remote: RemoteKeys | None = None) -> list[Signer]:
    """Return the signer that decides disputes, if the settings name it. Raises like `relayer_signers`."""
    return _signers(settings, "arbiter", remote)


def relayer_account(settings: Settings) -> LocalAccount:
    """Return the first of the relayer's accounts, with its key. Raises like `relayer_signers`."""
    first = relayer_signers(settings)[0]
    if not isinstance(first, LocalSigner):
        raise ValueError("CRENEAU_RELAYER names a key of a remote signer")
    return first.account


def require_keys(remote: RemoteKeys, signers: Sequence[Signer], custodian: Custodian) -> None:
    """Raise `ValueError` if the remote signer does not have the key of one of its accounts.

    Nothing is raised if it is away: what is accepted waits for it.
    """
    wanted = [each.address for each in signers if isinstance(each, RemoteSigner)]
    if isinstance(custodian, RemoteCustodian):
        wanted += custodian.addresses
    missing: Sequence[str] = ()
    with suppress(SignerUnavailable):
        missing = remote.missing(wanted)
    if missing:
        remote.close()
        raise ValueError(
            f"the remote signer does not have the key of {missing[0]}, which CRENEAU_RELAYER, CRENEAU_ARBITER"
            " or CRENEAU_SIGNER_ACCOUNTS names"
        )


def _signers(settings: Settings, role: str, remote: RemoteKeys | None) -> list[Signer]:
    names, indexes = getattr(settings, role), getattr(settings, f"{role}_mnemonic_index")
    if indexes is not None:
        seed = seed_from_mnemonic(DEVELOPMENT_ACCOUNTS, "")
        paths = (f"m/44'/60'/0'/0/{int(index)}" for index in str(indexes).split(","))
        return [LocalSigner(_derive(seed, path)) for path in paths]
    variable = f"CRENEAU_{role.upper()}"
    remote = remote or RemoteKeys(settings)
    signers = [_signer(settings, name.strip(), variable, remote) for name in names.split(",") if name]
    for each in signers:
        _refuse_published(settings, each.address, variable)
    return signers


def _signer(settings: Settings, name: str, variable: str, remote: RemoteKeys) -> Signer:
    """Return the signer of an address, a path of the mnemonic, or an Ape account's alias."""
    if _ADDRESS.fullmatch(name):
        if not settings.signer:
            raise ValueError(f"{variable} names {name}, a key of a remote signer: set CRENEAU_SIGNER_URL")
        return RemoteSigner(remote, to_address(name))
    if _PATH.fullmatch(name):
        return LocalSigner(_derive(settings.custody_seed, name))
    return LocalSigner(_ape_account(name, variable))


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

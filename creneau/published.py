"""Accounts whose keys everybody has, because tools and standards publish them: nothing may belong to them.

They are known by their addresses, so neither another spelling of a mnemonic nor a keyfile hides one.
"""

from functools import cache

from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

MNEMONICS = (
    "test " * 11 + "junk",  # anvil, Hardhat, Ape
    "abandon " * 11 + "about",  # BIP-39's vectors, to the fourth
    "legal winner thank year wave sausage worth useful legal winner thank yellow",
    "letter advice cage absurd amount doctor acoustic avoid letter advice cage above",
    "zoo " * 11 + "wrong",
    "abandon " * 23 + "art",
    "zoo " * 23 + "vote",
    "candy maple cake sugar pudding cream honey rich smooth crumble sweet treat",  # Truffle, Besu
    "myth like bonus scare over problem client lizard pioneer submit female collect",  # Ganache
    "bottom drive obey lake curtain smoke basket hold race lonely fit walk",  # Substrate, Moonbeam
    "stuff slice staff easily soup parent arm payment cotton trade scatter struggle",  # ZKsync
    "clutch captain shoe salt awake harvest setup primary inmate ugly among become",  # Remix, eth-tester
    "concert load couple harbor equip island argue ramp clarify fence smart topic",  # 0x
)
"""Of tools, and of BIP-39's tests."""

_ACCOUNTS = 20  # Of each mnemonic: Hardhat funds so many.

_KEYS = (
    "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291",  # go-ethereum
    "8f2a55949038a9610f50fb23b5883af3b4ecb3c3bb792cbcefbd1542c692be63",  # Besu
    "b6b15c8cb491557369f3c7d2c287b053eb229daa9c22138887752191c9520659",  # Nitro
    "63b508a03c3b5937ceb903af8b1b0c191012ef6eb7e9c3fb7afa94e5d214d376",  # Hive
    "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318",  # web3.js's guide
    "46" * 32,  # EIP-155
    *(f"{number:064x}" for number in range(1, 11)),
)


@cache
def addresses() -> frozenset[str]:
    """Return the checksummed addresses. The first call takes half a second."""
    seeds = [seed_from_mnemonic(words, "") for words in MNEMONICS]
    return frozenset(
        {
            *(_address(seed, index) for seed in seeds for index in range(_ACCOUNTS)),
            *(str(Account.from_key(key).address) for key in _KEYS),
        }
    )


def is_published(seed: bytes) -> bool:
    """Return True if the seed (BIP-39) is that of a published mnemonic."""
    return _address(seed, 0) in addresses()


def _address(seed: bytes, index: int) -> str:
    return str(Account.from_key(key_from_seed(seed, f"m/44'/60'/0'/0/{index}")).address)

"""The start of every contract test: `market`, at a fixed time."""

from collections.abc import Iterator

import pytest
from helpers import Account, Contract, rpc
from market import NOW, Market


@pytest.fixture(autouse=True, scope="module")
def market(  # everybody
    raw_escrow: Contract,
    token: Contract,
    deployer: Account,
    arbiter: Account,
    relayer: Account,
    tutor: Account,
    student: Account,
    stranger: Account,
) -> Iterator[Market]:
    """Blocks are a second apart from `NOW` on: nothing depends on the day or the machine's speed."""
    rpc("evm_setNextBlockTimestamp", NOW)
    rpc("evm_mine")
    rpc("anvil_setBlockTimestampInterval", 1)
    market = Market(raw_escrow, token, deployer, arbiter, relayer, tutor, student, stranger)
    market.publish()
    market.approve(market.balance(student))
    yield market
    rpc("anvil_removeBlockTimestampInterval")

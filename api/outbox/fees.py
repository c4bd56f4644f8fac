"""Fee bids of transactions, and the caps that no transaction is ever signed above."""

from typing import NamedTuple, Self

from sqlalchemy import Connection

from api.db import repository
from api.db.tables import now
from api.outbox.models import GWEI
from api.settings import Settings

_DAY = 24 * 60 * 60 * 1_000_000


class FeeBid(NamedTuple):
    """Wei for each unit of gas: at most, and of it for the block's proposer (EIP-1559)."""

    max_fee: int
    priority_fee: int


def first(settings: Settings, base_fee: int, gas: int, market: int = 0) -> FeeBid | None:
    """Return the bid of a new transaction: enough for some full blocks. None while that is above a cap.

    The tip is the market's, and the setting's at least.
    """
    cap = _cap(settings, gas)
    if base_fee > cap:
        return None
    tip = max(settings.priority_fee_wei, market)
    max_fee = min(2 * base_fee + tip, cap)
    return FeeBid(max_fee, min(tip, max_fee))


def bumped(
    settings: Settings, old: FeeBid, base_fee: int, market: int, gas: int, *, steep: bool = False
) -> FeeBid | None:
    """Return the bid of a replacement: at least a tenth more, or a tip twice as high, and the market's price.

    None if a cap forbids it.
    """
    cap, least = _cap(settings, gas), FeeBid(_tenth_more(old.max_fee), _tenth_more(old.priority_fee))
    priority = max(2 * old.priority_fee if steep else least.priority_fee, least.priority_fee, market)
    max_fee = min(max(least.max_fee, 2 * base_fee + priority), cap)
    if max_fee < max(least.max_fee, base_fee):
        return None
    return FeeBid(max_fee, min(priority, max_fee))


def cost(gas: int, fee: int) -> int:
    """Return the price of that much gas, in gwei, rounded up."""
    return -(-gas * fee // GWEI)


class Budget:
    """The fee budget of a day, in gwei: its cap, less what the last 24 hours cost or may cost."""

    def __init__(self, left: int) -> None:
        self.left = left

    @classmethod
    def of(cls, db: Connection, settings: Settings, moment: int) -> Self:
        """Return the budget that remains at this block time, in microseconds.

        By block time, because no error of a machine's clock can move it.
        """
        spent = repository.spent(db, settings.chain_id, moment - _DAY)
        return cls(settings.max_daily_fee_wei // GWEI - spent)

    def reserve(self, gwei: int) -> bool:
        """Reserve that much. Return False if it is more than is left."""
        if gwei > self.left:
            return False
        self.left -= gwei
        return True


def left_today(db: Connection, settings: Settings) -> int:
    """Return the remaining budget, in gwei, by the clock of this machine."""
    return Budget.of(db, settings, now()).left


def _cap(settings: Settings, gas: int) -> int:
    return min(settings.max_fee_wei, settings.max_cost_wei // gas)


def _tenth_more(fee: int) -> int:
    return max(-(-fee * 11 // 10), fee + 1)

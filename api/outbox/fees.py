"""What a transaction offers for its gas, and the caps that no transaction is ever signed above."""

from typing import NamedTuple, Self

from sqlalchemy import Connection, func, select

from api.db.tables import now, transactions
from api.outbox.models import IN_FLIGHT
from api.settings import Settings

GWEI = 10**9
_DAY = 24 * 60 * 60 * 1_000_000


class FeeBid(NamedTuple):
    """Wei for each unit of gas: at most, and of it for the block's proposer."""

    max_fee: int
    priority_fee: int


def first(settings: Settings, base_fee: int, gas: int) -> FeeBid | None:
    """What a new transaction offers: enough for some full blocks. None while that is above a cap."""
    cap = _cap(settings, gas)
    if base_fee > cap:
        return None
    max_fee = min(2 * base_fee + settings.priority_fee_wei, cap)
    return FeeBid(max_fee, min(settings.priority_fee_wei, max_fee))


def bumped(settings: Settings, old: FeeBid, base_fee: int, market: int, gas: int) -> FeeBid | None:
    """What a replacement offers: at least a tenth more, and the market's price. None if a cap forbids it."""
    cap, least = _cap(settings, gas), FeeBid(_tenth_more(old.max_fee), _tenth_more(old.priority_fee))
    priority = max(least.priority_fee, market)
    max_fee = min(max(least.max_fee, 2 * base_fee + priority), cap)
    if max_fee < max(least.max_fee, base_fee):
        return None
    return FeeBid(max_fee, min(priority, max_fee))


def cost(gas: int, fee: int) -> int:
    """The price of that much gas, in gwei, rounded up."""
    return -(-gas * fee // GWEI)


class Budget:
    """What may still be spent in a day, in gwei: its cap, less what the last 24 hours cost or may cost."""

    def __init__(self, left: int) -> None:
        self.left = left

    @classmethod
    def of(cls, db: Connection, settings: Settings, moment: int) -> Self:
        """What is left at that time of the chain, whose clock no machine's error can turn."""
        lately = (transactions.c.signed_at > moment - _DAY) | transactions.c.state.in_(IN_FLIGHT)
        spent = select(func.sum(func.coalesce(transactions.c.fee, transactions.c.cost)))
        # A sum, so that the chain's index is not used: it has all that was ever sent.
        spent = spent.where(lately, transactions.c.chain_id + 0 == settings.chain_id)
        return cls(settings.max_daily_fee_wei // GWEI - int(db.scalar(spent) or 0))

    def reserve(self, gwei: int) -> bool:
        """Reserve that much, unless it is more than is left. Return True if it was reserved."""
        if gwei > self.left:
            return False
        self.left -= gwei
        return True


def left_today(db: Connection, settings: Settings) -> int:
    """What may still be spent, in gwei, as far as this machine's clock tells the day."""
    return Budget.of(db, settings, now()).left


def _cap(settings: Settings, gas: int) -> int:
    return min(settings.max_fee_wei, settings.max_cost_wei // gas)


def _tenth_more(fee: int) -> int:
    return max(-(-fee * 11 // 10), fee + 1)

"""What `ape console` knows from the start: the SDK's names, and `escrow` and `edu` where they can be found.

The escrow is the one that CRENEAU_ESCROW names, else the last one under `deployments:` in ape-config.yaml, if
the network has a contract there. A console without them is better than no console, so nothing here raises.
"""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from creneau import BookingEscrow, Order, Slot, Status, format_edu, listing_id
from creneau.codec import abi

__all__ = [
    "UTC",
    "BookingEscrow",
    "Decimal",
    "Order",
    "Slot",
    "Status",
    "datetime",
    "format_edu",
    "listing_id",
    "timedelta",
]


def ape_init_extras(chain: Any, project: Any) -> dict[str, Any]:
    """Called by Ape when the console starts."""
    try:
        address = os.environ.get("CRENEAU_ESCROW") or project.BookingEscrow.deployments[-1].address
        if not chain.provider.get_code(address):
            return {}
        escrow = BookingEscrow(address)
        edu = chain.contracts.instance_at(escrow.token, abi=abi("EduToken"), fetch_from_explorer=False)
    except Exception:  # noqa: BLE001  # whatever it was, the console starts
        return {}
    return {"escrow": escrow, "edu": edu}

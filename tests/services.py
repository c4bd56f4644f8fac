"""PostgreSQL's server and Chromium: the machine's, or else what the set-up unpacked into `.cache`."""

import os
import shutil
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
MENDED_BY = "make setup"
LACKING = {
    "PostgreSQL": f"there is no PostgreSQL: {MENDED_BY} brings one (or Debian's: apt-get install postgresql)",
    "Chromium": f"there is no Chromium: {MENDED_BY} brings one (or, on Debian: apt-get install chromium)",
}
"""The reason to skip a test that needs one of them."""


def postgresql() -> Path | None:
    """The folder of the newest server's programs."""
    if _machines_come_first():
        if found := shutil.which("postgres"):
            return Path(found).resolve().parent
        # Debian keeps them off the PATH.
        folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
        if folders:
            return max(folders, key=lambda folder: int(folder.parent.name))
    pinned = CACHE / "postgresql" / "bin"
    return pinned if (pinned / "postgres").exists() else None


def chromium() -> Path | None:
    """The browser. Playwright must not download one."""
    if _machines_come_first():
        for name in ("chromium", "google-chrome"):
            if found := shutil.which(name):
                return Path(found)
    pinned = CACHE / "chromium" / "chromium"
    return pinned if pinned.exists() else None


def _machines_come_first() -> bool:
    """As in tools/setup.sh."""
    return not os.environ.get("CRENEAU_OWN_SERVICES")

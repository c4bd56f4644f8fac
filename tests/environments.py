"""Environments with some of the packages that this one has, and nothing else: made without a network."""

import sysconfig
import venv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def environment(folder: Path, packages: Iterable[str]) -> Path:
    """Makes one with these packages, of which those for other systems are left out; its Python."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in packages:
        with suppress(PackageNotFoundError):
            for part in {file.parts[0] for file in distribution(name).files or ()} - {".."}:
                with suppress(FileExistsError):  # Two packages may share a folder.
                    (site / part).symlink_to(Path(sysconfig.get_path("purelib"), part))
    return folder / "bin" / "python"


def needed(requirement: str) -> Iterator[str]:
    """The names of a package and of all that it needs here, some of them several times."""
    parsed = Requirement(requirement)
    yield parsed.name
    for line in distribution(parsed.name).requires or ():
        each = Requirement(line)
        extras = ["", *parsed.extras]
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            yield from needed(f"{each.name}[{','.join(each.extras)}]")

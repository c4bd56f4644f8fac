"""Caddy, as the guides' proxy, with their own rules."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from waiting import PATIENCE

PROGRAM = Path(sys.prefix) / "bin" / "caddy"
OPTIONS = """{
\tadmin off
\tlocal_certs
\tskip_install_trust
\tauto_https disable_redirects
\tservers {
\t\tprotocols h1
\t}
}
"""
"""Certificates of an authority of its own, no other port, and no change of the machine."""


def rule_of(page: Path, replaced: Mapping[str, str]) -> str:
    """The file that the page shows, with other values; each of those is on the page."""
    [rule] = re.findall(r"```caddyfile .*?\n(.*?)```", page.read_text(), re.DOTALL)
    return replace(str(rule), replaced)


def replace(text: str, replaced: Mapping[str, str]) -> str:
    """The text with other values, each of which is in it."""
    for shown, here in replaced.items():
        assert shown in text, shown
        text = text.replace(shown, here)
    return text


def environment(folder: Path) -> dict[str, str]:
    """The variables by which Caddy keeps its files in a folder."""
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


def authority(folder: Path) -> Path:
    """The certificate of its own authority, once it has begun to answer."""
    return folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"


@contextmanager
def caddy(folder: Path, rule: str, url: str) -> Iterator[Path]:
    """Caddy while the context lasts, and whatever it answers at that URL; its log."""
    (folder / "Caddyfile").write_text(OPTIONS + rule)
    log = folder / "log"
    with log.open("w") as output:
        command = [PROGRAM, "run", "--config", folder / "Caddyfile"]
        process = subprocess.Popen(command, env=environment(folder), stdout=output, stderr=output, cwd=folder)
        try:
            wait(url, process, log)
            yield log
        finally:
            process.terminate()
            process.wait()


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until it answers anything at all."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            httpx.get(url, verify=False, timeout=PATIENCE)  # noqa: S501  # whether it is there
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        else:
            return

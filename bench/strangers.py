"""The cost of large requests from strangers: `python -m bench.strangers`.

The processor time of the whole shim is an upper bound of what a request takes of the event loop. It is told
for bodies of 256 KiB without a token, and with one that is not valid, beside a request without a body; the
exit code is 1 if one takes 5 ms or more.
"""

import http.client
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tools.dev_stack import DevStack

_REQUESTS = 500
_MOST_MS = 5.0
_SIZE = 256 * 1024
_TEXT = b'{"tutorId":"' + b"x" * (_SIZE - 14) + b'"}'
_BAD = {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA"}
_KINDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "no body, no token": (b"", {}),
    "256 KiB of text, no token": (_TEXT, {}),
    "256 KiB of brackets, no token": (b"[" * _SIZE, {}),
    "256 KiB of text, a bad token": (_TEXT, _BAD),
}


def main() -> int:
    """Measure each kind, and return 1 if one costs too much."""
    lost = False
    with DevStack(settings={"address_limit": "off", "log_format": "json"}) as stack:
        address = urlsplit(stack.url).netloc
        process = stack._processes[-1].pid
        for name, (body, headers) in _KINDS.items():
            before = _milliseconds(process)
            for _ in range(_REQUESTS):
                _refused(address, body, headers)
            each = (_milliseconds(process) - before) / _REQUESTS
            lost |= each >= _MOST_MS
            print(f"{name:32}{each:6.2f} ms")
    return int(lost)


def _refused(address: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(address)
    headers = headers | {"Content-Type": "application/json"}
    connection.request("POST", "/api/blockchain/booking/batch", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != http.HTTPStatus.UNAUTHORIZED:
        raise RuntimeError(f"answered {answer.status}")


def _milliseconds(process: int) -> float:
    """Return the processor time of a process, of user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

"""Connections: how many there may be, of an address and in all, and how long each may wait for its client.

A connection waits for its client until a request has come whole, and until a response is read. At the
deadline the connection is closed. Beyond the number that a process holds, those that have waited longest are
closed first: connections on which nothing comes keep nobody out.
"""

import asyncio
import resource
import socket
import struct
from collections import Counter
from functools import partial
from typing import Any, cast

import h11
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.middleware import network
from api.settings import Settings

_OTHER_FILES = 256  # Of the process: connections to the node and the database, and more.
_COMING = (h11.IDLE, h11.SEND_BODY)
_RESET = struct.pack("ii", 1, 0)  # Linger for no time: closing sends RST.


class Connections:
    """The connections of a process, which wait for their clients or are being answered."""

    def __init__(self, settings: Settings) -> None:
        """Raise the limit of open files if it is lower than the settings need, as far as it goes."""
        self.seconds = settings.receive_seconds
        self.most = _most(settings.max_connections)
        self._most_of_address = settings.max_address_connections
        self._proxies = _TrustedHosts(settings.forwarded_allow_ips)
        self._of_address: Counter[str] = Counter()
        self._waiting: dict[Connection, asyncio.TimerHandle] = {}  # Those first that wait longest.

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """The protocol of a server whose connections these are."""
        return cast(type[asyncio.Protocol], partial(Connection, self))

    def made(self, connection: "Connection") -> None:
        """Count a connection. Close it if its address has too many, or others if the process has."""
        self._of_address[connection.address] += 1
        if (
            self._of_address[connection.address] > self._most_of_address
            and connection.address not in self._proxies
        ):
            connection.close()
        while len(connection.connections) > self.most and self._waiting:
            next(iter(self._waiting)).close()

    def lost(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.served(connection)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def wait(self, connection: "Connection") -> None:
        """Close the connection after a while, unless that is under way already."""
        if connection not in self._waiting:
            self._waiting[connection] = connection.loop.call_later(self.seconds, connection.close)

    def served(self, connection: "Connection") -> None:
        """Let a connection be: its client waits for the service now, and not the other way round."""
        if timer := self._waiting.pop(connection, None):
            timer.cancel()


class Connection(H11Protocol):
    """A connection with a deadline for its client."""

    def __init__(self, held: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held = held
        self.address = "unknown"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.address = network(self.client[0] if self.client else "")
        self._held.made(self)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._held.lost(self)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a request, as long again where it begins."""
        if self._answered and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._held.served(self)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request, and until the response is read."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Wait until what is written is read."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """Go on with the response."""
        super().resume_writing()
        self._look()

    def close(self) -> None:
        """Close the connection at once, whatever its client has not read yet."""
        self._held.served(self)
        self.connections.discard(self)  # It counts no more, from now on.
        if self.flow.write_paused:  # Else the system would keep what it has of the response for the client.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        if self not in self.connections:
            return
        if self._answered or self.flow.write_paused or self.conn.their_state in _COMING:
            self._held.wait(self)
        else:
            self._held.served(self)


def _most(connections: int) -> int:
    """Return how many of these connections the limit of open files allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - _OTHER_FILES))

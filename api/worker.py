"""Workers: threads that look for work again and again until they are stopped, whatever they run into."""

import threading
from abc import ABC, abstractmethod

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.chain.rpc import NodeBehind, NodeUnavailable, RpcError

_BEHIND_SECONDS = 0.1


class Worker(threading.Thread, ABC):
    """A thread whose work is in a table: started again, here or elsewhere, it goes on where it ended."""

    def __init__(self, name: str, pause: float) -> None:
        """Name the thread; `pause` is the seconds to sleep after a pass that failed."""
        super().__init__(name=name, daemon=True)
        self._pause = pause
        self._wake = threading.Event()
        self._stopping = False

    @abstractmethod
    def run_once(self) -> float:
        """Run one pass. Return the seconds to sleep before the next, unless it is woken."""

    def wake(self) -> None:
        """End the sleep: there is work."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the present pass."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Run passes until stopped."""
        log = structlog.get_logger().bind(worker=self.name)
        while not self._stopping:
            pause = self._pause
            try:
                pause = self.run_once()
            except NodeBehind:
                pause = min(pause, _BEHIND_SECONDS)  # Another node of the pool may be asked next.
            except NodeUnavailable as error:
                log.warning("the node does not answer", reason=str(error))
            except RpcError as error:
                log.warning("the node refuses to answer", reason=error.message)
            except SQLAlchemyError as error:
                log.warning("the database does not answer", reason=type(error).__name__)
            except Exception:
                log.exception("a pass failed")
            self._wake.wait(pause)
            self._wake.clear()

"""A thread that looks for work again and again until it is stopped, whatever it runs into."""

import threading
from abc import ABC, abstractmethod

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.chain.rpc import NodeUnavailable, RpcError


class Worker(threading.Thread, ABC):
    """Its work is in a table: who starts it again, here or elsewhere, goes on where it ended."""

    def __init__(self, name: str, pause: float) -> None:
        """`pause` is how long it waits, in seconds, after a look that failed."""
        super().__init__(name=name, daemon=True)
        self._pause = pause
        self._wake = threading.Event()
        self._stopping = False

    @abstractmethod
    def run_once(self) -> float:
        """One look at what there is to do; how many seconds to pause then, unless there is work before."""

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def stop(self) -> None:
        """Ends after the present look."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """The loop."""
        log = structlog.get_logger().bind(worker=self.name)
        while not self._stopping:
            pause = self._pause
            try:
                pause = self.run_once()
            except NodeUnavailable as error:
                log.warning("the node does not answer", reason=str(error))
            except RpcError as error:
                log.warning("the node refuses to answer", reason=error.message)
            except SQLAlchemyError as error:
                log.warning("the database does not answer", reason=type(error).__name__)
            except Exception:
                log.exception("a look failed")
            self._wake.wait(pause)
            self._wake.clear()

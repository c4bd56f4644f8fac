"""The application: its parts put together, started and stopped, and what operators ask of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

import creneau
from api import problems, routes
from api.booking import Bookings
from api.chain import Chain
from api.custody import Custodian, MnemonicCustodian, relayer_account
from api.directory import Directory, TableDirectory
from api.logs import RequestLog
from api.node import Node, NodeUnavailable
from api.relayer import Relayer
from api.settings import Settings
from api.store import UNSETTLED, Store, batches, now, users
from api.wire import ExactResponse

Check = dict[str, Any]


class Shim:
    """The parts of one running shim."""

    def __init__(self, settings: Settings, directory: Directory | None = None) -> None:
        """Raises when the node or the database is not what the settings say: better now than in a request."""
        self.settings = settings
        self.custodian: Custodian = MnemonicCustodian(settings.custody_mnemonic)
        account = relayer_account(settings)
        if settings.escrow is None:
            raise ValueError("CRENEAU_ESCROW must be the contract's address")
        self.chain = Chain(Node(settings.rpc_url), settings.chain_id, settings.escrow)
        self.store = Store(settings.database)
        self.store.migrate()
        self.directory = directory or TableDirectory(self.store, self.custodian)
        self.relayer = Relayer(self.store, self.chain, account, settings)
        self.bookings = Bookings(
            settings, self.store, self.chain, self.directory, self.custodian, self.relayer.wake
        )
        self.relayer.listeners.append(self.bookings.settled)

    def close(self) -> None:
        """Stops, after what is just being done."""
        self.relayer.stop()
        self.store.close()

    def readiness(self) -> dict[str, Check]:
        """What has to be right before requests can be served."""
        return {"database": self._database(), **self._node()}

    def _database(self) -> Check:
        try:
            with self.store.write() as db:
                db.execute(update(users).where(users.c.id == "").values(role=""))
                oldest = db.scalar(
                    select(func.min(batches.c.created_at)).where(batches.c.state.in_(UNSETTLED))
                )
        except SQLAlchemyError as error:
            return {"ok": False, "reason": type(error).__name__}
        return {"ok": True, "oldestPendingSeconds": 0 if oldest is None else (now() - oldest) // 1_000_000}

    def _node(self) -> dict[str, Check]:
        settings = self.settings
        try:
            chain_id, code, head, balance = self.chain.node.batch(
                [
                    ("eth_chainId", []),
                    ("eth_getCode", [self.chain.escrow, "latest"]),
                    ("eth_getBlockByNumber", ["latest", False]),
                    ("eth_getBalance", [self.relayer.address, "latest"]),
                ]
            )
            wei, age = int(balance, 16), now() // 1_000_000 - int(head["timestamp"], 16)
        except (NodeUnavailable, TypeError) as error:
            return {"node": {"ok": False, "reason": type(error).__name__}}
        return {
            "node": {"ok": chain_id == hex(settings.chain_id), "chainId": chain_id},
            "contract": {"ok": isinstance(code, str) and code != "0x", "address": self.chain.escrow},
            # A local node mines on demand, so its head may be of any age.
            "head": {"ok": settings.is_local or age <= settings.max_head_age_seconds, "ageSeconds": age},
            "relayer": {
                "ok": self.relayer.is_alive() and wei >= settings.min_relayer_balance_wei,
                "address": self.relayer.address,
                "balanceWei": str(wei),
            },
        }


def create_app(shim: Shim) -> FastAPI:
    """The application over these parts, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        shim.relayer.start()
        yield
        await anyio.to_thread.run_sync(shim.close)

    app = FastAPI(
        title="Creneau",
        version=creneau.__version__,
        summary="Books several lessons with a tutor in one transaction that moves the student's tokens once.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.shim = shim
    app.add_middleware(RequestLog)
    app.include_router(routes.router)
    problems.install(app)

    @app.get("/livez", tags=["operation"], operation_id="livez", summary="The process answers")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        operation_id="readyz",
        summary="Requests can be served",
        responses={503: {"description": "They can't; `checks` says why"}},
    )
    async def readyz() -> Response:
        checks = await anyio.to_thread.run_sync(shim.readiness)
        ready = all(check["ok"] for check in checks.values())
        return ExactResponse(
            {"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503
        )

    return app

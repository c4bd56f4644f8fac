"""The application: its parts put together, started and stopped."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from sqlalchemy import Connection, Row

import creneau
from api import (
    documentation,
    kinds,
    metrics,
    operation,
    page,
    problems,
    routes,
    routes_acts,
    routes_lessons,
    routes_offers,
    routes_wallets,
    security,
)
from api.acts import Acts
from api.booking import Bookings
from api.chain import connect
from api.custody import Custodian, MnemonicCustodian, arbiter_accounts, relayer_accounts
from api.directory import Directory, TableDirectory
from api.follower import Follower
from api.http_directory import HttpDirectory
from api.keeper import Keeper
from api.keys import Keys
from api.kinds import ANYONES
from api.lessons import Lessons
from api.linking import Linking
from api.logs import RequestLog
from api.offers import Offers
from api.outbox import Outbox
from api.prepared import PreparedBatches
from api.relayer import Relayer
from api.settings import Settings
from api.store import Kind, State, Store
from api.view import View
from api.webhooks import Webhooks


class Shim:
    """The parts of one running shim."""

    def __init__(self, settings: Settings, directory: Directory | None = None) -> None:
        """Raises when the node or the database is not what the settings say: better now than in a request."""
        self.settings = settings
        self.custodian: Custodian = MnemonicCustodian(settings.custody_mnemonic)
        accounts = relayer_accounts(settings)
        self.chain = connect(settings)
        self.store = Store(settings.database)
        self.store.migrate()
        jwks = settings.jwt_jwks_url
        self.keys = Keys(str(jwks), settings.jwks_seconds, settings.jwks_pause_seconds) if jwks else None
        accounts_of = TableDirectory(self.store, self.custodian)
        self.directory = directory or (
            HttpDirectory(settings, accounts_of) if settings.directory_url else accounts_of
        )
        self.webhooks = Webhooks(self.store, settings)
        self.shared = metrics.Shared(self.store, lambda: operation.balances_and_lag(self))
        told = self._settled, self._moved
        self.relayer = Relayer(self.store, self.chain, accounts, settings, ANYONES, *told)
        self.relayers = [self.relayer]
        arbiter = arbiter_accounts(settings)
        if arbiter:
            if {account.address for account in arbiter} & {account.address for account in accounts}:
                raise ValueError("CRENEAU_ARBITER must be another account than the relayer's")
            self.relayers.append(Relayer(self.store, self.chain, arbiter, settings, {Kind.RESOLVE}, *told))
        self.bookings = Bookings(
            settings, self.store, self.chain, self.directory, self.custodian, self.relayer.wake
        )
        self.linking = Linking(settings, self.store, self.chain, self.directory, accounts_of)
        self.prepared = PreparedBatches(settings, self.store, self.chain, self.bookings)
        self.lessons = Lessons(settings, self.store, self.chain, self.directory, self.custodian)
        outbox = Outbox(self.store, self.chain, self.directory, self.custodian)
        self.acts = Acts(self.chain, self.lessons, outbox, self.relayers)
        self.offers = Offers(settings, self.chain, self.directory, outbox, self.relayer)
        self.view = View(self.store, settings)
        keeper = Keeper(self.store, self.view, self.chain, accounts[0], settings)
        self.follower = Follower(self.view, self.chain, settings, keeper.look)

    def _settled(self, send_ids: Collection[str]) -> None:
        self.bookings.settled(send_ids)
        self.follower.wake()

    def _moved(self, db: Connection, row: Row[Any], state: State) -> None:
        kinds.line(row).info("state", state=state.value, was=row.state)
        metrics.moved(row, state)
        self.webhooks.record(db, row, state)

    def drain(self) -> None:
        """Lets no request wait any longer: the process is about to end."""
        self.bookings.drain()

    def close(self) -> None:
        """Stops, after what is just being done."""
        for relayer in self.relayers:
            relayer.stop()
        self.webhooks.stop()
        self.follower.stop()
        if isinstance(self.directory, HttpDirectory):
            self.directory.close()
        self.store.close()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    shim: Shim = app.state.shim
    for relayer in shim.relayers:
        relayer.start()
    shim.follower.start()
    shim.webhooks.start()
    yield
    await anyio.to_thread.run_sync(shim.close)


def create_app(shim: Shim | None = None) -> FastAPI:
    """The application over these parts, which it starts and stops. Without any it has its documentation."""
    app = FastAPI(
        title="Creneau",
        version=creneau.__version__,
        summary="Books several lessons with a tutor in one transaction that moves the student's tokens once.",
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url="/docs" if shim is None or shim.settings.is_local else None,
        redoc_url=None,
    )
    app.state.shim = shim
    if shim is not None:
        security.install(app, shim.settings)
    app.add_middleware(RequestLog)
    for module in (routes, routes_wallets, routes_lessons, routes_acts, routes_offers, operation):
        app.include_router(module.router)
    page.install(app)
    problems.install(app)
    documentation.install(app)

    return app

"""The application: the routes over the shim's parts, which it starts and stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

import creneau
from api import middleware as security
from api import openapi as documentation
from api import problems
from api.logs import RequestLog
from api.routes import actions as routes_acts
from api.routes import bookings as routes
from api.routes import health as operation
from api.routes import lessons as routes_lessons
from api.routes import listings as routes_offers
from api.routes import page
from api.routes import wallets as routes_wallets
from api.services import Shim


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

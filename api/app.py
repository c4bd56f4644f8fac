"""The application: the routes over the services, which it starts and stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

import creneau
from api import middleware, openapi, problems
from api.logs import RequestLog
from api.routes import (
    actions,
    bookings,
    deps,
    existing_frontend,
    health,
    lessons,
    listings,
    page,
    settlements,
    wallets,
)
from api.services import Services


def create_app(services: Services | None = None) -> FastAPI:
    """Return the application over these services, which it starts and stops; without any it is documented."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if services is not None:
            services.start()
        yield
        if services is not None:
            await anyio.to_thread.run_sync(services.close)

    app = FastAPI(
        title="Creneau",
        version=creneau.__version__,
        summary="Books several lessons with a tutor in one transaction that moves the student's tokens once.",
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/", "description": "The service that this document comes from"}],
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    if services is not None:
        deps.install(app, services, health.Recent(services))
        middleware.install(app, services.settings, services.limits)
    app.add_middleware(RequestLog)
    rooms = (bookings, wallets, lessons, actions, settlements, listings, health)
    for router in existing_frontend.instead(room.router for room in rooms):
        app.include_router(router)
    page.install(app)
    problems.install(app)
    openapi.install(app)
    return app

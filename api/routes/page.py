"""The booking page: the files that `npm run build` made of web/, and the facts that it needs at run time."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter, FastAPI, Request
from pydantic import Field
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.auth import mint
from api.chain.rpc import NodeUnavailable, RpcError, eth_call
from api.errors import Code, Problem
from api.json_io import ExactResponse
from api.language import say
from api.routes.deps import BearerRoute, CurrentUser, ServicesDep, services_of
from api.schemas import requests
from api.schemas import responses as models
from creneau import abi

DIST = Path(__file__).parents[2] / "web" / "dist"

_SCREENS = ("/review", "/bookings", "/bookings/batch/{batch_id}")
_PAGES = ("/", *_SCREENS, *(f"{path}/" for path in _SCREENS), "/assets/{path:path}")
_FOREVER = "public, max-age=31536000, immutable"  # Their names change with what is in them.

router = APIRouter(prefix="/api/blockchain", tags=["account"], route_class=BearerRoute)


class Account(models.Response):
    """The account of the user who is signed in."""

    id: str = Field(description="Of the user.", examples=[requests.STUDENT])
    role: Literal["student", "tutor"] = Field(description="The role in lessons.")
    wallet: str = Field(description="The account that pays, or is paid.", examples=["0x" + "5" * 40])
    custodial: bool = Field(description="false: the wallet is the user's own, and has to sign.")
    balance_wei: str = Field(description="EDU of that account, in base units.", examples=["105" + "0" * 18])


class AccountAnswer(models.Answer):
    """The user whose token was sent."""

    message: str = Field(description="The same in words.")
    data: Account = Field(description="Who, and how much.")


@router.get(
    "/account",
    operation_id="getAccount",
    summary="Who is signed in",
    responses={
        200: {"model": AccountAnswer, "description": "The user whose token was sent"},
        **models.problems(401, 403, 503),
    },
)
def get_account(services: ServicesDep, user: CurrentUser) -> Response:
    """Show role, wallet, and the wallet's balance of EDU."""
    found, chain = services.directory.user(user), services.chain
    if found is None:
        raise Problem(Code.UNKNOWN_USER)
    [balance] = chain.node.call_many([eth_call(chain.token, abi.balance_of_data(found.wallet))])
    if isinstance(balance, RpcError):
        raise NodeUnavailable(balance.message)
    data = Account.model_validate(
        {
            "id": found.id,
            "role": found.role,
            "wallet": found.wallet,
            "custodial": found.custodial_account is not None,
            "balance_wei": str(int(balance, 16)),
        }
    )
    message = say("You are signed in.", "Votre session est ouverte.")
    return ExactResponse(AccountAnswer(success=True, message=message, data=data))


class _Files(StaticFiles):
    """The built files. Each address of the page is one document; browsers keep the other files for good."""

    def get_path(self, scope: Scope) -> str:
        path = super().get_path(scope)
        return path if path.startswith("assets/") else "index.html"

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _FOREVER if path.startswith("assets/") else "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Serve the page, if it was built, at its addresses; everything else stays the API's."""
    app.include_router(router)
    if not DIST.is_dir():
        return
    app.add_route("/page.json", _about, include_in_schema=False)
    files = GZipMiddleware(_Files(directory=DIST), minimum_size=1000)
    for path in _PAGES:
        app.router.routes.append(Route(path, files, methods=["GET"], include_in_schema=False))


async def _about(request: Request) -> Response:
    """Return the facts that the page needs before anybody signs in; in the demonstration also its people."""
    services = services_of(request)
    settings, chain = services.settings, services.chain
    people = [(requests.STUDENT, "student"), (requests.TUTOR, "tutor")] if settings.demo else []
    about = {
        "chainId": settings.chain_id,
        "escrow": chain.escrow,
        "token": chain.token,
        "cancelSeconds": int(chain.periods.cancel_window.total_seconds()),
        "explorer": settings.explorer_url or None,
        "signIn": settings.sign_in_url or None,
        "userClaim": settings.jwt_user_claim,
        "annonceId": requests.ANNONCE if settings.demo else None,
        "demo": [{"id": user, "role": role, "token": mint(user, settings)} for user, role in people],
    }
    return ExactResponse(about, headers={"Cache-Control": "no-store"})

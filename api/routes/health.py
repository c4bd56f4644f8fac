"""The routes for operators: liveness, readiness and metrics."""

import asyncio
import hmac
import ipaddress
import time
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api import metrics
from api.chain.escrow import OtherChain, knows_finality
from api.chain.rpc import NodeUnavailable, RpcError
from api.db import repository
from api.db.tables import now
from api.errors import Code, Problem
from api.json_io import ExactResponse
from api.outbox.fees import left_today
from api.outbox.models import GWEI, UNSETTLED
from api.routes.deps import ServicesDep, readiness_of
from api.schemas import responses as models
from api.services import Services
from creneau.amounts import format_amount

router = APIRouter(tags=["operation"])

Check = dict[str, Any]

_RECENT_SECONDS = 1.0
_LONGEST_SECONDS = 10.0  # Of a look that is waited for.
_ADVICE = frozenset({"pending"})  # An alarm, and no reason to turn requests away.


class Recent:
    """The checks of readiness, which are made once a second at most, whoever asks."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._made_at = 0.0
        self._making: asyncio.Task[dict[str, Check]] | None = None

    async def checks(self) -> dict[str, Check]:
        """Return checks that are a second old at most, or those that are being made."""
        making = self._making
        if making is None or (making.done() and time.monotonic() - self._made_at >= _RECENT_SECONDS):
            making = self._making = asyncio.create_task(self._make())
        # A client that goes away does not end it.
        done, _ = await asyncio.wait([making], timeout=_LONGEST_SECONDS)
        late = f"Node or database have not answered for {_LONGEST_SECONDS:g} seconds."
        return making.result() if done else {"answers": _check(False, "", late)}

    async def _make(self) -> dict[str, Check]:
        try:
            return await anyio.to_thread.run_sync(readiness, self._services, limiter=self._services.spare)
        finally:
            self._made_at = time.monotonic()


@router.get("/livez", operation_id="livez", summary="The process answers", response_model=models.Alive)
async def livez() -> Response:
    """Respond without asking anybody else."""
    return ExactResponse({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Requests can be served",
    response_model=models.Readiness,
    responses={503: {"model": models.Readiness, "description": "They can't; `checks` says why"}},
)
async def readyz(request: Request, services: ServicesDep) -> Response:
    """Check database and node, once a second at most. Who may read the metrics is told what is wrong."""
    if services.leaving.is_set():
        checks = {"process": _check(False, "", "The process is about to end.")}
    else:
        checks = await readiness_of(request).checks()
    if not _may_read(request, services.settings.metrics_bearer):
        checks = {name: {"ok": check["ok"]} for name, check in checks.items()}
    ready = all(check["ok"] for name, check in checks.items() if name not in _ADVICE)
    return ExactResponse(
        {"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503
    )


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "In the text format"},
        **models.problems(403),
    },
)
async def read_metrics(request: Request, services: ServicesDep) -> Response:
    """Show the metrics to programs on the same machine or, if it is set, with `CRENEAU_METRICS_TOKEN`."""
    if not _may_read(request, services.settings.metrics_bearer):
        raise Problem(Code.METRICS_PRIVATE)
    page = await anyio.to_thread.run_sync(metrics.page, services.shared, limiter=services.spare)
    return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _may_read(request: Request, wanted: str) -> bool:
    if wanted:
        shown = request.headers.get("authorization", "")
        return hmac.compare_digest(shown.encode(), f"Bearer {wanted}".encode())
    try:
        near = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        near = False
    # A proxy on this machine is near, and those who ask through it are not.
    return near and not {"x-forwarded-for", "forwarded", "via"} & set(request.headers)


def readiness(services: Services) -> dict[str, Check]:
    """Return the checks that decide whether requests can be served."""
    return {**_database(services), **_node(services)}


def _check(ok: bool, right: str, wrong: str, **more: object) -> Check:
    return {"ok": ok, "message": right if ok else wrong, **more}


def _database(services: Services) -> dict[str, Check]:
    try:
        services.store.require_file()
        with services.store.write() as db:
            repository.require_writable(db)
            left = left_today(db, services.settings)
            oldest = repository.oldest_unsettled(db)
            counts = repository.counts(db, UNSETTLED)
    except (SQLAlchemyError, FileNotFoundError) as error:
        return {"database": _check(False, "", f"The database can't be written ({type(error).__name__}).")}
    age = 0 if oldest is None else (now() - oldest) // 1_000_000
    most = services.settings.max_pending_seconds
    waits = f"The oldest batch that is in no block has waited {age} seconds"
    gaps = sum(len(sender.missing_nonces) for sender in services.senders)
    return {
        "database": _check(True, "The database can be written.", "", feesLeftTodayWei=str(left * GWEI)),
        "pending": _check(
            age <= most,
            f"{waits}.",
            f"{waits}; {most} are normal.",
            oldestPendingSeconds=age,
            waiting=counts,  # By state.
            missingNonces=gaps,  # Nobody uses them, and transactions of this process's keys wait for them.
        ),
    }


def _node(services: Services) -> dict[str, Check]:
    settings, relayer, escrow = services.settings, services.sender, services.chain.escrow
    try:
        services.chain.head()
        chain_id, code, head, balance = services.chain.node.call_many(
            [
                ("eth_chainId", []),
                ("eth_getCode", [escrow, "latest"]),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getBalance", [relayer.address, "latest"]),
            ]
        )
        served, wei = int(chain_id, 16), int(balance, 16)
        age = now() // 1_000_000 - int(head["timestamp"], 16)
        lag = abs(int(head["number"], 16) - services.projection.position().number)
        complete = services.view.is_complete()
        final = settings.finality == "confirmations" or knows_finality(services.chain.node)
    except SQLAlchemyError:
        return {}  # That is said already.
    except OtherChain:
        other = f"The node serves another chain {settings.chain_id} than the one that the database is of."
        return {"node": _check(False, "", other)}
    except (NodeUnavailable, TypeError) as error:
        return {"node": _check(False, "", f"The node does not answer ({type(error).__name__}).")}
    # A local node mines on demand, so its head may be of any age.
    fresh = settings.is_local or age <= settings.max_head_age_seconds
    least, has = settings.min_relayer_balance_wei, f"The relayer has {format_amount(wei)} for gas"
    runs = all(each.is_alive() for each in services.senders)
    return {
        "node": _check(
            served == settings.chain_id,
            f"The node serves chain {served}.",
            f"The node serves chain {served}, not {settings.chain_id}.",
            chainId=chain_id,
        ),
        "contract": _check(
            not isinstance(code, RpcError) and code != "0x",
            "The contract is there.",
            f"There is no contract at {escrow}.",
            address=escrow,
        ),
        "head": _check(
            fresh,
            f"The node's newest block is {age} seconds old.",
            f"The node's newest block is {age} seconds old, more than {settings.max_head_age_seconds}.",
            ageSeconds=age,
        ),
        "view": _check(
            services.indexer.is_alive() and complete and lag <= settings.max_view_lag_blocks,
            f"The view is {lag} blocks behind the chain.",
            "The follower's thread has ended."
            if not services.indexer.is_alive()
            else f"The view is {lag} blocks behind the chain, more than {settings.max_view_lag_blocks}."
            if complete
            else f"Not all is read of the chain since the start; the view is {lag} blocks behind.",
            lagBlocks=lag,
        ),
        "finality": _check(
            final,
            f"Blocks are final by {settings.finality}.",
            "The node does not say which block is `finalized`, so none is final.",
        ),
        "relayer": _check(
            runs and wei >= least,
            f"{has}.",
            f"{has}, less than {format_amount(least)}." if runs else "The relayer's thread has ended.",
            address=relayer.address,
            balanceWei=str(wei),
            keys=len(relayer.addresses),  # So many processes can send at once; the others wait.
            held=relayer.leases.held,
        ),
    }

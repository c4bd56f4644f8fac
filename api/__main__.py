"""The commands of the service.

`python -m api serve | migrate | rebuild | people | seed | accounts | import-keys | token`, and what is
generated: `openapi | errors | settings | sentences`.
"""

import argparse
import gc
import json
import math
import signal
import sys
import time
from types import FrameType

import structlog
import uvicorn
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from api import auth, logs, reference
from api.app import create_app
from api.chain.escrow import WrongChain, connect
from api.chain.rpc import NodeUnavailable, RpcError
from api.chain.signers import custodian, keyfiles
from api.connections import Connections
from api.db.store import Store
from api.db.tables import bookings
from api.indexer.indexer import Indexer
from api.indexer.projection import Projection
from api.people.directory import Annonce, Name, TableDirectory, seed
from api.schemas.requests import ID_PATTERN
from api.services import Services
from api.settings import TIME_ZONES, Settings
from creneau.amounts import to_wei
from creneau.types import to_address


class _Server(uvicorn.Server):
    """A server that is not ready once it is told to stop (SIGTERM), goes on for a while, and then drains.

    Meanwhile whoever asks `/readyz` sends no more requests here. Ctrl-C, or a second signal, ends the while.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._until = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer 503 at `/readyz` from now on, and stop later."""
        seconds = 0.0 if sig == signal.SIGINT or self.should_exit else self._services.settings.drain_seconds
        self._until = min(self._until, time.monotonic() + seconds)
        self._services.leave()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return True once it is time to stop; then no request waits for its block any longer."""
        stops = await super().on_tick(counter) and time.monotonic() >= self._until
        if stops:
            self._services.drain()
        return stops


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop."""
    logs.configure(settings.log_format)
    services = Services.build(settings)
    structlog.get_logger().info("serving", host=settings.host, port=settings.port, chain_id=settings.chain_id)
    connections = Connections(settings)
    config = uvicorn.Config(
        create_app(services),
        host=settings.host,
        port=settings.port,
        ws="none",
        http=connections.protocol,  # Over h11: the other parser takes headers of any length.
        h11_max_incomplete_event_size=settings.max_header_bytes,
        limit_concurrency=connections.most + 1,
        timeout_keep_alive=settings.keep_alive_seconds,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,  # Who still waits for a block can ask again: the batch goes on.
    )
    gc.freeze()  # All that was imported stays: the collector need not look through it again and again.
    _Server(config, services).run()


def rebuild(settings: Settings) -> None:
    """Empty the view of the bookings and read it from the chain again, printing the progress.

    A service may be running: until the end its lists are incomplete. An interrupted run leaves a view that
    the next one completes.
    """
    store = Store(settings.database)
    store.migrate()
    projection = Projection(store, settings)
    indexer = Indexer(projection, connect(settings), settings)
    began = told = time.monotonic()
    projection.clear()
    more = True
    while more:
        try:
            more = indexer.tick()
        except (NodeUnavailable, RpcError, OperationalError) as error:
            print(f"{type(error).__name__}, trying again", flush=True)
            time.sleep(settings.follow_seconds)
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            print(f"block {projection.position().number} of {indexer.head}", flush=True)
    with store.read() as db:
        count = db.scalar(select(func.count()).select_from(bookings))
    print(f"{count} bookings up to block {projection.position().number}, in {time.monotonic() - began:.1f} s")
    store.close()


def people(settings: Settings, asked: argparse.Namespace) -> None:
    """Add a person or an annonce to the service's own tables, and print them. Raises `ValueError`."""
    if settings.directory_url:
        raise ValueError("people are those of the user service at CRENEAU_DIRECTORY_URL: add them there")
    store = Store(settings.database)
    store.migrate()
    directory = TableDirectory(store, custodian(settings))
    if asked.what == "add":
        first, _, last = asked.name.partition(" ")
        name = Name(first, last, asked.email)
        print(
            directory.create_user(
                _id(asked.id), asked.role, profile_id=asked.profile, wallet=asked.wallet, name=name
            )
        )
    else:
        tutor = directory.tutor(asked.tutor)
        if tutor is None or tutor.role != "tutor":
            raise ValueError(f"{asked.tutor} is no tutor of these tables: add them first")
        if asked.time_zone not in {None, *TIME_ZONES}:
            raise ValueError(f"{asked.time_zone} is not an IANA time zone, such as Europe/Paris")
        annonce = Annonce(_id(asked.id), tutor.id, asked.title, to_wei(asked.rate), asked.time_zone)
        directory.create_annonce(annonce)
        print(directory.annonce(annonce.id))
    store.close()


def _id(given: str) -> str:
    if not ID_PATTERN.fullmatch(given):
        raise ValueError(f"{given!r} is no id: 1 to 64 of A-Z a-z 0-9 . _ : @ -")
    return given


def accounts(settings: Settings) -> None:
    """Print the custodial account of each user whose id stands on standard input."""
    keys = custodian(settings)
    for user_id in sys.stdin.read().split():
        print(user_id, keys.signer(keys.account_of(user_id)).address, flush=True)


def import_keys(settings: Settings) -> None:
    """Encrypt the keys of standard input, a user's id and key a line, into keyfiles. Print the accounts."""
    keys = keyfiles(settings, custodian(settings))
    for number, line in enumerate(sys.stdin, start=1):
        user_id, _, key = line.strip().partition(" ")
        if not ID_PATTERN.fullmatch(user_id):
            raise ValueError(f"line {number} does not begin with a user's id")
        keys.add(user_id, key.strip())
        print(user_id, keys.signer(keys.account_of(user_id)).address, flush=True)


def _people_arguments(parser: argparse.ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", required=True)
    person = whats.add_parser("add", help="add a person; one who is known stays as they are")
    person.add_argument("id", help="the id that the tokens name")
    person.add_argument("--role", required=True, choices=["student", "tutor"])
    person.add_argument("--profile", metavar="ID", help="the id of a tutor's profile")
    person.add_argument("--wallet", type=to_address, help="their own; without it an account is kept here")
    person.add_argument("--name", default="", help="first name, then last name")
    person.add_argument("--email", default="")
    annonce = whats.add_parser("add-annonce", help="add an annonce of a tutor")
    annonce.add_argument("id")
    annonce.add_argument("--tutor", required=True, metavar="ID", help="of the tutor's user, or profile")
    annonce.add_argument("--title", required=True)
    annonce.add_argument("--rate", required=True, help="EDU for 60 minutes, such as 35 or 35.50")
    annonce.add_argument("--time-zone", metavar="NAME", help="IANA name; without it CRENEAU_TIME_ZONE")


def main() -> None:  # noqa: PLR0912  # one case for each command
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the shim")
    commands.add_parser("migrate", help="bring the database to this version")
    commands.add_parser("rebuild", help="read all bookings from the chain again; a shim may be running")
    commands.add_parser("seed", help="create the people and the annonce of the demonstration")
    added = commands.add_parser("people", help="add people and annonces to the service's own tables")
    _people_arguments(added)
    commands.add_parser("accounts", help="print the custodial accounts of the user ids on standard input")
    commands.add_parser(
        "import-keys",
        help="encrypt the keys of standard input, `<user id> <key>` a line, into keyfiles",
    )
    commands.add_parser("errors", help="print docs/errors.md, the table of all codes")
    commands.add_parser("settings", help="print docs/settings.md, the table of all settings")
    commands.add_parser("sentences", help="print web/src/api/sentences.ts, the page's sentences for codes")
    commands.add_parser("openapi", help="print the documentation of the routes")
    token = commands.add_parser("token", help="print a bearer token (local network only)")
    token.add_argument("--user", required=True, metavar="ID")
    args = parser.parse_args()
    try:
        if args.command == "openapi":
            print(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False))
            return
        if args.command in {"errors", "settings", "sentences"}:
            print(getattr(reference, args.command)(), end="")
            return
        settings = Settings()
        match args.command:
            case "serve":
                serve(settings)
            case "migrate":
                Store(settings.database).migrate()
            case "rebuild":
                rebuild(settings)
            case "people":
                people(settings, args)
            case "seed":
                if not settings.is_local:
                    raise ValueError(
                        f"chain {settings.chain_id} is live: python -m api people add … adds real people"
                    )
                store = Store(settings.database)
                store.migrate()
                for entry in seed(TableDirectory(store, custodian(settings))):
                    print(entry)
            case "accounts":
                accounts(settings)
            case "import-keys":
                import_keys(settings)
            case "token":
                print(auth.mint(args.user, settings))
    except ValidationError as error:
        sys.exit(
            "\n".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        )
    except (WrongChain, NodeUnavailable, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

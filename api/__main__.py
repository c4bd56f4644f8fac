"""The commands of the service.

`python -m api serve | migrate | rebuild | people | seed | mnemonic | accounts | import-keys | token`, and
what is generated: `openapi | errors | settings | sentences`.
"""

import argparse
import errno
import gc
import json
import math
import signal
import socket
import sys
import time
from types import FrameType

import structlog
import uvicorn
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

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
    listeners = _listeners(settings)
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
    _Server(config, services).run(listeners)


def _listeners(settings: Settings) -> list[socket.socket]:
    """Return sockets at host and port that do not listen yet. Raises `ValueError` if they are in use."""
    host, port = settings.host, settings.port
    listeners = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except (OSError, OverflowError) as error:
        for listener in listeners:
            listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is in use: end what listens there, or set CRENEAU_PORT"
            ) from None
        raise ValueError(f"CRENEAU_HOST {host} and CRENEAU_PORT {port} can't be had: {error}") from None
    return listeners


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


def main() -> None:
    """Run one command."""
    args = _parser().parse_args()
    settings: Settings | None = None
    try:
        if args.command == "openapi":
            print(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False))
        elif args.command == "mnemonic":
            print(generate_mnemonic(24, Language.ENGLISH))
        elif args.command in {"errors", "settings", "sentences"}:
            print(getattr(reference, args.command)(), end="")
        else:
            settings = Settings()
            logs.configure(settings.log_format, settings.hidden)
            _run(args, settings)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  # whatever it is, its text may have a secret in it
        told = logs.Harmless(settings.hidden if settings else ()).text(reason(error))
        if settings and args.command == "serve" and settings.log_format == "json":
            structlog.get_logger().error(told)
            sys.exit(1)
        sys.exit(told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the shim")
    commands.add_parser("migrate", help="bring the database to this version")
    commands.add_parser("rebuild", help="read all bookings from the chain again; a shim may be running")
    commands.add_parser("seed", help="create the people and the annonce of the demonstration")
    added = commands.add_parser("people", help="add people and annonces to the service's own tables")
    _people_arguments(added)
    commands.add_parser("mnemonic", help="print a new mnemonic for the custodial accounts")
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
    return parser


def _run(args: argparse.Namespace, settings: Settings) -> None:
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


_DATABASE_SAYS = (
    *("Connection refused", "No such file or directory", "Name or service not known", "timeout expired"),
    *("password authentication failed", "no password supplied", "does not exist", "too many clients"),
    *("unable to open database file", "readonly database", "database is locked", "disk is full"),
)
"""Parts of what databases say; the rest of it may have parts of the address, and a secret among them."""


def reason(error: Exception) -> str:
    """Return why a command ends, in one line that names the setting to mend, and shows no secret."""
    match error:
        case ValidationError():
            return "; ".join(map(_of_setting, error.errors()))
        case NodeUnavailable():
            return f"the node does not answer ({error}): does it run, at the address in CRENEAU_RPC_URL?"
        case WrongChain():
            return (
                f"{error}; see CRENEAU_RPC_URL, CRENEAU_CHAIN_ID, CRENEAU_ESCROW and CRENEAU_DEPLOYMENT_BLOCK"
            )
        case SQLAlchemyError():
            said = ", ".join(part for part in _DATABASE_SAYS if part in str(error)) or type(error).__name__
            return (
                f"the database does not answer ({said}): does it run, at the address in CRENEAU_DATABASE_URL,"
                " or is there a file in the folder CRENEAU_DATA_DIR?"
            )
        case ValueError() | OSError():
            return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}" if trace else ""
    return f"a fault of the program: {type(error).__name__}{place}"


def _of_setting(error: ErrorDetails) -> str:
    name = "".join(f"CRENEAU_{str(part).upper()}: " for part in error["loc"][:1])
    return name + error["msg"].removeprefix("Value error, ")


if __name__ == "__main__":
    main()

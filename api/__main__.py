"""`python -m api serve | migrate | seed | token --user ID`; the settings come from the environment."""

import argparse
import sys

import structlog
import uvicorn
from pydantic import ValidationError

from api import auth, logs
from api.app import Shim, create_app
from api.chain import WrongChain
from api.custody import MnemonicCustodian
from api.directory import TableDirectory, seed
from api.node import NodeUnavailable
from api.settings import Settings
from api.store import Store


def serve(settings: Settings) -> None:
    """Runs the shim until it is told to stop."""
    logs.configure(settings.log_format)
    app = create_app(Shim(settings))
    structlog.get_logger().info("serving", host=settings.host, port=settings.port, chain_id=settings.chain_id)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,  # Who still waits for a block can ask again: the batch goes on.
    )


def main() -> None:
    """Runs one command."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the shim")
    commands.add_parser("migrate", help="bring the database to this version")
    commands.add_parser("seed", help="create the people and the annonce of the demonstration")
    token = commands.add_parser("token", help="print a bearer token (local network only)")
    token.add_argument("--user", required=True, metavar="ID")
    args = parser.parse_args()
    try:
        settings = Settings()
        match args.command:
            case "serve":
                serve(settings)
            case "migrate":
                Store(settings.database).migrate()
            case "seed":
                store = Store(settings.database)
                store.migrate()
                for entry in seed(TableDirectory(store, MnemonicCustodian(settings.custody_mnemonic))):
                    print(entry)
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

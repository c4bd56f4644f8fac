"""The parts of a running shim, put together: the only place that knows all of them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row

from api import metrics
from api.booking.actions import Actions
from api.booking.create import Bookings
from api.booking.handler import BatchHandler
from api.booking.listings import Listings
from api.booking.queries import LessonQueries
from api.booking.signed_calls import SignedCalls
from api.booking.waiting import Waiting
from api.booking.wallet import WalletBookings
from api.chain.escrow import connect
from api.chain.rpc import NodeUnavailable
from api.chain.signers import Custodian, MnemonicCustodian, arbiter_accounts, relayer_accounts
from api.db.store import Store
from api.indexer.indexer import Indexer
from api.indexer.keeper import Keeper
from api.indexer.projection import Projection
from api.jwks import Keys
from api.outbox import handlers as kinds
from api.outbox.handlers import ANYONES, Handlers
from api.outbox.models import State, TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory, TableDirectory
from api.people.http_directory import HttpDirectory
from api.people.wallet_links import WalletLinks
from api.settings import Settings
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
        self.shared = metrics.Shared(self.store, self.balances_and_lag)
        told = self._settled, self._moved
        every = Handlers(self.chain, BatchHandler(self.store, self.chain))
        self.relayer = Sender(self.store, self.chain, accounts, settings, every, ANYONES, *told)
        self.relayers = [self.relayer]
        arbiter = arbiter_accounts(settings)
        if arbiter:
            if {account.address for account in arbiter} & {account.address for account in accounts}:
                raise ValueError("CRENEAU_ARBITER must be another account than the relayer's")
            self.relayers.append(
                Sender(self.store, self.chain, arbiter, settings, every, {TransactionKind.RESOLVE}, *told)
            )
        self.waiting = Waiting(self.store)
        self.bookings = Bookings(
            settings, self.store, self.chain, self.directory, self.custodian, self.relayer.accepted
        )
        self.linking = WalletLinks(settings, self.store, self.chain, self.directory, accounts_of)
        self.prepared = WalletBookings(settings, self.store, self.chain, self.bookings)
        self.lessons = LessonQueries(settings, self.store, self.chain, self.directory, self.custodian)
        signed_calls = SignedCalls(self.store, self.chain, self.directory, self.custodian)
        self.actions = Actions(self.chain, self.lessons, signed_calls, self.relayers)
        self.listings = Listings(settings, self.chain, self.directory, signed_calls, self.relayer)
        self.view = Projection(self.store, settings)
        keeper = Keeper(self.store, self.view, self.chain, accounts[0], settings)
        self.follower = Indexer(self.view, self.chain, settings, keeper.tick)

    def _settled(self, submission_ids: Collection[str]) -> None:
        self.waiting.settled(submission_ids)
        self.follower.wake()

    def _moved(self, db: Connection, row: Row[Any], state: State) -> None:
        kinds.line(row).info("state", state=state.value, was=row.state)
        metrics.moved(row, state)
        self.webhooks.record(db, row, state)

    def balances_and_lag(self) -> tuple[dict[str, int], int]:
        """What each of the relayer's keys has, in wei, and how many blocks the view is behind.

        Without a node that answers, nothing.
        """
        addresses = self.relayer.addresses
        try:
            head, *answers = self.chain.node.call_many(
                [("eth_blockNumber", []), *(("eth_getBalance", [address, "latest"]) for address in addresses)]
            )
            wei = {address: int(answer, 16) for address, answer in zip(addresses, answers, strict=True)}
            return wei, abs(int(head, 16) - self.view.position().number)
        except (NodeUnavailable, TypeError):
            return {}, 0

    def drain(self) -> None:
        """Lets no request wait any longer: the process is about to end."""
        self.waiting.drain()

    def close(self) -> None:
        """Stops, after what is just being done."""
        for relayer in self.relayers:
            relayer.stop()
        self.webhooks.stop()
        self.follower.stop()
        if isinstance(self.directory, HttpDirectory):
            self.directory.close()
        self.store.close()

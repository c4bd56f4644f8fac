"""The composition root: the one place that knows every part of the service and puts them together."""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import anyio

from api import metrics
from api.booking.actions import Actions
from api.booking.create import Bookings
from api.booking.credits import Credits
from api.booking.handler import BatchHandler
from api.booking.listings import Listings
from api.booking.own_time import OwnTimes
from api.booking.queries import LessonQueries
from api.booking.settlements import Settlements
from api.booking.signed_calls import SignedCalls
from api.booking.view import View
from api.booking.waiting import Waiting
from api.booking.wallet import WalletBookings
from api.chain import signers
from api.chain.escrow import Chain, WrongChain, connect
from api.chain.remote_signer import RemoteKeys
from api.chain.rpc import NodeUnavailable
from api.db.store import Store
from api.indexer.indexer import Indexer
from api.indexer.keeper import Keeper
from api.indexer.projection import Projection
from api.jwks import Keys
from api.middleware import Limits
from api.outbox.handlers import ANYONES, CallHandler, Handlers
from api.outbox.models import TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory, TableDirectory
from api.people.http_directory import HttpDirectory
from api.people.wallet_links import WalletLinks
from api.settings import Settings
from api.webhooks import Webhooks


@dataclass(frozen=True)
class Services:
    """The parts of one running service."""

    settings: Settings
    limits: Limits
    keys: Keys | None
    """The keys of the tokens' issuer; None: tokens are signed with the shared secret."""
    remote: RemoteKeys
    """The keys of the remote signer, if there is one."""
    chain: Chain
    store: Store
    directory: Directory
    senders: Sequence[Sender]
    """The relayer and, if the settings name its account, the arbiter's."""
    projection: Projection
    indexer: Indexer
    webhooks: Webhooks
    waiting: Waiting
    bookings: Bookings
    prepared: WalletBookings
    lessons: LessonQueries
    actions: Actions
    listings: Listings
    settlements: Settlements
    credits: Credits
    own_times: OwnTimes
    linking: WalletLinks
    view: View
    shared: metrics.Shared
    leaving: threading.Event
    spare: anyio.CapacityLimiter
    """Threads for operators, who are answered while all others wait for the node."""

    @classmethod
    def build(cls, settings: Settings, directory: Directory | None = None) -> Self:
        """Put the parts together, with this directory or the one of the settings.

        Raises `ValueError`, `WrongChain`, `NodeUnavailable` or `OSError` if the node, the database or an
        account is not what the settings say: better now than in a request.
        """
        remote = RemoteKeys(settings)
        custodian = signers.custodian(settings, remote)
        accounts = signers.relayer_signers(settings, remote)
        arbiter = signers.arbiter_signers(settings, remote)
        if {account.address for account in arbiter} & {account.address for account in accounts}:
            raise ValueError("CRENEAU_ARBITER must be another account than the relayer's")
        signers.require_keys(remote, [*accounts, *arbiter], custodian)
        chain = connect(settings)
        store = Store(settings.database)
        store.migrate()
        projection = Projection(store, settings)
        try:
            projection.bind(chain)
        except WrongChain:
            store.close()
            raise
        given = directory if isinstance(directory, TableDirectory) else None
        users = given or TableDirectory(store, custodian)
        if directory is None:
            directory = HttpDirectory(settings, store, users) if settings.directory_url else users
        webhooks, waiting = Webhooks(store, settings), Waiting(store)

        def settled(submission_ids: Collection[str]) -> None:
            waiting.settled(submission_ids)
            indexer.wake()

        batches = BatchHandler(store, chain, users, custodian)
        handlers = Handlers(CallHandler(store, chain), {TransactionKind.CREATE: batches})
        tell = webhooks.record, settled
        sender = Sender(store, chain, accounts, settings, handlers, ANYONES, *tell)
        senders = [sender]
        if arbiter:
            senders.append(
                Sender(store, chain, arbiter, settings, handlers, {TransactionKind.RESOLVE}, *tell)
            )
        keeper = Keeper(store, projection, chain, accounts, settings)
        indexer = Indexer(projection, chain, settings, keeper.tick)
        view = View(store, chain, sender.addresses, indexer)
        bookings = Bookings(settings, store, chain, directory, custodian, sender.accepted, view)
        lessons = LessonQueries(settings, store, directory, custodian)
        signed_calls = SignedCalls(store, chain, directory, custodian, settings.act_seconds)
        actions = Actions(chain, lessons, signed_calls, senders)
        return cls(
            settings=settings,
            limits=Limits(settings),
            keys=_keys(settings),
            remote=remote,
            chain=chain,
            store=store,
            directory=directory,
            senders=senders,
            projection=projection,
            indexer=indexer,
            webhooks=webhooks,
            waiting=waiting,
            bookings=bookings,
            prepared=WalletBookings(settings, store, chain, bookings),
            lessons=lessons,
            actions=actions,
            settlements=Settlements(store, chain, lessons, actions, signed_calls, sender),
            credits=Credits(chain, directory, signed_calls, sender),
            own_times=OwnTimes(settings, chain, directory, signed_calls, sender),
            listings=Listings(settings, chain, directory, signed_calls, sender),
            linking=WalletLinks(settings, store, chain, directory, users),
            view=view,
            shared=metrics.Shared(store, lambda: _balances_and_lag(chain, sender, projection)),
            leaving=threading.Event(),
            spare=anyio.CapacityLimiter(4),
        )

    @property
    def sender(self) -> Sender:
        """The relayer that sends everything but the arbiter's decisions."""
        return self.senders[0]

    def start(self) -> None:
        """Start the threads."""
        for sender in self.senders:
            sender.start()
        self.indexer.start()
        self.webhooks.start()

    def leave(self) -> None:
        """Let `/readyz` tell that the process is about to end."""
        self.leaving.set()

    def drain(self) -> None:
        """Let no request wait any longer: the process is about to end."""
        self.waiting.drain()

    def close(self) -> None:
        """Stop the threads, each after its present work, and close what is open."""
        for sender in self.senders:
            sender.stop()
        self.webhooks.stop()
        self.indexer.stop()
        if isinstance(self.directory, HttpDirectory):
            self.directory.close()
        self.remote.close()
        self.store.close()


def _keys(settings: Settings) -> Keys | None:
    if settings.jwt_jwks_url is None:
        return None
    pauses = settings.jwks_seconds, settings.jwks_pause_seconds
    return Keys(str(settings.jwt_jwks_url), settings.key_algorithms, *pauses)


def _balances_and_lag(chain: Chain, sender: Sender, projection: Projection) -> tuple[dict[str, int], int]:
    """Return the balance of each key of the relayer in wei, and how many blocks the view is behind.

    Without a node that answers: no balances, and 0.
    """
    addresses = sender.addresses
    try:
        head, *answers = chain.node.call_many(
            [("eth_blockNumber", []), *(("eth_getBalance", [address, "latest"]) for address in addresses)]
        )
        wei = {address: int(answer, 16) for address, answer in zip(addresses, answers, strict=True)}
        return wei, abs(int(head, 16) - projection.position().number)
    except (NodeUnavailable, TypeError):
        return {}, 0

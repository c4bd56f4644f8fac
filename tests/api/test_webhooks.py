"""Webhooks: what a receiver gets when it works, fails, is slow, down or gone, and when the shim is killed."""

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from forked import Stack
from postgres import PostgreSQL
from pydantic import ValidationError
from scenario import Scenario, log_lines, paused, slot, wait_for
from sqlalchemy import func, insert, select
from standardwebhooks import Webhook
from waiting import PATIENCE, until

from api.db.store import Store
from api.db.tables import webhooks
from api.settings import Settings
from api.webhooks import Webhooks
from tools.dev_stack import DevStack, free_port

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()


class Receiver:
    """A small HTTP server that verifies, records, and answers by path as it is told."""

    def __init__(self, port: int | None = None) -> None:
        self.got: dict[str, list[dict[str, Any]]] = defaultdict(list)  # By path: what was answered with 2xx.
        self.asked: dict[str, list[str]] = defaultdict(list)  # By path: the ids of all attempts.
        self.answers: dict[str, Callable[[str], int]] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                headers = dict(self.headers.items())
                message = Webhook(SECRET).verify(data, headers)
                message_id = headers["webhook-id"]
                receiver.asked[self.path].append(message_id)
                status = receiver.answers.get(self.path, lambda _: 204)(message_id)
                if status < 300:
                    receiver.got[self.path].append(message | {"id": message_id})
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port or 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def settings(urls: str, **more: object) -> Settings:
    quick = {"webhook_retry_seconds": 0.05, "webhook_attempts": 4, "webhook_timeout_seconds": PATIENCE}
    given = {"webhook_urls": urls, "webhook_secret": f"{SECRET} {OLD_SECRET}"}
    return Settings(_env_file=None, **given | quick | more)  # type: ignore[arg-type]


def put(store: Store, url: str, *message_ids: str, batch: str = "0xb") -> None:
    """Messages of one batch for one endpoint."""
    rest = {"attempts": 0, "due_at": 0, "dead": False, "created_at": 0, "event": "batch.mined"}
    body = json.dumps({"type": "batch.mined", "timestamp": "2035-01-01T00:00:00Z", "data": {}})
    rows = [{"message_id": m, "endpoint": url, "batch_id": batch, "body": body} | rest for m in message_ids]
    with store.write() as db:
        db.execute(insert(webhooks), rows)


def left(store: Store, *, dead: bool) -> int:
    with store.read() as db:
        query = select(func.count()).select_from(webhooks).where(webhooks.c.dead.is_(dead))
        return int(db.scalar(query) or 0)


@contextmanager
def delivering(store: Store, *all_settings: Settings) -> Iterator[None]:
    """The threads of as many processes as there are settings."""
    senders = [Webhooks(store, each) for each in all_settings]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        for sender in senders:
            sender.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'hooks.db'}")
    store.migrate()
    yield store
    store.close()


# --- Delivery ---


def test_what_fails_is_sent_again_with_its_id_and_in_order(store: Store, receiver: Receiver) -> None:
    url = f"{receiver.url}/failing"
    answers = iter([500, 429, 204, 302, 204, 204])
    receiver.answers["/failing"] = lambda _: next(answers)
    put(store, url, "msg_1", "msg_2", "msg_3")
    with delivering(store, settings(url)):
        until(lambda: not left(store, dead=False))
    assert receiver.asked["/failing"] == ["msg_1"] * 3 + ["msg_2"] * 2 + ["msg_3"]
    assert [message["id"] for message in receiver.got["/failing"]] == ["msg_1", "msg_2", "msg_3"]
    assert left(store, dead=True) == 0


def test_what_was_said_to_be_taken_is_not_sent_again(store: Store, receiver: Receiver) -> None:
    """A receiver that says so and forgets it asks for the batch."""
    url = f"{receiver.url}/forgetting"
    put(store, url, "msg_1", "msg_2")
    with delivering(store, settings(url)):
        until(lambda: not left(store, dead=False))
    assert receiver.asked["/forgetting"] == ["msg_1", "msg_2"]
    assert left(store, dead=True) == 0


def test_what_fails_too_often_is_given_up_and_holds_up_nothing(store: Store, receiver: Receiver) -> None:
    url = f"{receiver.url}/refusing"
    receiver.answers["/refusing"] = lambda message_id: 500 if message_id == "msg_1" else 200
    put(store, url, "msg_1", "msg_2")
    with delivering(store, settings(url)):
        until(lambda: not left(store, dead=False))
    assert receiver.asked["/refusing"] == ["msg_1"] * 4 + ["msg_2"]
    assert left(store, dead=True) == 1


def test_an_endpoint_that_is_gone_is_not_asked_again(store: Store, receiver: Receiver) -> None:
    url = f"{receiver.url}/gone"
    receiver.answers["/gone"] = lambda _: 410
    put(store, url, "msg_1")
    with delivering(store, settings(url)):
        until(lambda: left(store, dead=True) == 1)
    assert receiver.asked["/gone"] == ["msg_1"]


def test_an_endpoint_that_is_down_gets_everything_when_it_is_back(store: Store) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    put(store, url, "msg_1", "msg_2")

    def attempts() -> int:
        with store.read() as db:
            return int(db.scalar(select(func.max(webhooks.c.attempts))) or 0)

    with delivering(store, settings(url, webhook_attempts=1000, webhook_retry_seconds=0.001)):
        until(lambda: attempts() >= 2)
        late = Receiver(port)
        until(lambda: not left(store, dead=False))
    late.close()
    assert [message["id"] for message in late.got["/"]] == ["msg_1", "msg_2"]


def test_a_slow_endpoint_delays_no_other_and_no_other_batch(store: Store, receiver: Receiver) -> None:
    slow, quick, release = f"{receiver.url}/slow", f"{receiver.url}/quick", threading.Event()

    def answer(message_id: str) -> int:
        if message_id == "msg_1":
            release.wait(PATIENCE)
        return 200

    receiver.answers["/slow"] = answer
    put(store, slow, "msg_1", "msg_2", batch="0xa")
    put(store, slow, "msg_3", batch="0xb")
    put(store, quick, "msg_1", "msg_2", batch="0xa")
    with delivering(store, settings(f"{slow} {quick}")):
        until(lambda: len(receiver.got["/quick"]) == 2 and len(receiver.got["/slow"]) == 1)
        assert [message["id"] for message in receiver.got["/slow"]] == ["msg_3"]
        release.set()
        until(lambda: not left(store, dead=False))
    assert [message["id"] for message in receiver.got["/slow"]] == ["msg_3", "msg_1", "msg_2"]


def test_an_endpoint_that_never_answers_is_tried_again(store: Store, receiver: Receiver) -> None:
    url, release = f"{receiver.url}/stuck", threading.Event()
    receiver.answers["/stuck"] = lambda _: (
        200 if len(receiver.asked["/stuck"]) > 1 or release.wait(PATIENCE) else 500
    )
    put(store, url, "msg_1")
    with delivering(store, settings(url, webhook_timeout_seconds=0.2, webhook_attempts=1000)):
        until(lambda: not left(store, dead=False))
    release.set()
    assert set(receiver.asked["/stuck"]) == {"msg_1"}
    assert len(receiver.asked["/stuck"]) > 1


class Odd:
    """A receiver whose answer to the first message has no end; it tells when one has given up on it."""

    def __init__(self, begins: bytes, goes_on: bytes) -> None:
        self.asked: list[str] = []
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                odd.asked.append(self.headers["webhook-id"])
                if odd.asked[-1] != "msg_1" or odd.asked.count("msg_1") > 1:
                    self.send_response(204)
                    self.end_headers()
                    return
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(begins)
                    while True:
                        self.wfile.write(goes_on)
                        time.sleep(0.01)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    ("begins", "goes_on", "attempts"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", 2),  # Dripping: no status yet that counts.
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 2**20, 1),  # Huge, nested, wrong: nobody reads it.
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"[" * 10_000, 1),
        (b"HTTP/1.1 500 Oops\r\n\r\n", b"x" * 2**20, 2),
        (b"<html>", b"\r\n", 2),
    ],
    ids=["dripping", "huge", "nested", "huge and 500", "wrong"],
)
def test_an_answer_without_end_is_left_and_holds_up_nothing(
    store: Store, begins: bytes, goes_on: bytes, attempts: int
) -> None:
    odd = Odd(begins, goes_on)
    put(store, odd.url, "msg_1", "msg_2", batch="0xa")
    put(store, odd.url, "msg_3", batch="0xb")
    seconds = PATIENCE if attempts == 1 else 0.5  # Where a status comes, nothing waits for a deadline.
    with delivering(store, settings(odd.url, webhook_timeout_seconds=seconds, webhook_attempts=1000)):
        until(lambda: not left(store, dead=False))
    odd.close()
    assert odd.asked.count("msg_1") >= attempts
    assert odd.asked.index("msg_2") > odd.asked.index("msg_1")  # In order, within a batch.
    if attempts == 1:
        assert odd.asked.count("msg_1") == 1
    assert {*odd.asked} == {"msg_1", "msg_2", "msg_3"}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_several_processes_deliver_each_message_once(
    database: str, tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    if database == "postgres":
        server: PostgreSQL = request.getfixturevalue("postgres")
        url = server.database()
    stores = [Store(url) for _ in range(3)]
    stores[0].migrate()
    path = f"/{database}"
    for batch in range(20):
        names = [f"msg_{batch}_{place}" for place in range(3)]
        put(stores[0], receiver.url + path, *names, batch=f"0x{batch}")
    senders = [Webhooks(store, settings(receiver.url + path)) for store in stores]
    for sender in senders:
        sender.start()
    until(lambda: not left(stores[0], dead=False))
    for sender in senders:
        sender.stop()
    asked = receiver.asked[path]
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) == 60
    for batch in range(20):
        mine = [message_id for message_id in asked if message_id.startswith(f"msg_{batch}_")]
        assert mine == [f"msg_{batch}_{place}" for place in range(3)]
    for store in stores:
        store.close()


# --- What is told ---


@pytest.fixture(scope="module")
def hooked(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A shim of its own, with webhooks; its secrets come from a file."""
    secrets = tmp_path_factory.mktemp("secrets") / "webhooks"
    secrets.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    quick = {"webhook_retry_seconds": 0.05, "webhook_timeout_seconds": PATIENCE, "confirmations": 2}
    with Stack(
        settings={
            "webhook_urls": f"{receiver.url}/shim",
            "webhook_secret_file": secrets,
            "log_format": "json",
            **quick,
        }
    ) as stack:
        yield stack


def told(receiver: Receiver, batch_id: str) -> list[dict[str, Any]]:
    return [message for message in receiver.got["/shim"] if message["data"]["batchId"] == batch_id]


def types(receiver: Receiver, batch_id: str) -> list[str]:
    return [str(message["type"]).removeprefix("batch.") for message in told(receiver, batch_id)]


def test_a_batch_is_told_from_submitted_to_final_without_what_is_private(
    hooked: DevStack, receiver: Receiver
) -> None:
    scenario = Scenario.of(hooked)
    note = "a private note"
    data = scenario.book(slot("09:00"), slot("10:00"), studentNotes=note, description=note).json()["data"]
    hooked.rpc("anvil_mine", hex(5))
    until(lambda: types(receiver, data["batchId"]) == ["submitted", "mined", "final"])
    last = told(receiver, data["batchId"])[-1]
    assert last["data"] == {
        "batchId": data["batchId"],
        "state": "final",
        "studentId": scenario.student.id,
        "tutorId": scenario.tutor.id,
        "annonceId": scenario.annonce.id,
        "bookingIds": [booking["id"] for booking in data["bookings"]],
        "count": 2,
        "totalAmountWei": str(70 * 10**18),
        "transactionHash": data["transactionHash"],
        "blockNumber": last["data"]["blockNumber"],
        "code": None,
    }
    assert abs((datetime.now(UTC) - datetime.fromisoformat(last["timestamp"])).total_seconds()) < 60
    assert note not in json.dumps(told(receiver, data["batchId"]))
    # The log tells of it, too, a moment after the receiver has it.
    until(lambda: len(log_lines(hooked, batch_id=data["batchId"], event="webhook delivered")) == 3)


def test_a_reorganisation_and_a_batch_that_comes_to_nothing_are_told(
    hooked: DevStack, receiver: Receiver
) -> None:
    winner, loser = Scenario.of(hooked), Scenario.of(hooked)
    loser.tutor, loser.annonce = winner.tutor, winner.annonce
    batch_id = winner.book(slot("09:00")).json()["data"]["batchId"]
    with paused(hooked):
        hooked.rpc("anvil_reorg", 1, [])
        until(lambda: types(receiver, batch_id)[-1:] == ["reorged"])
        assert told(receiver, batch_id)[-1]["data"]["count"] == 1
    until(lambda: types(receiver, batch_id)[-1:] == ["mined"])  # With it the listing is published again.
    with paused(hooked):
        first = winner.book(slot("11:00"), headers={"Prefer": "respond-async"}).headers["location"]
        wait_for(winner, first, "submitted")
        second = loser.book(slot("11:00"), headers={"Prefer": "respond-async"}).json()["data"]["batchId"]
    until(lambda: types(receiver, second) == ["failed"])
    [failed] = told(receiver, second)
    assert (failed["data"]["state"], failed["data"]["count"], failed["data"]["bookingIds"]) == (
        "rejected",
        0,
        [],
    )
    hooked.rpc("anvil_mine", hex(5))
    until(lambda: types(receiver, batch_id)[-1:] == ["final"])
    assert types(receiver, batch_id) == ["submitted", "mined", "reorged", "mined", "final"]


def test_a_shim_that_is_killed_while_it_delivers_loses_nothing(hooked: DevStack, receiver: Receiver) -> None:
    hooked.stop_shim()
    hooked.start_shim(webhook_timeout_seconds=1)  # The next process waits four times that before it tries.
    scenario, release, held = Scenario.of(hooked), threading.Event(), threading.Event()

    def hold(_: str) -> int:
        held.set()
        return 204 if release.wait(PATIENCE) else 500

    receiver.answers["/shim"] = hold
    batch_id = scenario.book(slot("09:00")).json()["data"]["batchId"]
    assert held.wait(20)
    hooked.stop_shim(kill=True)
    receiver.answers["/shim"] = lambda _: 500  # Nor does a second try in the next process help.
    release.set()
    asked = len(receiver.asked["/shim"])
    hooked.start_shim()
    until(lambda: len(receiver.asked["/shim"]) > asked)
    receiver.answers["/shim"] = lambda _: 204
    hooked.rpc("anvil_mine", hex(5))
    until(lambda: types(receiver, batch_id)[-1:] == ["final"])
    messages = told(receiver, batch_id)
    ids = list(dict.fromkeys(message["id"] for message in messages))  # The first may have come twice.
    by_id = {message["id"]: message["type"] for message in messages}
    assert [by_id[message_id] for message_id in ids] == ["batch.submitted", "batch.mined", "batch.final"]
    store = Store(hooked.settings.database)
    until(lambda: left(store, dead=False) == 0)
    assert left(store, dead=True) == 0
    store.close()


# --- Settings ---

LIVE = {"chain_id": 41923, "jwt_secret": "s" * 32, "mnemonic": generate_mnemonic(12, Language.ENGLISH)}
LIVE |= {"public_origin": "https://book.example.org", "jwt_audience": "creneau", "jwt_issuer": "users"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"webhook_secret": None}, "webhooks need CRENEAU_WEBHOOK_SECRET"),
        ({"webhook_secret": "whsec_"}, "24 to 64 bytes in base64"),
        ({"webhook_secret": "whsec_c2hvcnQ="}, "24 to 64 bytes in base64"),
        ({"webhook_secret": "whsec_?"}, "24 to 64 bytes in base64"),
        ({"urls": "ftp://hooks.example.org"}, "must be https"),
        (LIVE | {"urls": "http://hooks.example.org"}, "must be https"),
    ],
)
def test_settings_that_could_not_work_are_refused(changed: dict[str, object], reason: str) -> None:
    settings("https://hooks.example.org http://10.0.0.1/hook")
    settings("https://hooks.example.org https://10.0.0.1", **LIVE)
    with pytest.raises(ValidationError, match=reason):
        settings(**{"urls": "https://hooks.example.org"} | changed)

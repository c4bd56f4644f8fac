"""The people and the contracts of the state machine, and what can be read of them."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from creneau.abi import decode
from fuzz.model import Listing, Model, Order, Periods, once_arbitrated
from fuzz.node import Codec, Contract, Json, Node, keys
from fuzz.properties import OUTS, State, bitmap, bits, require
from fuzz.signatures import Domain, batch_of

DAY = 24 * 60 * 60
START = 2_051_222_400
"""2035-01-01 00:00 UTC, eight hours before a calendar word ends."""

HOUR = 60 * 60
PERIODS = [
    Periods(DAY, 2 * DAY, 14 * DAY, 3_000),
    Periods(0, HOUR, DAY, 10_000),
    Periods(365 * DAY, HOUR, 365 * DAY, 0),
]
LISTINGS = [b"piano".ljust(32, b"\0"), b"\xff" * 32]
RICH, POOR = 10**40, 100 * 10**18
MAX = 2**256 - 1
WORD = 256


class World:
    """One token, several escrows over it with different periods, and the people who use them."""

    def __init__(self, node: Node, artifacts: dict[str, Json]) -> None:
        self.node = node
        self.keys = keys(len(node.accounts))
        abis = {name: artifact["abi"] for name, artifact in artifacts.items()}
        self.codec = Codec([abis["BookingEscrow"], abis["BlockingToken"]])
        deployer, *others = node.accounts

        def deploy(name: str, types: str, *arguments: Any) -> Contract:
            address = node.deploy(artifacts[name]["bytecode"], types.split(), arguments, START)
            return Contract(address, abis[name])

        owner = others[0]
        wallets = [deploy("Wallet1271", "address", owner) for _ in range(2)]
        self.wallets = [wallet.address for wallet in wallets]
        self.keys |= dict.fromkeys(self.wallets, self.keys[owner])

        self.relayers, teaches_and_learns, poor = others[3:5], others[5], others[6]
        self.arbiters = [*others[1:3], teaches_and_learns]  # Who may be a party of what they decide.
        self.students = [*others[7:9], poor, teaches_and_learns, self.wallets[0]]
        self.tutors = [*others[9:11], teaches_and_learns, self.wallets[1]]
        self.people = list(dict.fromkeys([*self.arbiters, *self.relayers, *self.students, *self.tutors]))
        self.senders = [person for person in self.people if person not in self.wallets]

        self.token = deploy("BlockingToken", "bool", False)
        periods = "uint256 uint256 uint256 uint256"
        arguments = (self.token.address, self.arbiters[0])
        self.escrows = [
            deploy("BookingEscrow", f"address address {periods}", *arguments, *p) for p in PERIODS
        ]
        self.domains = [Domain("Creneau", 31337, escrow.address) for escrow in self.escrows]
        self.token_domain = Domain("Blocking", 31337, self.token.address)

        for student in self.students:
            amount = POOR if student == poor else RICH
            self._send(self.token.transaction(deployer, "mint", student, amount))
            for escrow in self.escrows:
                approve = self.token.transaction(student, "approve", escrow.address, MAX)
                if student in self.wallets:
                    execute = (self.token.address, bytes.fromhex(approve["data"][2:]))
                    approve = wallets[0].transaction(owner, "execute", *execute)
                self._send(approve)

    def _send(self, transaction: Json) -> None:
        require(self.node.send(transaction, START)["status"] == "0x1", "the set-up failed")

    def model(self, which: int) -> Model:
        """The model of an escrow as it was set up."""
        model = Model(self.escrows[which].address, self.arbiters[0], PERIODS[which], batch_of)
        for person in self.people:
            model.money[person] = self._number(self.token.data("balanceOf", person))
            model.allowance[person] = MAX if person in self.students else 0
        return model

    def periods(self, which: int) -> Periods:
        """The periods of an escrow."""
        return PERIODS[which]

    def permits(self, student: str) -> int:
        """The number of a student's permits that the token has accepted: the nonce of the next."""
        return self._number(self.token.data("nonces", student))

    def _number(self, data: bytes) -> int:
        return int.from_bytes(self.node.call(self._read(data), START))

    def _read(self, data: bytes) -> Json:
        return {"to": self.token.address, "data": "0x" + data.hex()}

    def read(self, which: int, orders: Iterable[Order]) -> State:
        """All that can be read: listings, the batches of these orders, their calendar words, money."""
        escrow, orders = self.escrows[which], list(orders)
        offers = [(tutor, listing) for tutor in self.tutors for listing in LISTINGS]
        words = sorted({(order.tutor, word) for order in orders for word in _words(order)})
        reads: list[tuple[str, tuple[Any, ...]]] = [("arbiter", ())]
        reads += [("listings", offer) for offer in offers]
        reads += [("batches", (batch_of(order),)) for order in orders]
        reads += [("calendar", (tutor, word, 1)) for tutor, word in words]
        reads += [("credits", (person,)) for person in self.people]
        together = escrow.data("multicall", [escrow.data(name, *arguments) for name, arguments in reads])

        everyone = [*self.people, escrow.address]
        calls: list[Json] = [{"to": escrow.address, "data": "0x" + together.hex()}]
        calls += [self._read(self.token.data("balanceOf", person)) for person in everyone]
        calls += [self._read(self.token.data("allowance", person, escrow.address)) for person in self.people]
        calls += [self._read(self.token.data("blocked", person)) for person in self.people]
        answer, *numbers = self.node.batch([("eth_call", (call, "latest")) for call in calls])

        (answers,) = decode(["bytes[]"], bytes.fromhex(answer[2:]))
        values = iter([escrow.decode(name, a)[0] for (name, _), a in zip(reads, answers, strict=True)])
        amounts = iter([int(number, 16) for number in numbers])
        arbiter = next(values)
        listings = {offer: Listing(*next(values)) for offer in offers}
        batches = {order: next(values) for order in orders}
        calendars: dict[str, set[int]] = {}
        for tutor, word in words:
            quarters = {word * WORD + bit for bit in bits(next(values)[0])}
            calendars.setdefault(tutor, set()).update(quarters)
        credit = {person: next(values) for person in self.people}
        return State(
            arbiter=arbiter,
            money={person: next(amounts) for person in everyone},
            allowance={person: next(amounts) for person in self.people},
            listings=listings,
            batches={order: _lessons(batch) for order, batch in batches.items() if any(batch)},
            created={order: batch[0] for order, batch in batches.items() if any(batch)},
            calendars=calendars,
            credits=credit,
            blocked={person for person in self.people if next(amounts)},
        )

    def anyone_ends_it(self, which: int, state: State) -> None:
        """6. Money is never stuck: from every live status anyone, with time, ends it, whoever is paid.

        When all is over, a relayer acts once for each batch's lessons in one status; each party gets exactly
        its part, as money or as a credit, and nothing is left in the escrow but the credits.
        """
        escrow, periods, keeper = self.escrows[which], PERIODS[which], self.relayers[0]
        acts: list[Json] = []
        due: list[dict[str, int]] = []
        when = START
        for order, batch in state.batches.items():
            for status, act in OUTS.items():
                lessons = {lesson for lesson, actual in batch.items() if actual == status}
                if not lessons:
                    continue
                share = {"cancel": 0, "complete": 10_000, "resolve": periods.default_share}[act]
                named = (periods.default_share,) if act == "resolve" else (keeper, 0, b"")
                acts.append(escrow.transaction(keeper, act, order.abi, bitmap(lessons), *named))
                to_tutor = sum(order.amount(lesson) * share // 10_000 for lesson in lessons)
                parts = Counter({order.tutor: to_tutor})
                parts[order.student] += order.total(lessons) - to_tutor
                due.append(dict(+parts))
                when = max(when, *(once_arbitrated(order.slots[i], periods)[0] for i in lessons))
        if not acts:
            return
        *done, left = self.node.simulate(
            [*acts, self._read(self.token.data("balanceOf", escrow.address))], when
        )
        credit = sum(state.credits.values())
        for parts, call in zip(due, done, strict=True):
            require(call["status"] == "0x1", "stuck", parts, call)
            got: Counter[str] = Counter()
            for log in self.codec.logs(call["logs"]):
                if log.name == "Transfer":
                    got[log.arguments[1]] += log.arguments[2]
                if log.name == "PaymentCredited":
                    require(log.arguments[0] in state.blocked, "a credit of somebody who is paid", log)
                    got[log.arguments[0]] += log.arguments[1]
                    credit += log.arguments[1]
            require(got == parts, "stuck", parts, got)
        require(int(left["returnData"], 16) == credit, "left in the escrow", left, credit)


def _words(order: Order) -> set[int]:
    """The calendar words that an order's slots could touch."""
    return {
        word for slot in order.slots for word in (slot.start // 900 // WORD, slot.start // 900 // WORD + 1)
    }


def _lessons(batch: tuple[int, ...]) -> dict[int, int]:
    """The status of each lesson of a batch. No lesson may have two: live and over, it is paid twice."""
    created, *sets = batch
    pending, confirmed, disputed, completed, cancelled = sets
    paid_twice = (pending | confirmed | disputed) & (completed | cancelled)
    require(not paid_twice, "property 2", "live, and over", batch)
    lessons = {lesson: status for status, lessons in enumerate(sets, 1) for lesson in bits(lessons)}
    require(
        len(lessons) == sum(lessons_.bit_count() for lessons_ in sets), "property 5", "two statuses", batch
    )
    require(bool(created) or not lessons, "lessons, but not created", batch)
    return lessons

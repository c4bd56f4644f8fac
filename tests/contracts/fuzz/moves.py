"""What can be tried, drawn by Hypothesis: mostly what makes sense, and every way to get it wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st

from fuzz.model import CONFIRMED, DISPUTED, LIVE, QUARTER, RULES, Model, Order, Slot, role_of
from fuzz.properties import Act, State, bitmap
from fuzz.signatures import sign
from fuzz.world import DAY, LISTINGS, MAX, WORD, World

T = TypeVar("T")

RATES = [35 * 10**18, 35 * 10**18, 10**18 + 7, 61, 59, 1, 2**96 - 1, 0]
DURATIONS = [60, 60, 60, 15, 30, 45, 90, 120, 240, 480]
WRONG_DURATIONS = [0, 14, 16, 50, 481, 495, 2**16 - 1, 2**16 - 16]
SHARES = [0, 1, 3333, 5000, 9999, 10_000, 10_000, 10_001, 2**16 - 1]
SECP256K1 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class Move:
    """One call of the escrow, and what the model makes of it."""

    act: Act
    function: str
    arguments: tuple[Any, ...]
    predict: Callable[[Model], object]


@dataclass
class Moves:
    """Draws moves for one escrow in its present state. In a multicall all have one `sender`."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    world: World
    which: int
    state: State
    orders: list[Order]
    now: int
    sender: str | None = None
    fresh: list[Order] = field(default_factory=list)
    published: set[tuple[str, bytes]] = field(default_factory=set)
    touched: set[tuple[Order, int]] = field(default_factory=set)

    # --- Chances ---

    def pick(self, things: Sequence[T]) -> T:
        chosen: T = self.draw(st.sampled_from(things))
        return chosen

    def once_in(self, times: int) -> bool:
        """Rarely true. Hypothesis likes small numbers, so the rare answer is a large one."""
        return bool(self.draw(st.integers(0, times - 1)) == times - 1)

    # --- Who sends, who signs ---

    def _proof(self, actor: str, right: bytes, wrong: bytes) -> tuple[str, str | None, bytes]:
        """A sender, who truly signed, and a signature: of the digest `right`, or of `wrong`, or worse."""
        key = self.world.keys[actor]
        can_send = actor not in self.world.wallets and self.sender in {None, actor}
        kinds = ["send"] * 8 * can_send + ["sign"] * 8
        kinds += ["nobody"] * 2
        if not self.sender:
            kinds += ["forged", "another", "another", "another", "cut", "mirrored"]
        kind = self.pick(kinds)
        if kind == "send":
            return actor, None, self.pick([b"", b"\1" * 65])
        sender = self.sender or self.pick(self.world.senders)
        signature = sign(key, right)
        match kind:
            case "nobody":
                signature = b""
            case "forged":
                forger = self.pick([one for one in self.world.people if self.world.keys[one] != key])
                signature = sign(self.world.keys[forger], right)
            case "another":
                signature = sign(key, wrong)
            case "cut":
                signature = signature[:-1]
            case "mirrored":  # the other signature that the curve accepts for the same message
                s = SECP256K1 - int.from_bytes(signature[32:64])
                signature = signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])
        return sender, actor if kind == "sign" else None, signature

    # --- Listings ---

    def publish(self, tutor: str | None = None) -> Move:
        tutor, listing = tutor or self.pick(self.world.tutors), self.pick(LISTINGS)
        rate, instant = self.pick(RATES), self.draw(st.booleans())
        nonce = self.state.listings[tutor, listing].publications
        digest = self.world.domains[self.which].listing
        wrong = self.pick(
            [(rate, instant, nonce + 1), (rate, not instant, nonce), (rate ^ 1, instant, nonce)]
        )
        proof = digest(tutor, listing, rate, instant, nonce), digest(tutor, listing, *wrong)
        sender, signer, signature = self._proof(tutor, *proof)
        if signer and (tutor, listing) in self.published:  # in this transaction: its nonce is used
            signer = None
        if tutor in {sender, signer}:
            self.published.add((tutor, listing))
        return Move(
            Act("publish", tutor, sender, signer, listing=listing, instant=instant),
            "publish",
            (tutor, listing, rate, instant, signature),
            lambda model: model.publish(tutor, listing, rate, instant, sender, signer),
        )

    # --- Orders ---

    def create(self, order: Order | None = None) -> Move:
        """This order, or one that exists, or mostly a new one."""
        if order is None:
            order = self.pick(self.orders) if self.orders and self.once_in(12) else self._order()
        self.fresh.append(order)
        domain = self.world.domains[self.which]
        digest = domain.order(order)
        another = domain.order(order._replace(salt=b"\xee" * 32))
        sender, signer, signature = self._proof(order.student, digest, another)
        act = Act("create", order.student, sender, signer, order)

        def predict(model: Model) -> object:
            return (domain.batch(order), bitmap(model.create(order, self.now, sender, signer)))

        if self.once_in(6):
            return self._with_permit(act, signature, predict)
        return Move(act, "createBookings", (order, signature), predict)

    def _with_permit(self, act: Act, signature: bytes, predict: Callable[[Model], object]) -> Move:
        """The same with a permit, which counts if the student's key signed it, for this time and nonce."""
        assert act.order is not None
        student, escrow = act.order.student, self.world.escrows[self.which].address
        value = self.pick([MAX, act.order.total(range(len(act.order.slots))), 1])
        deadline = self.pick([MAX, self.now, self.now - 1])
        nonce = self.world.permits(student) + self.pick([0, 0, 0, 1])
        signer = self.pick([student, student, student, *self.world.people])
        digest = self.world.token_domain.permit(student, escrow, value, nonce, deadline)
        proof = sign(self.world.keys[signer], digest)
        valid = signer == student not in self.world.wallets and deadline >= self.now
        valid = valid and nonce == self.world.permits(student) and not self.sender

        def predict_both(model: Model) -> object:
            if valid:
                model.approve(student, value)
            return predict(model)

        if self.sender:  # in a multicall an earlier permit may have used the nonce
            proof = bytes(65)
        permit = (value, deadline, proof[64], proof[:32], proof[32:64])
        return Move(act, "createBookingsWithPermit", (act.order, signature, permit), predict_both)

    def _order(self, of: str | None = None) -> Order:
        """For any tutor, or this one."""
        listings = [offer for offer in self.state.listings if of in {None, offer[0]}]
        offered = [offer for offer in listings if self.state.listings[offer].hourly_rate]
        if not offered or self.once_in(20):
            offered = listings
        tutor, listing = self.pick(offered)
        rate = self.state.listings[tutor, listing].hourly_rate
        return Order(
            student=self.pick(self.world.students),
            tutor=tutor,
            listing=listing,
            hourly_rate=self.pick(RATES) if self.once_in(20) else rate,
            allow_partial=self.draw(st.booleans()),
            deadline=self.pick([self.now - 1, self.now]) if self.once_in(12) else self.now + 30 * DAY,
            salt=self.draw(st.integers(0, 3)).to_bytes(32),
            slots=self._slots(),
        )

    def _slots(self) -> tuple[Slot, ...]:
        """A row of lessons with gaps, from soon on; or a few anywhere; or very many; or a wrong one."""
        quarter = self.now // QUARTER + 1
        match self.pick(["row", "row", "row", "few", "few", "late", "late", "many"]):
            case "row":
                slots, start = [], quarter + self.draw(st.integers(0, 40)) + self.pick([0, 0, 100, 300])
                for _ in range(self.draw(st.integers(1, 10))):
                    slots.append(Slot(start * QUARTER, self.pick(DURATIONS)))
                    start += slots[-1].minutes // 15 + self.pick([0, 0, 1, 5])
            case "few":
                starts = self.draw(st.lists(st.integers(quarter - 1, quarter + 60), min_size=1, max_size=5))
                slots = [Slot(start * QUARTER, self.pick(DURATIONS)) for start in starts]
            case "late":  # around the end of a calendar word, in later and later weeks
                start = (quarter // WORD + self.pick([1, 1, 1, 2, 4])) * WORD
                minutes = self.pick(DURATIONS)
                before = self.draw(st.integers(0, minutes // 15 + 1))
                slots = [Slot((start - before) * QUARTER, minutes)]
                if not self.once_in(4):  # and another, soon after: mostly before it in the order
                    after = self.draw(st.integers(0, 5))
                    slots.insert(self.pick([0, 0, 1]), Slot((start + after) * QUARTER, self.pick(DURATIONS)))
            case _:
                count = self.pick([40, 40, 41, 0])
                slots = [Slot((quarter + place) * QUARTER, 15) for place in range(count)]
        if slots and self.once_in(8):
            place = self.draw(st.integers(0, len(slots) - 1))
            start, minutes = slots[place]
            wrong = [Slot(start + 1, minutes), Slot(self.now, minutes), Slot(start - 8 * DAY, minutes)]
            wrong += [Slot(start, minutes) for minutes in WRONG_DURATIONS]
            slots[place] = self.pick(wrong)
        return tuple(slots)

    def rival(self, order: Order, lesson: int) -> Order:
        """For the same tutor: just before or after this lesson, or a quarter into it; others in the clear."""
        slot = order.slots[lesson]
        first, last = slot.start // QUARTER, slot.end // QUARTER
        slots = []
        for _ in range(self.draw(st.integers(1, 2))):
            minutes = self.pick(DURATIONS)
            before = first - minutes // 15
            start = self.pick([before, before, last, before + 1, last - 1])
            slots.append(Slot(start * QUARTER, minutes))
        clear = last + 40 + self.draw(st.integers(0, 40))
        slots = [Slot(clear * QUARTER, 60), *slots, Slot((clear + 4) * QUARTER, 60)]
        partial = not self.once_in(3)
        return self._order(order.tutor)._replace(slots=tuple(slots), allow_partial=partial)

    # --- The life of a lesson ---

    def possible(self) -> list[str]:
        """The acts that are possible now, the rarer ones more often."""
        names = ["confirm"] * 2 + ["cancel", "complete"] + ["dispute"] * 4
        names += ["resolve"] * 3 * (self.sender in {None, self.state.arbiter})
        return [name for name in names if self._possible(name)]

    def name(self) -> str:
        """Of an act that is possible, or of another."""
        everything = ["confirm", "cancel", "complete", "dispute", "resolve"]
        return self.pick(everything if self.once_in(6) else self.possible() or everything)

    def act(self, name: str, chosen: tuple[Order, str, set[int]] | None = None) -> Move:
        """Something done to lessons of an order that exists, or is created in the same transaction."""
        possible = self._possible(name)
        if chosen:
            order, actor, lessons = chosen
        elif possible and not self.once_in(5):
            order, actor, fitting = self.pick(possible)
            all_of_them = name != "cancel" and self.once_in(2)
            lessons = fitting if all_of_them else self._some_of(sorted(fitting))
        else:
            order = self.pick([*self.state.batches, *self.fresh])
            actor = self._actor(name, order)
            lessons = self._some_of(range(min(40, len(order.slots) + 1)))
        if not chosen and self.once_in(40):
            lessons = set()
        if not chosen and self.once_in(30):
            rate = order.hourly_rate ^ 1
            order = self.pick([order._replace(salt=b"\xaa" * 32), order._replace(hourly_rate=rate)])
        self.touched |= {(order, lesson) for lesson in lessons}
        if name == "resolve":
            return self._resolve(order, lessons)

        domain, number = self.world.domains[self.which], bitmap(lessons)
        right = domain.act(name, order, number)
        wrong = (
            domain.act(name, order, number ^ 1),
            domain.act("complete", order, number),
            domain.act("complete", order, number),
            domain.order(order),
        )
        another = self.pick([digest for digest in wrong if digest != right])
        sender, signer, signature = self._proof(actor, right, another)
        named = (actor,) if name in {"cancel", "complete"} else ()
        return Move(
            Act(name, actor, sender, signer, order, frozenset(lessons)),
            name,
            (order, number, *named, signature),
            lambda model: model.act(name, order, lessons, self.now, actor, sender, signer),
        )

    def _resolve(self, order: Order, lessons: set[int]) -> Move:
        sender = self.sender or (self.pick(self.world.senders) if self.once_in(8) else self.state.arbiter)
        share = self.pick(SHARES)
        return Move(
            Act("resolve", sender, sender, None, order, frozenset(lessons)),
            "resolve",
            (order, bitmap(lessons), share),
            lambda model: model.act("resolve", order, lessons, self.now, sender, sender, None, share),
        )

    def _actor(self, name: str, order: Order) -> str:
        match name:
            case "confirm":
                return order.tutor
            case "dispute":
                return order.student
        return self.pick([order.student, order.tutor, self.pick(self.world.people)])

    def _possible(self, name: str) -> list[tuple[Order, str, set[int]]]:
        """The lessons that this can be done to now or within a second of now, and by whom."""
        periods = self.world.periods(self.which)
        found = []
        for order, batch in self.state.batches.items():
            for actor in (order.student, order.tutor, self.world.relayers[0]):
                rules = RULES.get((name, role_of(name, actor, order)), {})
                windows = {i: rules[s](order.slots[i], periods) for i, s in batch.items() if s in rules}
                lessons = {i for i, (first, last) in windows.items() if first - 1 <= self.now <= last + 1}
                lessons = {i for i in lessons if (order, i) not in self.touched}
                if lessons:
                    found.append((order, actor, lessons))
        return found

    def _some_of(self, lessons: Sequence[int]) -> set[int]:
        return self.draw(st.sets(st.sampled_from(lessons), min_size=1)) if lessons else set()

    # --- Time ---

    def moment(self) -> int:
        """A later time: within a second of one at which something becomes possible or impossible.

        Of one of the lessons that are further on, or the next such time of any lesson, or just some time on.
        """
        lessons = list(self.state.lessons())
        farther = [one for one in lessons if one[2] in {CONFIRMED, DISPUTED}]
        if farther and self.once_in(2):
            lessons = [self.pick(farther)]
        periods = self.world.periods(self.which)
        edges: set[int] = set()
        for order, lesson, status in lessons:
            if status in LIVE:
                slot = order.slots[lesson]
                edges |= {slot.start, slot.end}
                edges.update(*(rules[status](slot, periods) for rules in RULES.values() if status in rules))
        near = {edge + second for edge in edges for second in (-1, 0, 1)}
        later = sorted(edge for edge in near if self.now < edge < self.now + 800 * DAY)
        if not later or self.once_in(8):
            return self.now + int(self.draw(st.integers(1, 6 * 60 * 60)))
        return self.pick(later[: self.pick([4, 12, 60])])

"""Moves that Hypothesis draws: mostly what makes sense, and every way to get it wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st

from fuzz.model import (
    CONFIRMED,
    DISPUTED,
    FOREVER,
    LIVE,
    QUARTER,
    RULES,
    Listing,
    Model,
    Order,
    Proof,
    Slot,
    role_of,
)
from fuzz.properties import Act, State, bitmap
from fuzz.signatures import batch_of, sign
from fuzz.world import DAY, HOUR, LISTINGS, MAX, WORD, World

T = TypeVar("T")

ODD_RATES = [10**18 + 7, 61, 59]
"""Three quarters of these, a lesson's amount, have no even split."""
RATES = [35 * 10**18, 35 * 10**18, *ODD_RATES, 1, 2**96 - 1, 0]
DURATIONS = [60, 60, 60, 15, 30, 45, 90, 120, 240, 480]
WRONG_DURATIONS = [0, 495, 510, 960, 3825]
LAST_DEADLINE = 2**40 - 1
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

    def _deadline(self) -> int:
        """The last second of a signature: mostly to come, at times just over."""
        return self.pick([LAST_DEADLINE, self.now + HOUR, self.now, self.now, self.now - 1])

    def _proof(self, actor: str, right: bytes, wrong: bytes, deadline: int = FOREVER) -> tuple[Proof, bytes]:
        """The sender, the true signer, and a signature: of the digest `right`, or of `wrong`, or worse."""
        key = self.world.keys[actor]
        can_send = actor not in self.world.wallets and self.sender in {None, actor}
        kinds = ["send"] * 8 * can_send + ["sign"] * 8
        kinds += ["nobody"] * 2
        if not self.sender:
            kinds += ["forged", *["another"] * 4, "cut", "mirrored"]
        kind = self.pick(kinds)
        if kind == "send":
            return Proof(actor, deadline=deadline), self.pick([b"", b"\1" * 65])
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
        signers = frozenset({actor}) if kind == "sign" else frozenset()
        return Proof(sender, signers, deadline), signature

    # --- Listings ---

    def publish(self, tutor: str | None = None, rate: int | None = None) -> Move:
        tutor, listing = tutor or self.pick(self.world.tutors), self.pick(LISTINGS)
        offer = Listing(
            self.pick(RATES) if rate is None else rate,
            self.draw(st.booleans()),
            self.pick([0, 0, 0, 1, HOUR, DAY]),
            self.pick([0, 0, 0, 7 * DAY, 60 * DAY, 2**32 - 1]),
            self.state.listings[tutor, listing].publications,
        )
        digest, deadline = self.world.domains[self.which].listing, self._deadline()
        wrong = self.pick(
            [
                offer._replace(publications=offer.publications + 1),
                offer._replace(instant=not offer.instant),
                offer._replace(hourly_rate=offer.hourly_rate ^ 1),
                offer._replace(min_notice=offer.min_notice ^ 1),
                offer._replace(horizon=offer.horizon ^ 1),
            ]
        )
        digests = digest(tutor, listing, offer, deadline), digest(tutor, listing, wrong, deadline)
        proof, signature = self._proof(tutor, *digests, deadline)
        if (tutor, listing) in self.published:  # in this transaction: the signed nonce is used
            proof = proof._replace(signers=frozenset())
        if tutor in {proof.sender, *proof.signers}:
            self.published.add((tutor, listing))
        return Move(
            Act("publish", tutor, proof, listing=listing, offer=offer),
            "publish",
            (tutor, listing, *offer[:4], deadline, signature),
            lambda model: model.publish(tutor, listing, offer, self.now, proof),
        )

    # --- Orders ---

    def create(self, order: Order | None = None) -> Move:
        """Draws this order, or one that exists, or mostly a new one."""
        if order is None:
            order = self.pick(self.orders) if self.orders and self.once_in(12) else self._order()
        self.fresh.append(order)
        domain = self.world.domains[self.which]
        another = domain.order(order._replace(salt=b"\xee" * 32))
        proof, signature = self._proof(order.student, domain.order(order), another)
        act = Act("create", order.student, proof, order)

        def predict(model: Model) -> object:
            return (batch_of(order), bitmap(model.create(order, self.now, proof)))

        if self.once_in(6):
            return self._with_permit(act, signature, predict)
        return Move(act, "createBookings", (order.abi, signature), predict)

    def create_by_permit(self, order: Order) -> Move:
        """A relayer books what lives by its permit alone, which is of exactly the total."""
        student = order.student
        signature = sign(self.world.keys[student], self.world.domains[self.which].order(order))
        proof = Proof(self.sender or self.pick(self.world.relayers), frozenset({student}))
        act = Act("create", student, proof, order)

        def predict(model: Model) -> object:
            return (batch_of(order), bitmap(model.create(order, self.now, proof)))

        return self._with_permit(act, signature, predict, valid=True)

    def _with_permit(
        self, act: Act, signature: bytes, predict: Callable[[Model], object], *, valid: bool = False
    ) -> Move:
        """The same with a permit, which counts if the student's key signed it, for this time and nonce."""
        assert act.order is not None
        student, escrow = act.order.student, self.world.escrows[self.which].address
        value = self.pick([MAX, act.order.total(range(len(act.order.slots))), 1])
        deadline = self.pick([MAX, self.now, self.now - 1])
        nonce = self.world.permits(student) + self.pick([0, 0, 0, 1])
        signer = self.pick([student, student, student, *self.world.people])
        if valid:
            value, deadline = act.order.total(range(len(act.order.slots))), MAX
            nonce, signer = self.world.permits(student), student
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
        return Move(act, "createBookingsWithPermit", (act.order.abi, signature, permit), predict_both)

    def _order(self, of: str | None = None) -> Order:
        """For any tutor, or this one."""
        listings = [offer for offer in self.state.listings if of in {None, offer[0]}]
        offered = [offer for offer in listings if self.state.listings[offer].hourly_rate]
        if not offered or self.once_in(20):
            offered = listings
        tutor, listing = self.pick(offered)
        rate = self.state.listings[tutor, listing].hourly_rate
        own_time = self.once_in(10)
        slots = self._slots()
        horizon = self.state.listings[tutor, listing].horizon
        if slots and 0 < horizon < 90 * DAY and self.once_in(3):  # around the last start that it allows
            edge = (self.now + horizon) // QUARTER + self.pick([0, 1])
            later = edge * QUARTER - slots[0].start
            slots = tuple(Slot(start + later, minutes) for start, minutes in slots)
        return Order(
            student=tutor if own_time else self.pick(self.world.students),
            tutor=tutor,
            listing=listing,
            hourly_rate=self.pick(RATES) if self.once_in(20) else 0 if own_time else rate,
            min_lessons=self._least(len(slots)),
            deadline=self.pick([self.now - 1, self.now]) if self.once_in(6) else self.now + 30 * DAY,
            salt=self.draw(st.integers(0, 3)).to_bytes(32),
            slots=slots,
        )

    def affordable(self, *, odd: bool = False) -> Order | None:
        """Two lessons that nobody has taken, of a student who has a key and money."""
        rich = [
            one
            for one in self.world.students
            if one not in self.world.wallets and self.state.money[one] > 10**30
        ]
        offered = [
            (offer, listing)
            for offer, listing in self.state.listings.items()
            if (not odd or listing.hourly_rate in ODD_RATES)
            and 0 < listing.hourly_rate < 2**90
            and listing.horizon == 0
            and listing.min_notice <= DAY
        ]
        students = [(one, pair) for one in rich for pair in offered if pair[0][0] != one]
        if not students:
            return None
        student, ((tutor, name), listing) = self.pick(students)
        start = (self.now // QUARTER // WORD + 3) * WORD + self.draw(st.integers(0, 40))
        slots = tuple(Slot((start + place) * QUARTER, 45) for place in (0, 8))
        salt = self.draw(st.integers(10, 99)).to_bytes(32)
        deadline = self.now + 30 * DAY
        return Order(student, tutor, name, listing.hourly_rate, 1, deadline, salt, slots)

    def _least(self, count: int) -> int:
        """One, or all, or some; at times what no order can ask for."""
        if self.once_in(20):
            return int(self.pick([0, count + 1, 255]))
        return int(self.pick([1, max(count, 1), self.draw(st.integers(1, max(count, 1)))]))

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
            present = self.now // QUARTER * QUARTER
            wrong = [Slot(present, minutes), Slot(start - 8 * DAY, minutes), Slot(start + 90 * DAY, minutes)]
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
        strict = self.once_in(3)
        least = len(slots) if strict else self.pick([len(slots) - 1, self.draw(st.integers(1, len(slots)))])
        return self._order(order.tutor)._replace(slots=tuple(slots), min_lessons=least)

    def across_a_word(self, order: Order, lesson: int) -> Order:
        """For the same tutor: begins in the calendar word before this lesson's and ends in it."""
        word, place = divmod(order.slots[lesson].start // QUARTER, WORD)
        slot = Slot((word * WORD - 1) * QUARTER, 15 * (place + 2))
        return self._order(order.tutor)._replace(slots=(slot,), min_lessons=1)

    # --- The life of a lesson ---

    def possible(self) -> list[str]:
        """The acts that are possible now, the rarer ones more often."""
        names = ["confirm"] * 2 + ["cancel", "complete"] + ["dispute"] * 4
        names += ["resolve"] * 3 + ["settle"] * 2
        return [name for name in names if self._possible(name)]

    def name(self) -> str:
        """Of an act that is possible, or of another."""
        everything = ["confirm", "cancel", "complete", "dispute", "resolve", "settle"]
        return self.pick(everything if self.once_in(6) else self.possible() or everything)

    def act(self, name: str, chosen: tuple[Order, str, set[int]] | None = None) -> Move:
        """An act on lessons of an order that exists, or is created in the same transaction."""
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
            return self.resolve(order, lessons)
        if name == "settle":
            return self.settle(order, lessons)

        domain, number, deadline = self.world.domains[self.which], bitmap(lessons), self._deadline()
        right = domain.act(name, order, number, deadline)
        wrong = (
            domain.act(name, order, number ^ 1, deadline),
            domain.act(name, order, number, deadline - 1),
            *[domain.act("complete", order, number, deadline)] * 6,  # The likeliest mistake.
            domain.order(order),
        )
        another = self.pick([digest for digest in wrong if digest != right])
        proof, signature = self._proof(actor, right, another, deadline)
        named = (actor,) if name in {"cancel", "complete"} else ()
        return Move(
            Act(name, actor, proof, order, frozenset(lessons)),
            name,
            (order.abi, number, *named, deadline, signature),
            lambda model: model.act(name, order, lessons, self.now, actor, proof),
        )

    def resolve(
        self, order: Order, lessons: set[int], sender: str | None = None, share: int | None = None
    ) -> Move:
        """By the arbiter, or by anybody, mostly with the default share then."""
        if sender is None:
            sender = self.sender or self.pick([self.state.arbiter, self.pick(self.world.senders)])
        if share is None:
            default = self.world.periods(self.which).default_share
            chooses = sender == self.state.arbiter or self.once_in(6)
            share = self.pick(SHARES) if chooses else default
        proof = Proof(sender)
        return Move(
            Act("resolve", sender, proof, order, frozenset(lessons), share=share),
            "resolve",
            (order.abi, bitmap(lessons), share),
            lambda model: model.act("resolve", order, lessons, self.now, sender, proof, share),
        )

    def settle(self, order: Order, lessons: set[int]) -> Move:
        """One party sends what the other signed, or anybody what both did; at times one did not."""
        share, deadline, number = self.pick(SHARES), self._deadline(), bitmap(lessons)
        digest = self.world.domains[self.which].settle
        parties = (order.student, order.tutor)
        can_send = [party for party in parties if party not in self.world.wallets]
        sender = self.sender or self.pick([*can_send, self.pick(self.world.senders)])
        signers, others, signatures = set(), set(), []
        for party in parties:
            signed = self.pick(
                ["right", "right", "right", "right", "right", "other share", "other", "nobody"]
            )
            key = self.world.keys[party]
            if signed == "right":
                signers.add(party)
                signatures.append(sign(key, digest(order, number, share, deadline)))
            elif signed == "other share":
                others.add(party)
                signatures.append(sign(key, digest(order, number, share ^ 1, deadline)))
            elif signed == "other":
                signatures.append(sign(self.world.keys[sender], digest(order, number, share, deadline)))
                (signers if self.world.keys[sender] == key else others).add(party)
            else:
                others.add(party)
                signatures.append(b"")
        # A tutor who is the student signs twice, and both count.
        proof = Proof(sender, frozenset(signers - others), deadline)
        return Move(
            Act("settle", sender, proof, order, frozenset(lessons), share=share),
            "settle",
            (order.abi, number, share, deadline, *signatures),
            lambda model: model.act("settle", order, lessons, self.now, sender, proof, share),
        )

    # --- Other calls ---

    def revoke(self, order: Order | None = None) -> Move:
        """Of this order; or of one that exists already, or of another, which is then never created."""
        if order is None:
            order = self.pick(self.orders) if self.orders and self.once_in(4) else self._order()
        domain, deadline = self.world.domains[self.which], self._deadline()
        digests = domain.revoke(order, deadline), domain.revoke(order, deadline - 1)
        proof, signature = self._proof(order.student, *digests, deadline)
        return Move(
            Act("revoke", order.student, proof, order),
            "revoke",
            (order.abi, deadline, signature),
            lambda model: model.revoke(order, self.now, proof),
        )

    def withdraw(self) -> Move:
        """Of an account that has a credit, mostly, to anyone."""
        with_credit = [person for person, amount in self.state.credits.items() if amount]
        account = self.pick(with_credit or self.world.people)
        to = self.pick([*self.world.people, self.world.escrows[self.which].address])
        digest, deadline = self.world.domains[self.which].withdraw, self._deadline()
        other = digest(account, self.world.relayers[0], deadline - 1)
        proof, signature = self._proof(account, digest(account, to, deadline), other, deadline)
        return Move(
            Act("withdraw", account, proof, to=to),
            "withdraw",
            (account, to, deadline, signature),
            lambda model: (model.withdraw(account, to, self.now, proof),),
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
            for actor in (order.student, order.tutor, self.world.relayers[0], self.state.arbiter):
                rules = RULES.get((name, role_of(name, actor, order, self.state.arbiter)), {})
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

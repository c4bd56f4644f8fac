"""The state machine: one random life for the escrow and its model, and what is checked after every step."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from fuzz.model import (
    CONFIRMED,
    DISPUTED,
    FOREVER,
    LIVE,
    PENDING,
    QUARTER,
    RULES,
    Model,
    Order,
    Proof,
    Refused,
    Window,
    role_of,
)
from fuzz.moves import Move, Moves
from fuzz.node import Json, Log, Reverted, transaction
from fuzz.properties import CHECKS, MOVES, Act, State, Step, bitmap, bits, named, require
from fuzz.signatures import batch_of
from fuzz.world import MAX, PERIODS, START, WORD, World

PHASES = (Phase.generate, Phase.shrink)
EVERYTHING = frozenset(range(8))
"""Properties 1 to 7, and 0: the contract does what the model says, to each error and event."""


STEPS = {
    "publish": 1,
    "create": 3,
    "compete": 6,
    "act": 3,
    "quarrel": 4,
    "split_oddly": 7,
    "book_again": 3,
    "at_the_edge": 10,
    "ignore_the_status": 6,
    "several_together": 2,
    "wait": 2,
    "approve": 1,
    "change_the_arbiter": 2,
    "revoke": 2,
    "withdraw": 2,
    "block": 2,
    "live_by_permit": 2,
    "mix_times": 3,
    "end_at_a_taken_word": 2,
    "decide_too_soon": 2,
    "decide_on_themselves": 2,
    "change_their_mind": 4,
    "take_an_entry": 10,
    "be_credited": 1,
}
"""Moves, and how often each is made compared with the rest."""
OF_LESSONS = {"act", "book_again", "at_the_edge", "ignore_the_status", "mix_times", "end_at_a_taken_word"}
"""Moves that take a lesson that is live."""


class EscrowMachine(RuleBasedStateMachine):
    """A life of many steps. `world` and `checking` are set by whoever runs it."""

    world: ClassVar[World]
    checking: ClassVar[frozenset[int]] = EVERYTHING
    tally: ClassVar[Counter[tuple[str, str]]]
    seen: ClassVar[Counter[object]]
    """The number of times that each entry of the table was done, and that each rare case happened."""

    @initialize(data=st.data(), which=st.integers(0, len(PERIODS) - 1))
    def start(self, data: Any, which: int) -> None:
        self.which, self.escrow = which, self.world.escrows[which]
        self.snapshot = self.world.node.rpc("evm_snapshot")
        self.now = START
        self.model = self.world.model(which)
        self.orders: dict[bytes, Order] = {}
        self.owed: dict[bytes, dict[int, int]] = {}
        self.state = self.read()
        for tutor in self.world.tutors:  # most offer something from the beginning
            self.attempt(self.moves(data).publish(tutor))

    def teardown(self) -> None:
        if hasattr(self, "snapshot"):
            self.world.node.set_back(self.snapshot)

    # --- Steps ---

    @rule(data=st.data())
    def step(self, data: Any) -> None:
        """One of the things below. Of separate rules, Hypothesis would leave out some in each life."""
        kind = self.moves(data).pick([kind for kind, times in STEPS.items() for _ in range(times)])
        if kind in OF_LESSONS and not self.some_live():
            kind = "create"
        getattr(self, kind)(data)

    def publish(self, data: Any) -> None:
        self.attempt(self.moves(data).publish())

    def create(self, data: Any) -> None:
        self.attempt(self.moves(data).create())

    def act(self, data: Any) -> None:
        moves = self.moves(data)
        self.attempt(moves.act(moves.name()))

    def quarrel(self, data: Any) -> None:
        """A lesson is disputed in its time, and perhaps decided at once, or somebody acts as if it were not.

        By chance alone that is too rare.
        """
        if not self.disputable():
            self.attempt(self.moves(data).create())
        if not self.disputable():
            return
        self.dispute(data, *self.moves(data).pick(self.disputable()))
        match self.moves(data).pick(["leave it", "resolve", "ignore it", "ignore it"]):
            case "resolve":
                self.attempt(self.moves(data).act("resolve"))
            case "ignore it":
                self.out_of_turn(data, DISPUTED)

    def split_oddly(self, data: Any) -> None:
        """Lessons of one order are disputed together, and split so that rounding their sum would show."""
        moves = self.moves(data)
        order = moves.affordable(odd=True)
        if order is None:
            self.attempt(moves.publish(rate=61))
            return
        self.attempt(moves.create(order))
        batch = self.state.batches.get(order, {})
        for name, actor, status in (("confirm", order.tutor, PENDING), ("dispute", order.student, CONFIRMED)):
            lessons = {lesson for lesson, actual in batch.items() if actual == status}
            if lessons:
                if name == "dispute":
                    self.now = max(self.now, *(order.slots[lesson].start for lesson in lessons))
                self.attempt(self.moves(data).act(name, (order, actor, lessons)))
                batch = self.state.batches[order]
        disputed = {lesson for lesson, actual in batch.items() if actual == DISPUTED}
        if disputed:
            moves = self.moves(data)
            share = moves.pick([3_333, 9_999])
            if self.state.arbiter in {order.student, order.tutor} or moves.once_in(2):
                self.attempt(moves.settle(order, disputed))
            else:
                self.attempt(moves.resolve(order, disputed, self.state.arbiter, share))

    def compete(self, data: Any) -> None:
        """Books beside or over a lesson that is still to come."""
        if not self.upcoming():
            self.attempt(self.moves(data).create())
        if self.upcoming():
            moves = self.moves(data)
            self.attempt(moves.create(moves.rival(*moves.pick(self.upcoming()))))

    def book_again(self, data: Any) -> None:
        """The tutor calls off all of an order's lessons, and the same order is created once more."""
        order = self.moves(data).pick([order for order, _, status in self.state.lessons() if status in LIVE])
        live = {lesson for lesson, status in self.state.batches[order].items() if status in LIVE}
        self.attempt(self.moves(data).act("cancel", (order, order.tutor, live)))
        self.attempt(self.moves(data).create(order))

    def at_the_edge(self, data: Any) -> None:
        """Acts in the first or the last second for it, or in the one before or after: each as often."""
        too_late = self.moves(data).once_in(3)
        edges: dict[tuple[str, str, int, int], list[tuple[Order, int, int]]] = {}
        for order, lesson, status in self.state.lessons():
            for (name, role), rules in RULES.items():
                window = rules[status](order.slots[lesson], PERIODS[self.which]) if status in rules else ()
                for place, edge in enumerate(window):
                    if edge not in {0, FOREVER} and (edge >= self.now or too_late):
                        edges.setdefault((name, role, status, place), []).append((order, lesson, edge))
        if edges:
            moves = self.moves(data)
            name, role, status, place = moves.pick(sorted(edges))
            order, lesson, edge = moves.pick(edges[name, role, status, place])
            self.now = max(self.now, edge + moves.pick([[-1, -1, 0], [0, 1, 1]][place]))
            self.attempt(self.moves(data).act(name, (order, self.actor(role, order), {lesson})))

    def ignore_the_status(self, data: Any) -> None:
        statuses = {status for _, _, status in self.state.lessons()}
        self.out_of_turn(data, self.moves(data).pick(sorted(statuses)))

    def out_of_turn(self, data: Any, status: int) -> None:
        """Tries what this status forbids, at a time at which another status would allow it."""
        moves = self.moves(data)
        lessons = [(order, lesson) for order, lesson, actual in self.state.lessons() if actual == status]
        if not lessons:
            return
        order, lesson = moves.pick(lessons)
        forbidden = [(act, rules) for act, rules in RULES.items() if status not in rules]
        (name, role), rules = moves.pick(forbidden)
        first, last = moves.pick(list(rules.values()))(order.slots[lesson], PERIODS[self.which])
        if self.now <= last:
            self.now = max(self.now, first)
        self.attempt(self.moves(data).act(name, (order, self.actor(role, order), {lesson})))

    def several_together(self, data: Any) -> None:
        """Several acts, of several people, in one transaction: all or none, or as many as can be done."""
        moves = self.moves(data)
        moves.sender = moves.pick(self.world.senders)
        drawn = []
        for _ in range(data.draw(st.integers(1, 4))):
            kinds = ["create", "publish"] + ["act"] * 5 * bool(moves.possible())
            kinds += ["act"] * bool(moves.fresh or self.state.batches)
            match moves.pick(kinds):
                case "create":
                    drawn.append(moves.create())
                case "publish":
                    drawn.append(moves.publish())
                case _:
                    drawn.append(moves.act(moves.name()))
        self.attempt(*drawn, how=moves.pick(["multicall", "tryMulticall"]))

    def revoke(self, data: Any) -> None:
        """A student takes an order back; at times somebody tries to create it all the same."""
        moves = self.moves(data)
        order = moves.affordable() if moves.once_in(2) else None
        self.attempt(moves.revoke(order))
        if order is not None:
            self.attempt(self.moves(data).create(order))

    def withdraw(self, data: Any) -> None:
        self.attempt(self.moves(data).withdraw())

    def block(self, data: Any) -> None:
        """The token pays somebody no more, or pays them again."""
        moves = self.moves(data)
        person = moves.pick([*self.world.students, *self.world.tutors])
        blocked = person not in self.state.blocked
        call = self.world.token.transaction(self.world.relayers[0], "setBlocked", person, blocked)
        self.perform(call, [Act("block", person, Proof(person))], lambda model: model.block(person, blocked))

    def live_by_permit(self, data: Any) -> None:
        """A student allows nothing, and a relayer books with a permit of exactly the total."""
        moves = self.moves(data)
        order = moves.affordable()
        if order is None:
            return
        student = order.student
        call = self.world.token.transaction(student, "approve", self.escrow.address, 0)
        self.perform(call, [Act("approve", student, Proof(student))], lambda model: model.approve(student, 0))
        self.attempt(self.moves(data).create_by_permit(order))

    def mix_times(self, data: Any) -> None:
        """Acts on lessons of one status, of which some are due and others are not."""
        moves = self.moves(data)
        choices = []
        for order, batch in self.state.batches.items():
            for (name, role), rules in RULES.items():
                for status, window in rules.items():
                    edges: dict[int, Window] = {
                        lesson: window(order.slots[lesson], PERIODS[self.which])
                        for lesson, actual in batch.items()
                        if actual == status
                    }
                    times = sorted({edge for pair in edges.values() for edge in pair} - {0, FOREVER})
                    times = [time for time in times if time >= self.now]
                    if len(edges) > 1 and len(times) > 1:
                        choices.append((order, name, role, set(edges), times[:-1]))
        if choices:
            order, name, role, lessons, times = moves.pick(choices)
            self.now = moves.pick(times)
            if name == "resolve":
                default = PERIODS[self.which].default_share
                sender = self.state.arbiter if role == "arbiter" else self.world.relayers[0]
                self.attempt(self.moves(data).resolve(order, lessons, sender, default))
            else:
                self.attempt(self.moves(data).act(name, (order, self.actor(role, order), lessons)))

    def end_at_a_taken_word(self, data: Any) -> None:
        """Books a lesson of whose time only the part in the second word is taken."""
        early = [
            (order, lesson)
            for order, lesson in self.upcoming()
            if order.slots[lesson].start // QUARTER % WORD < 24
            and order.slots[lesson].start // QUARTER // WORD * WORD * QUARTER > self.now + QUARTER
        ]
        if not early:
            start = (self.now // QUARTER // WORD + 2) * WORD * QUARTER
            moves = self.moves(data)
            order = moves.affordable()
            if order is None:
                return
            order = order._replace(slots=(order.slots[0]._replace(start=start, minutes=30),), min_lessons=1)
            self.attempt(moves.create(order))
            early = [(order, 0)] if order in self.state.batches else []
        if early:
            moves = self.moves(data)
            self.attempt(moves.create(moves.across_a_word(*moves.pick(early))))

    def decide_too_soon(self, data: Any) -> None:
        """The arbiter names a successor, who resolves before they have accepted."""
        successor = self.moves(data).pick([one for one in self.world.arbiters if one != self.state.arbiter])
        if disputed := self.one_disputed(data, without=successor):
            self.say_of_the_arbiter("hand over", successor, self.state.arbiter)
            self.choose_the_share(data, disputed, successor)

    def decide_on_themselves(self, data: Any) -> None:
        """A party of a disputed lesson becomes the arbiter, and resolves."""
        party = self.world.arbiters[-1]
        if disputed := self.one_disputed(data, of=party):
            if self.state.arbiter != party:
                self.say_of_the_arbiter("hand over", party, self.state.arbiter)
                self.say_of_the_arbiter("accept", party, party)
            self.choose_the_share(data, disputed, party)

    def choose_the_share(self, data: Any, disputed: tuple[Order, int], sender: str) -> None:
        share = (PERIODS[self.which].default_share + 1) % 10_001
        self.attempt(self.moves(data).resolve(disputed[0], {disputed[1]}, sender, share))

    def one_disputed(self, data: Any, of: str = "", without: str = "") -> tuple[Order, int] | None:
        """A disputed lesson with this party, or without them. If there is none, one is disputed now."""

        def fits(order: Order) -> bool:
            parties = {order.student, order.tutor}
            return (not of or of in parties) and without not in parties

        for _ in range(2):
            disputed = [(o, i) for o, i, status in self.state.lessons() if status == DISPUTED and fits(o)]
            if disputed:
                return self.moves(data).pick(disputed)
            found = [(order, lesson, status) for order, lesson, status in self.disputable() if fits(order)]
            if not found:
                break
            self.dispute(data, *self.moves(data).pick(found))
        self.create(data)
        return None

    def dispute(self, data: Any, order: Order, lesson: int, status: int) -> None:
        """A lesson is confirmed if it is not yet, and disputed in its time."""
        if status == PENDING:
            self.attempt(self.moves(data).act("confirm", (order, order.tutor, {lesson})))
        first, last = self.when_disputable(order, lesson)
        self.now = max(self.now, self.moves(data).pick([first, last, (first + last) // 2]))
        self.attempt(self.moves(data).act("dispute", (order, order.student, {lesson})))

    def change_their_mind(self, data: Any) -> None:
        """A student calls off a lesson that is to come, once it is confirmed and too late for that."""
        found = []
        for order, lesson in self.upcoming():
            _, last = RULES["cancel", "student"][CONFIRMED](order.slots[lesson], PERIODS[self.which])
            if last + 1 < order.slots[lesson].start and self.state.batches[order][lesson] != DISPUTED:
                found.append((order, lesson, last))
        if not found:
            self.create(data)
            return
        order, lesson, last = self.moves(data).pick(found)
        if self.state.batches[order][lesson] == PENDING:
            self.attempt(self.moves(data).act("confirm", (order, order.tutor, {lesson})))
        if self.state.batches[order][lesson] == CONFIRMED:
            self.now = max(self.now, last + 1)
            self.attempt(self.moves(data).act("cancel", (order, order.student, {lesson})))

    def take_an_entry(self, data: Any) -> None:
        """Any entry of the table as often as any other: all lessons of an order that it allows."""
        entries: dict[tuple[str, str, int], list[tuple[Order, int]]] = {}
        for order, lesson, status in self.state.lessons():
            for (name, role), rules in RULES.items():
                if status in rules:
                    first, last = rules[status](order.slots[lesson], PERIODS[self.which])
                    if self.now <= last:
                        entries.setdefault((name, role, status), []).append((order, max(first, self.now)))
        if not entries:
            self.create(data)
            return
        moves = self.moves(data)
        name, role, status = moves.pick(sorted(entries))
        order, self.now = moves.pick(entries[name, role, status])
        windows = {
            lesson: RULES[name, role][status](order.slots[lesson], PERIODS[self.which])
            for lesson, actual in self.state.batches[order].items()
            if actual == status
        }
        lessons = {lesson for lesson, (first, last) in windows.items() if first <= self.now <= last}
        if name == "resolve":
            default = PERIODS[self.which].default_share
            share = self.moves(data).pick([default, 3_333, 9_999])
            sender = self.actor(role, order)
            self.attempt(self.moves(data).resolve(order, lessons, sender, share))
        else:
            self.attempt(self.moves(data).act(name, (order, self.actor(role, order), lessons)))

    def be_credited(self, data: Any) -> None:
        """The token pays a student no more when a lesson is called off; then they have it paid elsewhere."""
        lessons = [
            (order, lesson)
            for order, lesson, status in self.state.lessons()
            if status in LIVE and order.student != order.tutor and order.amount(lesson)
        ]
        if not lessons:
            self.create(data)
            return
        order, lesson = self.moves(data).pick(lessons)
        if order.student not in self.state.blocked:
            call = self.world.token.transaction(self.world.relayers[0], "setBlocked", order.student, True)
            person = order.student
            act = Act("block", person, Proof(person))
            self.perform(call, [act], lambda model: model.block(person, True))
        self.attempt(self.moves(data).act("cancel", (order, order.tutor, {lesson})))
        for _ in range(4):
            if self.state.credits[order.student]:
                self.attempt(self.moves(data).withdraw())

    def wait(self, data: Any) -> None:
        self.now = self.moves(data).moment()
        self.tally["wait", "done"] += 1

    def approve(self, data: Any) -> None:
        person = self.moves(data).pick(self.world.students[:4])
        value = self.moves(data).pick([MAX, MAX, 10**20, 0])
        call = self.world.token.transaction(person, "approve", self.escrow.address, value)
        self.perform(
            call, [Act("approve", person, Proof(person))], lambda model: model.approve(person, value)
        )

    def change_the_arbiter(self, data: Any) -> None:
        """The arbiter names a successor, who accepts; or one of the two alone; or the arbiter leaves."""
        successor = self.moves(data).pick(self.world.arbiters)
        for kind in self.moves(data).pick([["hand over", "accept"], ["hand over"], ["accept"], ["renounce"]]):
            entitled = successor if kind == "accept" else self.state.arbiter
            self.say_of_the_arbiter(
                kind, successor, self.moves(data).pick([entitled] * 20 + self.world.senders)
            )

    def say_of_the_arbiter(self, kind: str, successor: str, sender: str) -> None:
        function, *arguments = {
            "hand over": ("transferOwnership", successor),
            "accept": ("acceptOwnership",),
            "renounce": ("renounceOwnership",),
        }[kind]
        predictions: dict[str, Callable[[Model], object]] = {
            "hand over": lambda model: model.hand_over(successor, sender),
            "accept": lambda model: model.accept(sender),
            "renounce": lambda model: model.renounce(),
        }
        call = self.escrow.transaction(sender, function, *arguments)
        self.perform(call, [Act(kind, sender, Proof(sender))], predictions[kind])

    # --- How a step is taken ---

    def moves(self, data: Any) -> Moves:
        return Moves(data.draw, self.world, self.which, self.state, list(self.orders.values()), self.now)

    def attempt(self, *moves: Move, how: str = "") -> None:
        """One call, or several in a multicall, of which all must be possible or some."""
        orders = {batch_of(move.act.order): move.act.order for move in moves if move.act.order}
        if orders.keys() - self.orders.keys():
            self.orders |= orders
            self.state = self.read()
        calls = [self.escrow.data(move.function, *move.arguments) for move in moves]
        data = self.escrow.data(how, calls) if how else calls[0]

        def results(answer: bytes) -> list[object]:
            answers = self.escrow.decode(how, answer)[0] if how else [answer]
            if how == "tryMulticall":
                return [
                    (done, self.escrow.decode(move.function, one) or None if done else one)
                    for move, (done, one) in zip(moves, answers, strict=True)
                ]
            return [self.escrow.decode(m.function, a) or None for m, a in zip(moves, answers, strict=True)]

        def predict(model: Model) -> object:
            if how == "tryMulticall":
                return [self.tried(model, place, move) for place, move in enumerate(moves)]
            return [move.predict(model) for move in moves]

        def acts(answer: bytes) -> list[Act]:
            if how != "tryMulticall":
                return [move.act for move in moves]
            done = [success for success, _ in self.escrow.decode(how, answer)[0]]
            self.seen["some calls failed, and others went on"] += len(set(done)) > 1
            return [move.act for move, success in zip(moves, done, strict=True) if success]

        call = transaction(moves[0].act.proof.sender, self.escrow.address, data)
        self.perform(call, [move.act for move in moves], predict, results, acts)

    def tried(self, model: Model, place: int, move: Move) -> tuple[bool, object]:
        """Does one call of `tryMulticall` to the model: all, or nothing but an event that says why."""
        trial = copy_of(model)
        try:
            result = move.predict(trial)
        except Refused as refused:
            reason = self.world.codec.reason(*told(refused.args))
            model.events.append(("CallFailed", place, reason))
            return False, reason
        trial.events = model.events + trial.events
        vars(model).update(vars(trial))
        return True, result

    def perform(
        self,
        call: Json,
        acts: list[Act],
        predict: Callable[[Model], object],
        results: Callable[[bytes], object] = lambda _: None,
        done: Callable[[bytes], list[Act]] | None = None,
    ) -> None:
        """One transaction: first as a call, to learn what it says; then, if it is allowed, for good."""
        refusal, answer = None, b""
        try:
            answer = self.world.node.call(call, self.now)
        except Reverted as reverted:
            refusal = self.world.codec.error(reverted.data)
        kind = acts[0].name if len(acts) == 1 else "several together"
        self.tally[kind, "done" if refusal is None else str(refusal[0])] += 1
        if refusal is not None and len(acts) == 1:
            self.note_refusal(acts[0], refusal)

        model = copy_of(self.model)
        if 0 in self.checking:
            try:
                predicted = predict(model)
            except Refused as refused:
                require(refusal == told(refused.args), "refusal", refusal, "expected", told(refused.args))
            else:
                require(refusal is None, "refused", refusal, "though the model allows it", acts)
                require(results(answer) == predicted, "result", results(answer), "expected", predicted)
        if refusal is None:
            receipt = self.world.node.send(call, self.now)
            require(receipt["status"] == "0x1", "failed, though the same call passed", acts)
            acts = done(answer) if done else acts
            logs = self.world.codec.logs(receipt["logs"])
            self.note_done(acts, logs)
            self.check(acts, logs, model)

    def note_refusal(self, act: Act, refusal: tuple[Any, ...]) -> None:
        """Counts the rare cases that are refused."""
        match refusal:
            case (("TooEarly" | "TooLate"), lesson, _, _) if lesson > min(act.lessons):
                self.seen["the first named lesson is in time, a later one is not"] += 1
            case "SlotTaken", lesson, _ if act.order:
                quarters = act.order.slots[lesson].quarters
                first = {quarter for quarter in quarters if quarter // WORD == min(quarters) // WORD}
                free = first.isdisjoint(self.state.calendars[act.order.tutor])
                self.seen["only the part in the second word is taken"] += free
            case (("TooEarly" | "ShareNotDefault"), *_) if self.decides_on_themselves(act):
                self.seen["an arbiter decides on themselves"] += 1
            case "ShareNotDefault", _, _:
                successor = act.proof.sender == self.model.next_arbiter
                self.seen["a successor resolves before accepting"] += successor
            case "TooFewFree", free, _:
                self.seen["some are free, but too few"] += free > 0
            case "SignatureExpired", _, _:
                self.seen["a signature comes too late"] += 1
            case "Blocked", _:
                self.seen["a credit is not paid either"] += 1

    def decides_on_themselves(self, act: Act) -> bool:
        parties = {act.order.student, act.order.tutor} if act.order else set()
        return (
            act.name == "resolve" and act.proof.sender == self.state.arbiter and self.state.arbiter in parties
        )

    def note_done(self, acts: list[Act], logs: list[Log]) -> None:
        """Counts the entries of the table, and the rare cases that succeed."""
        arbiter = self.state.arbiter
        for act in acts:
            order, sender = act.order, act.proof.sender
            if act.name in MOVES and order:
                role = role_of(act.name, act.actor, order, arbiter)
                for lesson in act.lessons:
                    self.seen[act.name, role, self.state.batches.get(order, {}).get(lesson, PENDING)] += 1
                total = order.total(act.lessons) * act.share // 10_000
                each = sum(order.amount(lesson) * act.share // 10_000 for lesson in act.lessons)
                self.seen["each share is rounded, not their sum", act.name] += each != total
            if act.name == "create" and order:
                lives = sender != order.student and self.state.allowance.get(order.student, MAX) == 0
                paid = any(log.name == "Transfer" for log in logs)
                self.seen["a relayed creation lives by its permit"] += lives and paid
                self.seen["a tutor's own time"] += order.student == order.tutor
        for log in logs:
            if log.name == "BookingsCreated":
                order = self.orders[log.arguments[0]]
                left_out = len(order.slots) - len(bits(log.arguments[-3]))
                between = 1 < order.min_lessons < len(order.slots)
                self.seen["some are left out of an order of at least so many"] += bool(left_out and between)
            self.seen[log.name] += 1

    def check(self, acts: list[Act], logs: list[Log], model: Model) -> None:
        """All that must hold after a transaction."""
        before, after = self.state, self.read()
        periods, escrow = PERIODS[self.which], self.escrow.address
        step = Step(escrow, periods, self.now, acts, logs, before, after, self.owed, self.orders)
        for number, check in CHECKS.items():
            if number in self.checking:
                with named(number):
                    check(step)
        if 6 in self.checking:
            with named(6):
                self.world.anyone_ends_it(self.which, after)
        if 0 in self.checking:
            self.model = model
            said = [told(event) for event in model.events]
            require(self.events(logs) == said, "events", logs, "expected", said)
            require(after == self.expected(after), "state", after, "expected", self.expected(after))
        self.state = after

    def actor(self, role: str, order: Order) -> str:
        """The account that has a role in an order. For `anyone` it is another one."""
        people = {"student": order.student, "tutor": order.tutor, "arbiter": self.state.arbiter}
        return people.get(role, self.world.relayers[0])

    def upcoming(self) -> list[tuple[Order, int]]:
        """The lessons that have not begun."""
        lessons = self.state.lessons()
        return [(one, i) for one, i, status in lessons if status in LIVE and one.slots[i].start > self.now]

    def some_live(self) -> bool:
        return any(status in LIVE for _, _, status in self.state.lessons())

    def disputable(self) -> list[tuple[Order, int, int]]:
        """The lessons that can be disputed now or later, some once they are confirmed, and their statuses."""
        return [
            (order, lesson, status)
            for order, lesson, status in self.state.lessons()
            if (status == CONFIRMED and self.now <= self.when_disputable(order, lesson)[1])
            or (status == PENDING and self.now < order.slots[lesson].start)
        ]

    def when_disputable(self, order: Order, lesson: int) -> Window:
        """From when until when its student may dispute a confirmed lesson."""
        return RULES["dispute", "student"][CONFIRMED](order.slots[lesson], PERIODS[self.which])

    def read(self) -> State:
        return self.world.read(self.which, self.orders.values())

    def events(self, logs: list[Log]) -> list[tuple[object, ...]]:
        for log in logs:
            ours = log.name not in {"Transfer", "Approval"}
            require(log.emitter == (self.escrow if ours else self.world.token).address, "emitter", log)
        return [(log.name, *log.arguments) for log in logs]

    def expected(self, actual: State) -> State:
        """The model's state, in the places that were read."""
        model = self.model
        return State(
            arbiter=model.arbiter,
            money={person: model.money[person] for person in actual.money},
            allowance={person: model.allowance[person] for person in actual.allowance},
            listings={offer: model.listings[offer] for offer in actual.listings},
            batches=model.batches,
            created=model.created,
            calendars={tutor: model.calendars[tutor] for tutor in actual.calendars},
            credits={person: model.credits[person] for person in actual.credits},
            blocked=model.blocked,
        )


def told(reason: Iterable[object]) -> tuple[object, ...]:
    """The model's answer in the contract's words: sets are sets of bits."""
    return tuple(bitmap(item) if isinstance(item, set) else item for item in reason)


def copy_of(model: Model) -> Model:
    """So that an act that is refused halfway, in a multicall, leaves no trace. The copy has no events yet."""
    return replace(
        model,
        money=model.money.copy(),
        allowance=model.allowance.copy(),
        credits=model.credits.copy(),
        blocked=model.blocked.copy(),
        listings=model.listings.copy(),
        batches={order: batch.copy() for order, batch in model.batches.items()},
        created=model.created.copy(),
        calendars=defaultdict(set, {tutor: quarters.copy() for tutor, quarters in model.calendars.items()}),
        events=[],
    )


def run(machine: type[EscrowMachine], first_seed: int, steps: int, phases: Sequence[Phase] = PHASES) -> None:
    """Lets machines live until they have taken so many steps together. Raises at the first violation."""
    number = first_seed
    while (left := steps - machine.tally.total()) > 0:
        rounds = settings(
            max_examples=min(100, max(1, left // 80)),
            stateful_step_count=100,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        run_state_machine_as_test(seed(number)(machine), settings=rounds)
        number += 1


def report(tally: Counter[tuple[str, str]]) -> str:
    """A table of the steps of each kind, and of their outcomes."""
    lines = [f"{tally.total()} steps"]
    for kind in sorted({kind for kind, _ in tally}):
        outcomes = [f"{count} {outcome}" for (one, outcome), count in tally.most_common() if one == kind]
        lines.append(f"  {kind}: {', '.join(outcomes)}")
    return "\n".join(lines)

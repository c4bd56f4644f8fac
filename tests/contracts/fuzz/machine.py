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

from fuzz.model import CONFIRMED, DISPUTED, FOREVER, LIVE, PENDING, RULES, Model, Order, Refused, Window
from fuzz.moves import Move, Moves
from fuzz.node import Json, Log, Reverted, transaction
from fuzz.properties import CHECKS, Act, State, Step, bitmap, named, require
from fuzz.world import MAX, PERIODS, START, World

PHASES = (Phase.generate, Phase.shrink)
EVERYTHING = frozenset(range(8))
"""The seven properties, and 0: the contract does what the model says, to each error and event."""


STEPS = {
    "publish": 1,
    "create": 3,
    "compete": 4,
    "act": 3,
    "quarrel": 3,
    "book_again": 3,
    "at_the_edge": 8,
    "ignore_the_status": 1,
    "several_together": 2,
    "wait": 2,
    "approve": 1,
    "change_the_arbiter": 2,
}
"""What is done, and how often compared with the rest."""
OF_LESSONS = {"act", "book_again", "at_the_edge", "ignore_the_status"}
"""What takes a lesson that is live."""


class EscrowMachine(RuleBasedStateMachine):
    """A life of many steps. `world` and `checking` are set by whoever runs it."""

    world: ClassVar[World]
    checking: ClassVar[frozenset[int]] = EVERYTHING
    tally: ClassVar[Counter[tuple[str, str]]]

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
        order, lesson, status = self.moves(data).pick(self.disputable())
        if status == PENDING:
            self.attempt(self.moves(data).act("confirm", (order, order.tutor, {lesson})))
        first, last = self.when_disputable(order, lesson)
        self.now = max(self.now, self.moves(data).pick([first, last, (first + last) // 2]))
        self.attempt(self.moves(data).act("dispute", (order, order.student, {lesson})))
        match self.moves(data).pick(["leave it", "resolve", "ignore it", "ignore it"]):
            case "resolve":
                self.attempt(self.moves(data).act("resolve"))
            case "ignore it":
                self.out_of_turn(data, DISPUTED)

    def compete(self, data: Any) -> None:
        """Somebody books beside or over a lesson that is still to come."""
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
        """Somebody does something within a second of the first or the last time for it, or too late."""
        too_late = self.moves(data).once_in(3)
        edges = [
            ((name, role), (order, self.actor(role, order), {lesson}), edge)
            for order, lesson, status in self.state.lessons()
            for (name, role), rules in RULES.items()
            if status in rules
            for edge in rules[status](order.slots[lesson], PERIODS[self.which])
            if edge not in {0, FOREVER} and (edge >= self.now or too_late)
        ]
        if edges:
            moves = self.moves(data)
            kind = moves.pick(sorted({kind for kind, _, _ in edges}))
            (name, _), chosen, edge = moves.pick([one for one in edges if one[0] == kind])
            self.now = max(self.now, edge + moves.pick([-1, 0, 1]))
            self.attempt(self.moves(data).act(name, chosen))

    def ignore_the_status(self, data: Any) -> None:
        statuses = {status for _, _, status in self.state.lessons()}
        self.out_of_turn(data, self.moves(data).pick(sorted(statuses)))

    def out_of_turn(self, data: Any, status: int) -> None:
        """Somebody does what this status forbids, at a time at which another status would allow it."""
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
        """Several acts, of several people, in one transaction."""
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
        self.attempt(*drawn, together=True)

    def wait(self, data: Any) -> None:
        self.now = self.moves(data).moment()
        self.tally["wait", "done"] += 1

    def approve(self, data: Any) -> None:
        person = self.moves(data).pick(self.world.students[:4])
        value = self.moves(data).pick([MAX, MAX, 10**20, 0])
        call = self.world.token.transaction(person, "approve", self.escrow.address, value)
        self.perform(call, [Act("approve", person, person)], lambda model: model.approve(person, value))

    def change_the_arbiter(self, data: Any) -> None:
        """The arbiter names a successor, who accepts; or one of the two alone; or he wants to leave."""
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
        self.perform(call, [Act(kind, sender, sender)], predictions[kind])

    # --- How a step is taken ---

    def moves(self, data: Any) -> Moves:
        return Moves(data.draw, self.world, self.which, self.state, list(self.orders.values()), self.now)

    def attempt(self, *moves: Move, together: bool = False) -> None:
        """One call, or several in a multicall."""
        orders = {self.name_of(move.act.order): move.act.order for move in moves if move.act.order}
        if orders.keys() - self.orders.keys():
            self.orders |= orders
            self.state = self.read()
        calls = [self.escrow.data(move.function, *move.arguments) for move in moves]
        data = self.escrow.data("multicall", calls) if together else calls[0]

        def results(answer: bytes) -> list[object]:
            answers = self.escrow.decode("multicall", answer)[0] if together else [answer]
            return [self.escrow.decode(m.function, a) or None for m, a in zip(moves, answers, strict=True)]

        self.perform(
            transaction(moves[0].act.sender, self.escrow.address, data),
            [move.act for move in moves],
            lambda model: [move.predict(model) for move in moves],
            results,
        )

    def perform(
        self,
        call: Json,
        acts: list[Act],
        predict: Callable[[Model], object],
        results: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        """One transaction: first as a call, to learn what it says; then, if it is allowed, for good."""
        refusal, answer = None, b""
        try:
            answer = self.world.node.call(call, self.now)
        except Reverted as reverted:
            refusal = self.world.codec.error(reverted.data)
        kind = acts[0].name if len(acts) == 1 else "several together"
        self.tally[kind, "done" if refusal is None else str(refusal[0])] += 1

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
            self.check(acts, self.world.codec.logs(receipt["logs"]), model)

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
                self.world.everybody_gets_his_money_out(self.which, after)
        if 0 in self.checking:
            self.model = model
            said = [told(event) for event in model.events]
            require(self.events(logs) == said, "events", logs, "expected", said)
            require(after == self.expected(after), "state", after, "expected", self.expected(after))
        self.state = after

    def actor(self, role: str, order: Order) -> str:
        """Who has a role in an order. Anyone is somebody else."""
        return {"student": order.student, "tutor": order.tutor}.get(role, self.world.relayers[0])

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

    def name_of(self, order: Order) -> bytes:
        return self.world.domains[self.which].batch(order)

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
        )


def told(reason: Iterable[object]) -> tuple[object, ...]:
    """What the model says in the contract's words: sets are sets of bits."""
    return tuple(bitmap(item) if isinstance(item, set) else item for item in reason)


def copy_of(model: Model) -> Model:
    """So that an act that is refused halfway, in a multicall, leaves no trace. The copy has no events yet."""
    return replace(
        model,
        money=model.money.copy(),
        allowance=model.allowance.copy(),
        listings=model.listings.copy(),
        batches={order: batch.copy() for order, batch in model.batches.items()},
        created=model.created.copy(),
        calendars=defaultdict(set, {tutor: quarters.copy() for tutor, quarters in model.calendars.items()}),
        events=[],
    )


def run(machine: type[EscrowMachine], first_seed: int, steps: int, phases: Sequence[Phase] = PHASES) -> None:
    """Lets machines live until they have taken so many steps together. Raises at the first violation."""
    rounds = settings(
        max_examples=min(100, max(1, steps // 40)),
        stateful_step_count=50,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    number = first_seed
    while machine.tally.total() < steps:
        run_state_machine_as_test(seed(number)(machine), settings=rounds)
        number += 1


def report(tally: Counter[tuple[str, str]]) -> str:
    """How many steps of each kind there were, and what came of them."""
    lines = [f"{tally.total()} steps"]
    for kind in sorted({kind for kind, _ in tally}):
        outcomes = [f"{count} {outcome}" for (one, outcome), count in tally.most_common() if one == kind]
        lines.append(f"  {kind}: {', '.join(outcomes)}")
    return "\n".join(lines)

"""`docs/performance.md` and its plots, made of `bench/results.json`."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
_BEGIN, _END = "<!-- made by make bench -->\n", "\n<!-- end -->"
Section = tuple[str, dict[str, str]]
"""The text of a section, and its plots by file."""


class Bar(NamedTuple):
    """The limit of a ratio, and its meaning."""

    limit: float
    least: bool
    means: str


BARS = {
    "gas10_per_slot_baseline": Bar(20, True, "gas of ten lessons: the old way / `createBookings`"),
    "gas10_struct_batch": Bar(12, True, "gas of ten lessons: a batch of structs / `createBookings`"),
    "gas10_over_floor": Bar(1.17, False, "gas of ten lessons: `createBookings` / the floor"),
    "lps16_over_baseline": Bar(50, True, "lessons a second: 16 clients / the old way, polling by default"),
    "lps16_over_baseline_5ms": Bar(8, True, "lessons a second: 16 clients / the old way, polling every 5 ms"),
    "lps16_over_raw": Bar(0.2, True, "lessons a second: 16 clients / 16 senders of presigned transactions"),
    "p50_over_raw": Bar(10, False, "median time: one client's POST / one presigned transaction and receipt"),
    "requests_idle": Bar(1.5, False, "requests to the node a second: nothing to do, a block every 12 s"),
    "requests_in_flight": Bar(4, False, "requests to the node a second: one batch in flight, likewise"),
    "answer_seconds": Bar(1, False, "seconds from a batch's block to its answer, the longest"),
    "growth_post": Bar(1.3, False, "median time of a POST: 1,000,000 / 10,000 bookings in the store"),
    "growth_list": Bar(1.3, False, "median time of a list: 1,000,000 / 10,000 bookings in the store"),
    "growth_memory": Bar(1.2, False, "memory of the shim: 1,000,000 / 10,000 bookings in the store"),
    "half_open_booking": Bar(2, False, "median time of a POST: after 2,000 half-open connections / without"),
}


def holds(name: str, ratio: float, limits: Mapping[str, float]) -> bool:
    """Return True if a ratio is within its limit."""
    return ratio >= limits[name] if BARS[name].least else ratio <= limits[name]


def write(results: Mapping[str, Any]) -> None:
    """Write the report, its plots and the README's table; what was not measured is left out."""
    for file, content in files(results).items():
        file.write_text(content)


def files(results: Mapping[str, Any]) -> dict[Path, str]:
    """All that is made of the results."""
    parts = [_head(results)]
    made: dict[Path, str] = {}
    sections = (("gas", _gas), ("load", _load), ("node", _node), ("growth", _growth))
    for name, section in (*sections, ("connections", _connections)):
        if name in results:
            text, plots = section(results[name])
            parts.append(text)
            made |= {DOCS / file: plot for file, plot in plots.items()}
    readme = README.read_text()
    if results.keys() >= {"gas", "load"}:
        before, rest = readme.split(_BEGIN)
        _, after = rest.split(_END)
        readme = before + _BEGIN + _headline(results) + _END + after
    return {DOCS / "performance.md": "\n".join(parts), README: readme, **made}


def _headline(results: Mapping[str, Any]) -> str:
    gas, load, ratios = results["gas"]["creation"], results["load"], results["ratios"]
    ours, beside = load["SQLite, one process"], load["beside it"]
    old, many = beside["old way, default polling"], beside["old way, default polling, 16 wallets"]
    lps = ours["16"]["lessons a second"]
    rows = [
        (
            "gas of ten lessons",
            f"{gas['sent, used word']['10']:,}",
            f"{gas['old way']['10']:,}",
            f"{ratios['gas10_per_slot_baseline']:.0f} times less",
        ),
        (
            "lessons a second: 16 clients; the old way, one student",
            f"{lps:,.0f}",
            f"{old['lessons a second']:,.1f}",
            f"{ratios['lps16_over_baseline']:.0f} times as many",
        ),
        (
            "lessons a second: 16 clients; the old way, 16 students at once",
            f"{lps:,.0f}",
            f"{many['lessons a second']:,.0f}",
            f"{lps / many['lessons a second']:.0f} times as many",
        ),
        (
            "until ten lessons are in a block, median",
            f"{ours['1']['p50 ms']:,.0f} ms",
            f"{10 * old['p50 ms']:,.0f} ms",
            f"{10 * old['p50 ms'] / ours['1']['p50 ms']:.0f} times sooner",
        ),
    ]
    return f"\n{_table(('`make bench`', 'Creneau', 'the old way', ''), rows)}\n"


def _head(results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    limits = {name: bar.limit for name, bar in BARS.items()}
    rows = [
        (
            f"`{name}`",
            f"{ratio:.2f}",
            f"{'≥' if BARS[name].least else '≤'} {BARS[name].limit:g}",
            "yes" if holds(name, ratio, limits) else "**no**",
            BARS[name].means,
        )
        for name, ratio in results["ratios"].items()
    ]
    return f"""# Performance

Made by `make bench` on {results["date"]}, all of it in {results["minutes"]:.0f} minutes; the raw figures
are in [bench/results.json](../bench/results.json). Machine: {machine["processor"]}, {machine["cores"]} cores,
{machine["memory GB"]} GB, {machine["system"]}; its load was {machine["load before"]:.1f} before.
Versions: {", ".join(f"{name} {version}" for name, version in versions.items())}.

Times and rates are of this machine, where clients, shim, node and database share the cores. The ratios carry
over better: both sides of each were measured in the same run. `make bench SHORT=1` looks for large losses in
under a minute, as CI does; its limits are in [bench/limits.toml](../bench/limits.toml).

{_table(("Ratio", "Measured", "Bar", "Holds", "What it is"), rows)}
"""


def _gas(raw: Mapping[str, Any]) -> Section:
    creation = raw["creation"]
    counts = list(creation["old way"])
    rows = [(name, *(f"{gas[count]:,}" for count in counts)) for name, gas in creation.items()]
    shown = ("old way", "batch of structs", "sent, used word", "floor, used word")
    plot = _bars("Gas of ten lessons", [(name, creation[name]["10"]) for name in shown])
    acts = [(name, f"{gas:,}") for name, gas in raw["acts"].items()]
    above = creation["sent, used word"]["10"] - creation["floor, used word"]["10"]
    text = f"""## Gas

![Gas of ten lessons](gas.svg)

Whole transactions, intrinsic gas and calldata included.

{_table(("Lessons", *counts), rows)}

- *old way*: `approve` and `createBooking` for each lesson, each stored as a record with the old request's
  fields (`contracts/test/OldBookings.sol`).
- *batch of structs*: one call, one transfer, a record of six words for each lesson, without any text
  (`contracts/test/StructBatch.sol`). Neither of the two guards anything, so both are lower bounds.
- *floor*: calldata packed to the byte, and what makes a batch safe: the hash that binds the terms, the
  published rate, the deadline, free slots ahead, one token pull, one event with the order
  (`contracts/test/Floor.sol`). The {above:,} gas above it for ten lessons are the price of the rest: the
  ABI's words, what a wallet shows, partial orders, lessons across two words, notice and horizon.
- *used word*: the tutor has a lesson within the same 64 hours; *fresh*: the tutor has none yet. The permit is
  not the first one of the account's life.

What brought it there: amounts, times and parties are not stored but bound by one hash and supplied again by
later calls; a batch is one word, whatever its size; the calendar has a bit for each quarter of an hour, so
ten lessons are one word, read and written once; a slot is four bytes, checked and packed for the event in
one loop (about 350 gas a slot); the slots are hashed in one scratch area (about 590 gas a slot). Those two
loops and the reading of a slot are in assembly, in a short function each.

Later acts on all ten lessons at once (`make test` holds these to the unit):

{_table(("Act", "Gas"), acts)}
"""
    return text, {"gas.svg": plot}


def _load(raw: Mapping[str, Any]) -> Section:
    rows, bars = [], []
    for name, its in raw.items():
        if name == "beside it":
            continue
        for clients, one in its.items():
            bars.append((f"{name}, {clients} client{'s' * (clients != '1')}", one["lessons a second"]))
            cpu = one["CPU ms a job"]
            spent = [
                f"{cpu[who]:.1f}" if who in cpu else "" for who in ("shim", "node", "database", "clients")
            ]
            rows.append((name, clients, *_figures(one), *spent, f"{one['cores in use']:.1f}"))
    beside = [(name, *_figures(one)) for name, one in raw["beside it"].items()]
    bars += [(name, one["lessons a second"]) for name, one in raw["beside it"].items()]
    cpu = ("shim", "node", "database", "clients")
    text = f"""## Throughput and waiting times

![Lessons a second](throughput.svg)

Ten lessons a request; a request is answered when its transaction is in a block. The node mines as soon as it
has transactions. Both databases write each commit to the disk. CPU in ms for a batch of ten; SQLite's is the
shim's own.

{_table(("Store", "Clients", "Lessons a second", "p50 ms", "p99 ms", *cpu, "cores in use"), rows)}

Beside SQLite, on the same node and in turns with it. *old way*: one lesson after another from one wallet
(approval, receipt, booking, receipt), because approvals overwrite each other when they are sent in parallel;
with 16 wallets each does so at once; its times are for one lesson. *raw*: the same `createBookings`,
presigned, sent by the same HTTP client as the shim's clients use, and asked for every 5 ms.

{_table(("Way", "Lessons a second", "p50 ms", "p99 ms"), beside)}

{_limit(raw)}
"""
    return text, {"throughput.svg": _bars("Lessons a second", bars)}


def _limit(raw: Mapping[str, Any]) -> str:
    """Return the reason, by the figures, that two processes carry no more."""
    one, two = (raw[f"PostgreSQL, {count}"]["64"] for count in ("one process", "two processes"))
    gain = two["lessons a second"] / one["lessons a second"]
    busy = f"One keeps {one['cores in use']:.1f} cores busy, two {two['cores in use']:.1f}."
    cpu = ", ".join(f"{who} {ms:.1f}" for who, ms in one["CPU ms a job"].items())
    return f"""With 64 clients two processes on PostgreSQL carry {gain:.2f} times what one carries. {busy} In
ms of CPU, a batch takes of one process, the node, the database and the benchmark's own clients: {cpu}.
A process of the shim is one core at most, so a second one is worth what the others leave of the cores."""


def _node(raw: Mapping[str, Any]) -> Section:
    rows = [(name, f"{value:.2f}") for name, value in raw.items()]
    return (
        f"""## Requests to the node

With a block every twelve seconds; a request may have several calls.

{_table(("", "Measured"), rows)}
""",
        {},
    )


def _connections(raw: Mapping[str, Any]) -> Section:
    rows = [(name, f"{value:,.1f}".removesuffix(".0")) for name, value in raw.items()]
    return (
        f"""## Half-open connections

Another process holds them: a third idle, a third with half a header, a third with half a body. Ten lessons a
booking; `/livez` is asked the whole time, and each request is answered.

{_table(("", "Measured"), rows)}
""",
        {},
    )


def _growth(raw: Mapping[str, Any]) -> Section:
    sizes = {f"{int(name.split()[0]):,}": its for name, its in raw.items() if name.endswith("0 bookings")}
    columns = (
        "POST p50 ms",
        "list p50 ms",
        "shim MB",
        "database MB",
        "followed a second",
        "rebuilt a second",
    )
    rows = [(size, *(f"{its[each]:,.1f}" for each in columns)) for size, its in sizes.items()]
    calendar = [(name, f"{value:,.1f}".removesuffix(".0")) for name, value in raw["calendar"].items()]
    plots = {
        "growth-post.svg": _bars(
            "POST p50 in ms, by bookings in the store",
            [(size, its["POST p50 ms"]) for size, its in sizes.items()],
        ),
        "growth-list.svg": _bars(
            "List p50 in ms, by bookings in the store",
            [(size, its["list p50 ms"]) for size, its in sizes.items()],
        ),
    }
    one = raw["blocks every second"]
    lps, p50, p99 = _figures(one)
    text = f"""## Growth

![POST by bookings](growth-post.svg)
![List by bookings](growth-list.svg)

SQLite, one client. For waiting times, memory and the follower the store is filled with copies of a real
batch, of other students and tutors, one a minute; the student who is measured has the same lessons each time.
*followed*: bookings a second that get from the chain into the lists, while the shim runs. *rebuilt*: bookings
a second of `python -m api rebuild`, which drops them all and reads them again; these were all really booked.

{_table(("Bookings", *columns), rows)}

A tutor with a lesson in every hour of ten years but the first two and the last of each 64, beside the first
batch of the tutor's life. A view is `calendar`, asked over HTTP:

{_table(("Calendar of ten years", "Measured"), calendar)}

With a block every second, 64 clients: {lps} lessons a second, p50 {p50} ms, p99 {p99} ms. Waiting for a
block does not hold up the next batch.
"""
    return text, plots


def _figures(one: Mapping[str, float]) -> tuple[str, str, str]:
    lessons = one["lessons a second"]
    return (
        f"{lessons:,.0f}" if lessons >= 20 else f"{lessons:.1f}",
        f"{one['p50 ms']:,.0f}",
        f"{one['p99 ms']:,.0f}",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bars(title: str, bars: Sequence[tuple[str, float]]) -> str:
    """Return a plot of horizontal bars, each with its figure, as SVG."""
    left, width, row, most = 310, 820, 30, max(value for _, value in bars)
    height = 54 + row * len(bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="28" font-weight="600" font-size="16">{escape(title)}</text>',
    ]
    for place, (name, value) in enumerate(bars):
        y = 44 + row * place
        length = max(2, round((width - left - 120) * value / most))
        figure = f"{value:,.0f}" if value >= 20 else f"{value:.1f}"
        lines += [
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{length}" height="22" rx="3" fill="#2f6f5e"/>',
            f'<text x="{left + length + 8}" y="{y + 16}">{figure}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"

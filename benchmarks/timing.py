"""Sides that are timed in turn: their wall and processor seconds, and the ratios of what stood side by side."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.sides import in_turn, say

# proc(5): the first line of /proc/stat, and where in it the processors do nothing.
PROCESSORS = Path("/proc/stat")
IDLE_FIELDS = (3, 4)


@dataclass(frozen=True)
class Spent:
    """What one run of a side took, in seconds; *processor* is what all processors of the machine worked meanwhile."""

    wall: float
    processor: float

    def of(self, what: str) -> float:
        """One of the two, by its name."""
        return self.wall if what == "wall" else self.processor


@dataclass
class Contest:
    """What was compared, and what each side took, turn by turn; ratios are to the *limit*."""

    words: str
    limit: str
    spent: dict[str, list[Spent]] = field(default_factory=dict)

    def ratio(self, side: str, against: str, what: str) -> float:
        """The median of the ratios of a turn; *what* is ``wall`` or ``processor``."""
        pairs = zip(self.spent[side], self.spent[against], strict=True)
        return statistics.median(one.of(what) / other.of(what) for one, other in pairs)

    def median(self, side: str, what: str) -> float:
        """The median of what a side took."""
        return statistics.median(one.of(what) for one in self.spent[side])


def processor_seconds(stat: str) -> float:
    """How long the processors of a machine have worked since it started, by its /proc/stat.

    Whoever copies a dump's bytes counts, the engine and its shims too, and the server: which process it is for cannot be
    told. So it is true of a side only where nothing else runs.
    """
    # What guests took is counted among what users took.
    ticks = [int(word) for word in stat.splitlines()[0].split()[1:9]]
    return sum(count for place, count in enumerate(ticks) if place not in IDLE_FIELDS) / os.sysconf("SC_CLK_TCK")


def spend(run: Callable[[], object]) -> Spent:
    """Run a side and time it."""
    processor, started = processor_seconds(PROCESSORS.read_text()), time.monotonic()
    run()
    wall = time.monotonic() - started
    return Spent(wall, processor_seconds(PROCESSORS.read_text()) - processor)


def take_turn(contest: Contest, sides: Mapping[str, Callable[[], object]], turn: int) -> None:
    """Run each side once, in the order of the turn; the first turn warms the machine up and is not counted."""
    contest.spent = contest.spent or {side: [] for side in sides}
    for side in in_turn(list(sides), turn):
        spent = spend(sides[side])
        say(f"{contest.words}, turn {turn}: {side} {spent.wall:.1f} s, {spent.processor:.1f} s of processor")
        if turn:
            contest.spent[side].append(spent)


def table(contests: Sequence[Contest]) -> str:
    """The table of the documentation, in Markdown: a row for each side of each contest."""
    rows = ["| what | side | wall, s | ratio | processor, s | ratio |", "|---|---|--:|--:|--:|--:|"]
    for contest in contests:
        for side in contest.spent:
            cells = []
            for what in ("wall", "processor"):
                ratio = "" if side == contest.limit else f"{contest.ratio(side, contest.limit, what):.2f}"
                cells += [f"{contest.median(side, what):.1f}", ratio]
            rows.append(f"| {contest.words} | {side} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def to_json(contests: Sequence[Contest], machine: Mapping[str, str]) -> str:
    """The document: every turn of every side."""
    return json.dumps({"machine": machine, "contests": [asdict(contest) for contest in contests]}, indent=1) + "\n"


def from_json(text: str) -> list[Contest]:
    """The contests that a document holds. Raises ValueError, KeyError or TypeError when it is none."""
    return [
        Contest(
            contest["words"],
            contest["limit"],
            {side: [Spent(**spent) for spent in turns] for side, turns in contest["spent"].items()},
        )
        for contest in json.loads(text)["contests"]
    ]

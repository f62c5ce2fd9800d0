"""The results of the nights: as a document, and as a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

MIB = 1024 * 1024
# What the arms are called in a table and a plot; another one is called what it is.
ARM_WORDS = {"off": "heap order", "auto": "key order"}


@dataclass(frozen=True)
class Arm:
    """One pass of one night, in bytes."""

    dump_bytes: int
    # What of it the repository did not have yet: as it is, and as it is stored.
    new_bytes: int
    stored_bytes: int
    # All of the repository's files, afterwards.
    repository_bytes: int


@dataclass(frozen=True)
class Night:
    """One night: how large the database was, and what became of its dump in each arm."""

    number: int
    database_bytes: int
    arms: Mapping[str, Arm]


@dataclass(frozen=True)
class Course:
    """The nights of one profile, the first one first."""

    name: str
    words: str
    nights: Sequence[Night]

    @property
    def arms(self) -> list[str]:
        """The arms, in the order in which they were asked for."""
        return list(self.nights[0].arms)

    def ratios(self, arm: str) -> list[float]:
        """The repository as a multiple of the database, night by night."""
        return [night.arms[arm].repository_bytes / night.database_bytes for night in self.nights]

    def grown_bytes(self, arm: str) -> int:
        """By how much the repository has grown in the median night after the first."""
        sizes = [night.arms[arm].repository_bytes for night in self.nights]
        return round(statistics.median(after - before for before, after in pairwise(sizes)))

    def new_share(self, arm: str) -> float:
        """Which share of its dump is new, in the median night after the first."""
        return statistics.median(night.arms[arm].new_bytes / night.arms[arm].dump_bytes for night in self.nights[1:])


@dataclass(frozen=True)
class Results:
    """What was run, and what came of it; *scale* 1 is a database of 220 MB."""

    machine: Mapping[str, str]
    scale: float
    courses: Sequence[Course]

    def with_course(self, course: Course) -> Results:
        """These results with those of one profile anew, in its place or behind the others."""
        courses = {one.name: one for one in self.courses} | {course.name: course}
        return Results(self.machine, self.scale, tuple(courses.values()))


def to_json(results: Results) -> str:
    """The document: a line for each night, so that two of them can be compared by their lines."""
    courses = []
    for course in results.courses:
        nights = ",\n".join(f"    {json.dumps(asdict(night))}" for night in course.nights)
        courses.append(
            f'  {{"name": {json.dumps(course.name)}, "words": {json.dumps(course.words)}, "nights": [\n{nights}]}}'
        )
    head = f'"machine": {json.dumps(results.machine)}, "scale": {json.dumps(results.scale)}'
    listed = ",\n".join(courses)
    return f'{{{head}, "courses": [\n{listed}]}}\n'


def from_json(text: str) -> Results:
    """The results that a document holds. Raises ValueError, KeyError or TypeError when it is none."""
    document = json.loads(text)
    courses = tuple(
        Course(course["name"], course["words"], tuple(_night(night) for night in course["nights"]))
        for course in document["courses"]
    )
    return Results(document["machine"], document["scale"], courses)


def _night(night: dict[str, object]) -> Night:
    arms = night["arms"]
    if not (isinstance(arms, dict) and isinstance(night["number"], int) and isinstance(night["database_bytes"], int)):
        raise TypeError(f"{night} is no night.")
    return Night(night["number"], night["database_bytes"], {arm: Arm(**fields) for arm, fields in arms.items()})


def table(results: Results) -> str:
    """The table of the documentation, in Markdown: a row for each profile and arm."""
    rows = [
        "| what a day changes | rows in | database, MiB | repository, MiB | repository / database | a night adds, MiB "
        "| new share of a dump |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for course in results.courses:
        for arm in course.arms:
            first, last = course.nights[0], course.nights[-1]
            sizes = f"{_mib(first.database_bytes)} → {_mib(last.database_bytes)}"
            repository = f"{_mib(first.arms[arm].repository_bytes)} → {_mib(last.arms[arm].repository_bytes)}"
            rows.append(
                f"| {course.words} | {ARM_WORDS.get(arm, arm)} | {sizes} | {repository} | **{course.ratios(arm)[-1]:.2f}** "
                f"| {course.grown_bytes(arm) / MIB:.1f} | {course.new_share(arm):.0%} |"
            )
    return "\n".join(rows) + "\n"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}"

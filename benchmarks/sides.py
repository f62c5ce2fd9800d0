"""What the benchmarks share: turns that are fair, results that are never half written, and a word for whoever waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tests.support.containers import docker

T = TypeVar("T")


def say(text: str) -> None:
    """A line for whoever waits; the results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def in_turn(sides: Sequence[T], turn: int) -> list[T]:
    """The sides in the order of a turn: each is the first as often as the others."""
    first = turn % len(sides)
    return [*sides[first:], *sides[:first]]


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave the one that is there."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def show(page: Path, name: str, table: str) -> None:
    """Put a table where a page of the documentation has the mark of its benchmark; without a page, nowhere."""
    if page.exists():
        begin, end = (f"<!-- {name} {what} -->\n" for what in ("begins", "ends"))
        before, _begin, rest = page.read_text(encoding="utf-8").partition(begin)
        _old, found, after = rest.partition(end)
        if found:
            write_whole(page, before + begin + table + end + after)


def machine(image: str) -> dict[str, str]:
    """What the figures are true of; *image* is the agent's."""
    return {
        "postgres": _first_line("postgres:17", "postgres", "--version"),
        "restic": _first_line(image, "restic", "version"),
        "processors": str(os.cpu_count()),
    }


def _first_line(image: str, program: str, *arguments: str) -> str:
    return docker("run", "--rm", "--entrypoint", program, image, *arguments).stdout.strip()

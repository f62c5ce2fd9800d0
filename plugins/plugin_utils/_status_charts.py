# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The status page's pictures: SVG that stands in the page, takes its colours from it, and says in words what it shows.

Nothing is told by colour alone: a good night is a tall bar, one with some of several passes a short bar with a mark above it,
a failed one an exclamation mark, a missed one a short dash on the ground, and one that is not on record a dot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any, TypeVar

from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, join, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import Database, Fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_nights import (
    DUE,
    FAILED,
    FREE,
    GOOD,
    MISSED,
    PARTLY,
    UNKNOWN,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_series import Series
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import day
from ansible_collections.scalr.backup.plugins.plugin_utils._units import counted

_When = TypeVar("_When", bound=date)

# So many nights are named one by one in the words beside a picture.
_NAMED = 6
# The most points of a line that is as small as a word.
_SPARK_POINTS = 30
# The height of the fleet's columns, in pixels, and the least of it that a failure takes.
_COLUMN_HEIGHT, _LEAST_FAILURE = 72, 14

_STRIP_HEIGHT = 20
# Where the bars of a night stand in a strip: height of the middle, thickness.
_BARS: dict[str, list[tuple[float, float]]] = {
    GOOD: [(10, 20)],
    PARTLY: [(15, 10), (2.5, 5)],
    FAILED: [(6, 12), (17.5, 5)],
    MISSED: [(18.5, 3)],
    DUE: [(19.25, 1.5)],
    FREE: [(19.25, 1.5)],
    UNKNOWN: [(19.25, 1.5)],
}


def strip(database: Database, name: str | None = None) -> Html:
    """The nights of a database, a bar each; by the *name* that it has on the page, they can be shown a second time."""
    counts = {night: told for night, told in database.past.counts.items() if told[0] != told[1]}
    return tag(
        "svg",
        tag("g", *_bars(database.nights), id=name) if name else join(*_bars(database.nights)),
        class_="strip",
        viewBox=f"0 0 {len(database.nights)} {_STRIP_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=nights_in_words(database),
        data_n=database.nights,
        data_d=database.first_night.isoformat(),
        # How many passes were good of how many, where it was not all of them.
        data_c=" ".join(f"{(night - database.first_night).days}:{good}/{due}" for night, (good, due) in counts.items())
        or None,
    )


def strip_again(database: Database, name: str) -> Html:
    """The strip that has this *name*, drawn once more beside words that say what it shows."""
    return tag(
        "svg",
        tag("use", href=f"#{name}"),
        class_="strip",
        viewBox=f"0 0 {len(database.nights)} {_STRIP_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
        data_of=name,
    )


def hours(database: Database) -> Html | None:
    """The passes of the last two days, a bar each; None where there are not several a day."""
    lately = database.past.lately
    if not lately or not database.past.moments:
        return None
    said = hours_in_words(database)
    return tag(
        "svg",
        tag("title", said),
        *_bars(lately),
        class_="hours",
        viewBox=f"0 0 {len(lately)} {_STRIP_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )


def _bars(states: str) -> list[Html]:
    """A bar for each letter."""
    runs: dict[str, list[str]] = {}
    position = 0
    for state, alike in groupby(states):
        length = len(list(alike))
        for number, (height, _thickness) in enumerate(_BARS[state]):
            # One line for nights that are alike; its dashes are the bars.
            runs.setdefault(f"{state}{number}", []).append(f"M{position} {height:g}h{length}")
        position += length
    return [tag("path", class_=f"n {name}", d="".join(lines)) for name, lines in sorted(runs.items())]


def hours_in_words(database: Database) -> str:
    """What the passes of the last two days were, the ones that were not good by name."""
    lately, moments = database.past.lately, database.past.moments
    words = [f"{lately.count(GOOD)} of the last {len(lately)} passes good"]
    for state, what in ((FAILED, "failed"), (MISSED, "none")):
        when = [moment for letter, moment in zip(lately, moments, strict=False) if letter == state]
        if when:
            words.append(f"{what} at " + _named(when, lambda moment: f"{moment:%a %H:%M}"))
    return "; ".join(words) + "."


def nights_in_words(database: Database) -> str:
    """What a strip shows."""
    good, partly, failed, missed = (database.on(state) for state in (GOOD, PARTLY, FAILED, MISSED))
    recorded = len(good) + len(partly) + len(failed) + len(missed)
    if not recorded:
        return "No night is on record yet."
    words = [f"{len(good)} of {recorded} nights good"]
    if partly:
        words.append("not every pass on " + _named(partly, lambda night: _with_counts(night, database)))
    if failed:
        words.append("failed on " + _named(failed, lambda night: _with_code(night, database.codes.get(night))))
    if missed:
        words.append("no backup on " + _named(missed, day))
    return "; ".join(words) + "."


def _with_counts(night: date, database: Database) -> str:
    good, due = database.past.counts[night]
    code = database.codes.get(night)
    return f"{day(night)} ({good} of {due} good{', ' + code.replace('_', ' ') if code else ''})"


def _with_code(night: date, code: str | None) -> str:
    return f"{day(night)} ({code.replace('_', ' ')})" if code else day(night)


def _named(nights: Sequence[_When], name: Callable[[_When], str]) -> str:
    """Dates or moments one by one, the latest first, and how many more there are."""
    named = ", ".join(name(night) for night in list(reversed(nights))[:_NAMED])
    more = len(nights) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def legend(fleet: Fleet) -> Html:
    """What the bars mean."""
    partly = {PARTLY: "Not every pass"} if fleet.are_days else {}
    names = {GOOD: "Backed up", **partly, FAILED: "Failed", MISSED: "No backup", UNKNOWN: "Not on record, or not due"}
    items = []
    for state, name in names.items():
        paths = [
            tag("path", class_=f"n {state}{number}", d=f"M0 {height:g}h5")
            for number, (height, _thickness) in enumerate(_BARS[state])
        ]
        items.append(tag("li", tag("svg", *paths, viewBox=f"0 0 5 {_STRIP_HEIGHT}", aria_hidden="true"), name))
    return tag("ul", *items, class_="legend", aria_label="Legend", role="list")


def columns(fleet: Fleet) -> Html:
    """The nights of all databases together: a column each, failures hanging from the top."""
    first = fleet.databases[0].first_night
    width = 100 / len(fleet.counted_nights)
    drawn = [
        shape
        for number, counted in enumerate(fleet.counted_nights)
        for shape in _column(f"{number * width:.2f}%", f"{width * 0.72:.2f}%", counted)
    ]
    return tag(
        "svg",
        *drawn,
        class_="columns",
        height=_COLUMN_HEIGHT,
        role="img",
        aria_label=_columns_in_words(fleet, first),
    )


def _column(left: str, width: str, counted: Counter[str]) -> Iterable[Html]:
    partly = counted[MISSED] + counted[PARTLY]
    recorded = counted[GOOD] + counted[FAILED] + partly
    if not recorded:
        yield tag("rect", class_="c u", x=left, width=width, y=_COLUMN_HEIGHT - 2, height=2)
        return
    bad = _heights(counted[FAILED], partly, recorded)
    gap = 2 if any(bad) else 0
    if counted[GOOD]:
        top = sum(bad) + gap
        yield tag("rect", class_="c g", x=left, width=width, y=top, height=_COLUMN_HEIGHT - top, rx=1.5)
    if bad[0]:
        yield tag("rect", class_="c f", x=left, width=width, y=0, height=bad[0], rx=1.5)
    if bad[1]:
        # Hollow: nobody tried, or not as often as was due.
        yield tag("rect", class_="c m", x=left, width=width, y=bad[0] + 0.5, height=max(bad[1] - 1, 1), rx=1.5)


def _heights(failed: int, missed: int, recorded: int) -> tuple[int, int]:
    """How much of a column failures and missed nights take; one of five hundred can still be seen."""
    if failed + missed == recorded:
        whole = round(_COLUMN_HEIGHT * failed / recorded)
        return whole, _COLUMN_HEIGHT - whole
    room = _COLUMN_HEIGHT - _LEAST_FAILURE
    least_failed, least_missed = (
        min(max(round(_COLUMN_HEIGHT * count / recorded), _LEAST_FAILURE // 2), room // 2) if count else 0
        for count in (failed, missed)
    )
    return least_failed, least_missed


def _columns_in_words(fleet: Fleet, first: date) -> str:
    worst = [
        (first + timedelta(days=number), counted[FAILED] + counted[MISSED])
        for number, counted in enumerate(fleet.counted_nights)
        if counted[FAILED] + counted[MISSED]
    ]
    partly = sum(bool(counted[PARTLY]) for counted in fleet.counted_nights)
    beside = f" On {counted(partly, 'night')} at least one database was not backed up by every pass." if partly else ""
    if not worst:
        return f"Every database was backed up on every night on record since {day(first)}.{beside}"
    named = _named([night for night, _count in worst], lambda night: f"{day(night)} ({dict(worst)[night]})")
    return f"{counted(len(worst), 'night')} on which databases were not backed up, and how many: {named}.{beside}"


def months(first: date, nights: int, y: int = 14) -> Html:
    """The names of the months under a picture of nights."""
    labels = []
    for number in range(nights):
        night = first + timedelta(days=number)
        # Not so near to the right edge that the name would be cut off.
        if night.day == 1 and number < nights - 3:
            labels.append(tag("text", f"{night:%b}", x=f"{100 * number / nights:.2f}%", y=y))
    return tag("svg", *labels, class_="months", height=y + 4, aria_hidden="true")


def line(series: Series, size: Callable[[float], str], label: str) -> Html:
    """A line over the nights, with its area, on a scale that begins with nothing."""
    filled = series.filled()
    top = _round_up(max(value for _night, value in filled.known))
    last = len(filled.values) - 1
    points = [(number, 100 - 100 * value / top) for number, value in enumerate(filled.values) if value is not None]
    path = "M" + "L".join(f"{x} {y:.1f}" for x, y in points)
    area = f"{path}V100H{points[0][0]}Z"
    picture = tag(
        "svg",
        tag("path", class_="area", d=area),
        tag("path", class_="line", d=path),
        viewBox=f"0 0 {last} 100",
        preserveAspectRatio="none",
        x=0,
        y=8,
        width="100%",
        height=128,
    )
    grid = [
        join(
            tag("line", class_="grid", x1=0, x2="100%", y1=8 + 128 * part, y2=8 + 128 * part),
            tag("text", size(top * (1 - part)), x=2, y=8 + 128 * part - 4) if part < 1 else None,
        )
        for part in (0.0, 0.5, 1.0)
    ]
    end = tag("circle", class_="end", cx="100%", cy=f"{8 + 1.28 * points[-1][1]:.1f}", r=4)
    return tag("svg", *grid, picture, end, class_="chart", height=140, role="img", aria_label=label)


def _round_up(value: float) -> float:
    """The end of a scale: the next 1, 2, 4, 6 or 8 of a binary unit, in tens."""
    unit = 1.0
    while value / unit > 1024:
        unit *= 1024
    step = unit
    while step * 10 <= value:
        step *= 10
    return next(step * factor for factor in (1, 2, 4, 6, 8, 10, 20) if step * factor >= value)


def spark(series: Series) -> Html | None:
    """A line as small as a word; None for less than two numbers."""
    values = [value for value in series.filled().values if value is not None]
    if len(values) < 2:
        return None
    step = max(1, -(-len(values) // _SPARK_POINTS))
    chosen = values[::-step][::-1]
    low, high = min(chosen), max(chosen)
    # A size that hardly changes is a flat line, not mountains of noise.
    span = max(high - low, 0.1 * high, 1.0)
    middle = (high + low) / 2
    heights = [f"{10 - 16 * (value - middle) / span:.0f}" for value in chosen]
    points = " ".join(f"{number},{height}" for number, height in enumerate(heights) if not _is_on_line(heights, number))
    return tag(
        "svg",
        tag("path", d="M" + points),
        class_="spark",
        viewBox=f"0 0 {len(chosen) - 1} 20",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _is_on_line(heights: Sequence[str], number: int) -> bool:
    """Whether a point lies between two of its own height, so that the line is the same without it."""
    return 0 < number < len(heights) - 1 and len(set(heights[number - 1 : number + 2])) == 1


def share_bar(share: float) -> Html:
    """How much of the whole something is."""
    return tag(
        "svg",
        tag("rect", width=f"{max(100 * share, 1):.1f}%", height=8, rx=4),
        class_="bar",
        height=8,
        aria_hidden="true",
    )


def icon(name: str) -> Html:
    """One of the page's signs."""
    return tag("svg", tag("use", href=f"#i-{name}"), class_=f"icon {name}", viewBox="0 0 16 16", aria_hidden="true")


_SIGNS: dict[str, str] = {
    # A tick, a cross, an exclamation mark, and the hand of a clock: they differ in shape.
    "safe": "M4.2 8.4l2.6 2.5 5-5.6",
    "bad": "M5 5l6 6M11 5l-6 6",
    "warning": "M8 4v4.6M8 11.6v.2",
    "new": "M8 4.6V8l2.4 1.6",
}


def signs() -> Html:
    """The page's signs, drawn once."""
    symbols: list[Any] = [
        tag("symbol", tag("circle", cx=8, cy=8, r=8), tag("path", d=path), id=f"i-{name}", viewBox="0 0 16 16")
        for name, path in _SIGNS.items()
    ]
    return tag("svg", tag("defs", *symbols), class_="signs", aria_hidden="true", width=0, height=0)

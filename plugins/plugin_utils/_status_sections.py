# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The sections of the status page: what to do, the nights, growth, drills, hosts. One that has nothing to say is None."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, join, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import (
    columns,
    icon,
    legend,
    line,
    months,
    share_bar,
    spark,
    strip,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import (
    BAD,
    FAILED,
    MISSED,
    NEW,
    SAFE,
    WARNING,
    Database,
    Fleet,
    Host,
    Problem,
    Series,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import (
    NOTHING,
    ago,
    clock,
    count,
    day,
    percent,
    ratio,
    roughly,
    size,
)

# So many problems stand in the open; the rest is behind a click.
_OPEN_PROBLEMS = 12
# The length of the lists of what is largest.
_LARGEST = 8
# A table that is longer than this is searched.
_LONG = 8


def sections(fleet: Fleet) -> list[tuple[str, str, Html]]:
    """The name, the title and the content of every section that has something to say."""
    makers: list[tuple[str, str, Callable[[Fleet], Html | None]]] = [
        ("todo", "What to do", what_to_do),
        ("nights", "Nights", nights),
        ("growth", "Growth", growth),
        ("drills", "Drills", drills),
        ("hosts", "Hosts", hosts),
    ]
    return [(name, title, content) for name, title, make in makers if (content := make(fleet)) is not None]


# -- what to do --------------------------------------------------------------------------------------------------


def what_to_do(fleet: Fleet) -> Html | None:
    """Every problem, and the command to run next."""
    if not fleet.problems:
        return None
    shown, more = fleet.problems[:_OPEN_PROBLEMS], fleet.problems[_OPEN_PROBLEMS:]
    return join(
        _problems(shown), tag("details", tag("summary", f"{len(more)} more"), _problems(more)) if more else None
    )


def _problems(problems: Sequence[Problem]) -> Html:
    return tag("ul", *map(_problem, problems), class_="todo", role="list")


def _problem(problem: Problem) -> Html:
    kind = BAD if problem.severity == "failure" else WARNING
    unseen = tag("span", "Failure: " if kind == BAD else "Warning: ", class_="unseen")
    host = None if problem.subject == problem.host else tag("span", f"on {problem.host}", class_="host")
    known = []
    if problem.since:
        known.append(f"Since {clock(problem.since)}.")
    if problem.last_good_age_seconds is not None:
        known.append(f"The last good backup is {duration(problem.last_good_age_seconds)} old.")
    return tag(
        "li",
        tag("h3", icon(kind), unseen, problem.subject, host),
        tag("p", _without_subject(problem)),
        tag("p", " ".join(known), class_="when") if known else None,
        _command(problem) if problem.command else None,
        class_=kind,
    )


def _without_subject(problem: Problem) -> str:
    """What is wrong, without the name that stands above it already."""
    rest = problem.message.removeprefix(f"{problem.subject} ")
    return rest[:1].upper() + rest[1:]


def _command(problem: Problem) -> Html:
    """What to run next, and where."""
    where = f"On {problem.host}" if str(problem.command).startswith("docker ") else "On the controller"
    return join(
        tag("p", f"{where}:", class_="where"), tag("div", tag("pre", problem.command, tabindex="0"), class_="run")
    )


# -- nights ------------------------------------------------------------------------------------------------------


def nights(fleet: Fleet) -> Html | None:
    """The calendar: the fleet's nights in one picture, and a row for each database."""
    if not fleet.databases:
        return None
    together = None
    if len(fleet.databases) > 1 and fleet.good_share is not None:
        calendar = months(fleet.databases[0].first_night, fleet.nights)
        together = tag("div", legend(), columns(fleet), calendar, class_="card fleet")
    table = _wide_table(
        "databases",
        "Every database, those in need first. A night is a day in the time zone of the host's schedule.",
        {
            "name": "Database",
            "state": "State",
            "nights": f"Last {fleet.nights} nights",
            "age": "Last good",
            "size": "Dump",
            "drill": "Last drill",
        },
        [_database(one) for one in fleet.databases],
    )
    return join(
        tag("p", _nights_in_words(fleet), class_="quiet"),
        together,
        _search() if len(fleet.databases) > _LONG else None,
        tag("div", None if together else tag("div", legend(), class_="above"), table, class_="card"),
    )


def _nights_in_words(fleet: Fleet) -> str:
    if fleet.recorded_since is None:
        return "No night is on record yet. Every pass from now on adds a bar."
    since = day(fleet.recorded_since, year=True)
    flawless = sum(not {FAILED, MISSED} & set(one.nights) for one in fleet.databases)
    if flawless == len(fleet.databases):
        return f"No night was missed since {since}."
    return f"{flawless} of {count(len(fleet.databases), 'database')} missed no night since {since}."


def _search() -> Html:
    """What finds a row among many; it is there only where scripts run."""
    choices = {"": "All", BAD: "Not safe", WARNING: "With a warning", SAFE: "Safe"}
    words = tag("input", type="search", autocomplete="off", spellcheck="false")
    state = tag("select", *(tag("option", text, value=value) for value, text in choices.items()))
    return tag(
        "form",
        tag("label", "Find a database, container or host", words),
        tag("label", "State", state),
        tag("output", aria_live="polite"),
        class_="filter",
        role="search",
        hidden=True,
    )


def _database(one: Database) -> Html:
    grown = one.dumps.growth
    below_size = percent(grown) if grown is not None else None
    verdict = tag("span", icon(one.condition), one.verdict, class_="verdict")
    sizes = tag("div", tag("span", size(one.bytes_read), _below(below_size)), spark(one.dumps), class_="sizes")
    return _row(
        one.condition,
        _named(one, class_="name"),
        state=verdict,
        nights=strip(one),
        age=ago(one.age_seconds),
        size=sizes,
        drill=_last_drill(one),
    )


def _last_drill(one: Database) -> Html:
    if not one.drill:
        return Html("Never")
    when = f"{roughly(one.drill.get('age_seconds') or 0)} ago"
    return join("Passed" if one.drill["ok"] else "Failed", _below(when))


# -- growth ------------------------------------------------------------------------------------------------------


def growth(fleet: Fleet) -> Html | None:
    """How much is stored and dumped, and what grows most."""
    figures = [
        _figure(fleet.stored, "Stored in the repositories", "After deduplication and compression"),
        _figure(fleet.dumped, "Dumped every night", "All dumps together, before deduplication and compression"),
    ]
    drawn = [figure for figure in figures if figure is not None]
    if not drawn:
        return None
    growers = _growers(fleet)
    pair = tag("div", *drawn, class_="pair" if growers else "pair charts")
    return tag("div", pair, growers, class_="charts") if growers else pair


def _figure(series: Series | None, title: str, what: str) -> Html | None:
    if series is None or len(series.known) < 2:
        return None
    (first, before), (last, now) = series.known[0], series.known[-1]
    grown = f", {percent(series.growth)}" if series.growth is not None else ""
    said = f"{size(before)} on {day(first)}, {size(now)} on {day(last)}{grown}."
    return tag(
        "figure",
        tag("h3", title),
        tag("figcaption", f"{what}. {said}"),
        line(series, size, f"{title}: {said}"),
        months(series.first, len(series.values)),
    )


def _growers(fleet: Fleet) -> Html | None:
    grown = [(one.dumps.known[-1][1] - one.dumps.known[0][1], one) for one in fleet.databases if one.dumps.growth]
    largest = sorted((pair for pair in grown if pair[0] > 0), key=lambda pair: -pair[0])[:_LARGEST]
    if len(largest) < 2:
        return None
    rows = [
        tag(
            "tr",
            _named(one),
            tag("td", size(one.bytes_read), class_="number"),
            tag("td", f"+{size(added)}", _below(percent(one.dumps.growth or 0)), class_="number"),
        )
        for added, one in largest
    ]
    return _list("What grows most", {"Database": None, "Dump": "number", "Grown by": "number"}, rows)


# -- drills ------------------------------------------------------------------------------------------------------


def drills(fleet: Fleet) -> Html | None:
    """What is proven to restore, and how long that takes."""
    if not fleet.databases:
        return None
    failed = [one for one in fleet.databases if one.drill and not one.drill["ok"]]
    never = sum(not one.drill for one in fleet.databases)
    said = [f"{len(fleet.proven)} of {count(len(fleet.databases), 'database')} passed the last drill."]
    if failed:
        said.append(f"{len(failed)} failed it.")
    if never:
        said.append(f"{never} never had one: the host's monthly drill brings it, or drill.yml does so now.")
    slowest = sorted(fleet.proven, key=lambda one: one.recovery_seconds or 0, reverse=True)[:_LARGEST]
    lists = [_failed_drills(failed[:_LARGEST]), _slowest([one for one in slowest if one.recovery_seconds])]
    return join(tag("p", " ".join(said), class_="quiet"), *lists)


def _slowest(slowest: Sequence[Database]) -> Html | None:
    if not slowest:
        return None
    most = slowest[0].recovery_seconds or 1
    rows = [
        tag(
            "tr",
            _named(one),
            tag("td", share_bar((one.recovery_seconds or 0) / most), class_="share"),
            tag("td", duration(one.recovery_seconds), class_="number"),
        )
        for one in slowest
    ]
    heads = {"Database": None, "Beside the longest": "share", "Recovery": "number"}
    return _list("Measured time to restore, longest first", heads, rows)


def _failed_drills(failed: Sequence[Database]) -> Html | None:
    if not failed:
        return None
    rows = [
        tag(
            "tr",
            _named(one),
            tag("td", ((one.drill or {}).get("error") or {}).get("message", NOTHING)),
            tag("td", ago((one.drill or {}).get("age_seconds")), class_="number"),
        )
        for one in failed
    ]
    return _list("Failed drills", {"Database": None, "Reason": None, "When": "number"}, rows)


# -- hosts -------------------------------------------------------------------------------------------------------


def hosts(fleet: Fleet) -> Html:
    """Every host, and what it stores where."""
    heads = {
        "name": "Host",
        "repository": "Repository",
        "stored": "Stored",
        "ratio": "Deduplication",
        "next": "Next pass",
    }
    caption = "Every host, those in need first, and what it stores where."
    return tag("div", _wide_table("hosts", caption, heads, [_host(host) for host in fleet.hosts]), class_="card")


def _host(host: Host) -> Html:
    words = {BAD: "Not safe", WARNING: "Warning", NEW: "Waiting", SAFE: "Safe"}
    word = words[host.condition] if host.answered else host.outcome.capitalize()
    said = f"{word}, {count(len(host.databases), 'database')}" if host.databases else word
    verdict = tag("span", icon(host.condition), tag("b", host.name), class_="verdict")
    stored = host.sizes.known[-1][1] if host.sizes and host.sizes.known else None
    snapshots = count(host.snapshots, "snapshot") if host.snapshots else None
    return _row(
        host.condition,
        tag("th", verdict, _below(said), class_="name", scope="row", role="rowheader"),
        repository=host.repository or host.summary,
        stored=join(size(stored), _below(snapshots)),
        ratio=ratio(host.dedup_ratio),
        next=clock(host.next_pass) if host.next_pass else NOTHING,
    )


# -- tables ------------------------------------------------------------------------------------------------------


def _wide_table(name: str, caption: str, heads: dict[str, str], rows: Sequence[Html]) -> Html:
    """A table that is a list of cards on a phone; its roles say what it is even where it looks like none."""
    columns_ = (tag("th", text, class_=kind, scope="col", role="columnheader") for kind, text in heads.items())
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *columns_, role="row"), role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        class_=name,
        role="table",
    )


def _row(kind: str, head: Html, **cells: object) -> Html:
    """A row of such a table; each cell has the name of its column."""
    return tag(
        "tr",
        head,
        *(tag("td", cell, class_=name, role="cell") for name, cell in cells.items()),
        class_=kind,
        role="row",
    )


def _list(caption: str, heads: dict[str, str | None], rows: Sequence[Html]) -> Html:
    """A short table."""
    head = tag("tr", *(tag("th", text, scope="col", class_=kind) for text, kind in heads.items()))
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="card list")


def _named(one: Database, class_: str | None = None) -> Html:
    """The head of a database's row."""
    role = "rowheader" if class_ else None
    return tag("th", one.container, "/", tag("b", one.name), _below(one.host), scope="row", class_=class_, role=role)


def _below(text: str | None) -> Html | None:
    return tag("span", text, class_="sub") if text else None

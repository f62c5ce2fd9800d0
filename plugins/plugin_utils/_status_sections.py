# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The sections of the status page: what to do, nights, restore, growth, drills, hosts. One that has nothing to say is None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, join, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import (
    columns,
    hours,
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
    NEW,
    SAFE,
    WARNING,
    Database,
    Fleet,
    Host,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_nights import FAILED, MISSED, PARTLY
from ansible_collections.scalr.backup.plugins.plugin_utils._status_problems import Card
from ansible_collections.scalr.backup.plugins.plugin_utils._status_restore import restore, run
from ansible_collections.scalr.backup.plugins.plugin_utils._status_series import Series
from ansible_collections.scalr.backup.plugins.plugin_utils._status_tables import (
    below,
    listing,
    named,
    nights_of,
    row,
    wide_table,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import (
    ago,
    clock,
    day,
    more_a_night,
    percent,
    ratio,
    roughly,
    share_of_dump,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._units import (
    NOTHING,
    counted,
    human_age,
    human_bytes,
    whole_percent,
)

# So many problems stand in the open; the rest is behind a click.
_OPEN_PROBLEMS = 12
# The length of the lists of what is largest.
_LARGEST = 8
# A table that is longer than this is searched.
_LONG = 8
# A table that is longer than this shows what needs somebody; the rest is behind a click.
_FOLDED = 30
# So many names of a card stand in the open.
_NAMED = 3


_Thing = TypeVar("_Thing", Database, Host)


def sections(fleet: Fleet) -> list[tuple[str, str, Html]]:
    """The name, the title and the content of every section that has something to say."""
    makers: list[tuple[str, str, Callable[[Fleet], Html | None]]] = [
        ("todo", "What to do", what_to_do),
        ("nights", "Nights", nights),
        ("restore", "Restore", restore),
        ("growth", "Growth", growth),
        ("drills", "Drills", drills),
        ("hosts", "Hosts", hosts),
    ]
    return [(name, title, content) for name, title, make in makers if (content := make(fleet)) is not None]


# -- what to do --------------------------------------------------------------------------------------------------


def what_to_do(fleet: Fleet) -> Html | None:
    """Every cause of trouble, and the command to run next."""
    if not fleet.cards:
        return None
    shown, more = fleet.cards[:_OPEN_PROBLEMS], fleet.cards[_OPEN_PROBLEMS:]
    return join(_cards(shown), tag("details", tag("summary", f"{len(more)} more"), _cards(more)) if more else None)


def _cards(cards: Sequence[Card]) -> Html:
    return tag("ul", *map(_card, cards), class_="todo", role="list")


def _card(card: Card) -> Html:
    problem = card.first
    kind = BAD if problem.severity == "failure" else WARNING
    unseen = tag("span", "Failure: " if kind == BAD else "Warning: ", class_="unseen")
    return tag(
        "li",
        tag("h3", icon(kind), unseen, *_about(card)),
        tag("p", _without_subject(card)),
        _affected(card),
        tag("p", _known(card), class_="when") if _known(card) else None,
        tag("p", _remedy(card)) if problem.remedy else None,
        _commands(card),
        class_=kind,
    )


def _about(card: Card) -> tuple[Html | str, ...]:
    """What the card is about: one thing by its name, several by their number."""
    problem = card.first
    if len(card.problems) == 1:
        host = None if problem.subject == problem.host else tag("span", f"on {problem.host}", class_="host")
        return (problem.subject, host) if host else (problem.subject,)
    if all(one.subject == one.host for one in card.problems):
        return (counted(len(card.hosts), "host"),)
    what = "database" if all("/" in one.subject for one in card.problems) else "container"
    where = problem.host if len(card.hosts) == 1 else counted(len(card.hosts), "host")
    return counted(len(card.problems), what), tag("span", f"on {where}", class_="host")


def _without_subject(card: Card) -> str:
    """What is wrong, without the name that stands above it already."""
    problem = card.first
    rest = problem.message.removeprefix(f"{problem.subject} ")
    said = rest[:1].upper() + rest[1:]
    return said if len(card.problems) == 1 else f"For example {problem.subject}: {said}"


def _affected(card: Card) -> Html | None:
    """Whom one cause has hit, where it is several."""
    names = card.subjects
    if len(names) == 1:
        return None
    if len(names) <= _NAMED:
        return tag("p", ", ".join(names), class_="when")
    return tag("details", tag("summary", f"All {len(names)}"), tag("p", ", ".join(names), class_="when"))


def _known(card: Card) -> str:
    known = []
    if card.since:
        known.append(f"Since {clock(card.since)}.")
    if card.oldest_good_seconds is not None:
        which = "The last good backup" if len(card.problems) == 1 else "The oldest of the last good backups"
        known.append(f"{which} is {human_age(card.oldest_good_seconds)} old.")
    return " ".join(known)


def _remedy(card: Card) -> Html:
    """What helps against a failure of this kind, and the page that says more."""
    problem = card.first
    more = tag("a", "Read more", href=problem.help, rel="noreferrer") if _is_address(problem.help) else None
    return join(problem.remedy, " " if more else None, more)


def _is_address(text: str | None) -> bool:
    """Whether an agent's word may become a link: nothing but a page on the web."""
    return text is not None and text.startswith("https://")


def _commands(card: Card) -> Html | None:
    """What to run next, and where; of many commands the first ones."""
    commands = card.commands
    if not commands:
        return None
    on_hosts = f"On {card.first.host}" if len(card.hosts) == 1 else "On each of these hosts"
    shown = [run("On the controller" if not one.startswith("docker ") else on_hosts, one) for one in commands[:_NAMED]]
    rest = [run("On the controller" if not one.startswith("docker ") else on_hosts, one) for one in commands[_NAMED:]]
    return join(*shown, tag("details", tag("summary", f"{len(rest)} more commands"), *rest) if rest else None)


# -- nights ------------------------------------------------------------------------------------------------------


def nights(fleet: Fleet) -> Html | None:
    """The calendar: the fleet's nights in one picture, and a row for each database."""
    if not fleet.databases:
        return None
    together = None
    if len(fleet.databases) > 1 and fleet.good_share is not None:
        calendar = months(fleet.databases[0].first_night, fleet.nights)
        together = tag("div", legend(fleet), columns(fleet), calendar, class_="card fleet")
    in_need, well = _fold(fleet.databases)
    heads = {
        "name": "Database",
        "state": "State",
        "nights": f"Last {fleet.nights} nights",
        "age": "Last good",
        "size": "Dump",
        "new": "New a night",
        "drill": "Last drill",
    }
    which = "Databases that need attention" if well else "All databases, worst first"
    below_it = (
        " Where there are several passes a day, those of the last two days are shown below." if fleet.are_days else ""
    )
    caption = f"{which}. A night is a day in the time zone of the host's schedule.{below_it}"
    table = wide_table("databases", caption, heads, [_database(one) for one in in_need]) if in_need else None
    return join(
        tag("p", _nights_in_words(fleet), class_="quiet"),
        together,
        _search() if len(fleet.databases) > _LONG else None,
        tag("div", None if together else tag("div", legend(fleet), class_="above"), table, class_="card")
        if table
        else None,
        _folded(f"{counted(len(well), 'safe database')}", "databases", heads, [_database(one) for one in well]),
    )


def _fold(things: Sequence[_Thing]) -> tuple[list[_Thing], list[_Thing]]:
    """What stands in the open, and what is behind a click: where there are many, those that need nobody."""
    if len(things) <= _FOLDED:
        return list(things), []
    return [one for one in things if one.condition != SAFE], [one for one in things if one.condition == SAFE]


def _folded(what: str, name: str, heads: dict[str, str], rows: Sequence[Html]) -> Html | None:
    if not rows:
        return None
    return tag(
        "details", tag("summary", what), tag("div", wide_table(name, what, heads, rows), class_="card"), class_="folded"
    )


def _nights_in_words(fleet: Fleet) -> str:
    if fleet.recorded_since is None:
        return "No night is on record yet. Every pass from now on adds a bar."
    since = day(fleet.recorded_since, year=True)
    flawless = sum(not {FAILED, MISSED, PARTLY} & set(one.nights) for one in fleet.databases)
    if flawless == len(fleet.databases):
        return f"No night was missed since {since}."
    return f"{flawless} of {counted(len(fleet.databases), 'database')} missed no night since {since}."


def _search() -> Html:
    """What finds a row among many; it is there only where scripts run."""
    choices = {"": "All", BAD: "Not safe", WARNING: "With a warning", SAFE: "Safe"}
    words = tag("input", type="search", autocomplete="off", spellcheck="false", aria_keyshortcuts="/")
    state = tag("select", *(tag("option", text, value=value) for value, text in choices.items()))
    return tag(
        "form",
        tag("label", tag("span", "Find a database, container or host", tag("kbd", "/", aria_hidden="true")), words),
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
    sizes = tag("div", tag("span", human_bytes(one.bytes_read), below(below_size)), spark(one.dumps), class_="sizes")
    return row(
        one.condition,
        named(one, class_="name", link=True),
        state=verdict,
        nights=join(strip(one, nights_of(one)), hours(one)),
        age=ago(one.age_seconds),
        size=sizes,
        new=_new_a_night(one),
        drill=_last_drill(one),
    )


def _new_a_night(one: Database) -> Html:
    share = None if one.new.last_share is None else whole_percent(one.new.last_share)
    said = tag("span", human_bytes(one.new.last_bytes), below(share))
    return tag("div", said, spark(one.new.recent), class_="sizes")


def _last_drill(one: Database) -> Html:
    if not one.drill:
        return Html("Never")
    when = f"{roughly(one.drill.get('age_seconds') or 0)} ago"
    return join("Passed" if one.drill["ok"] else "Failed", below(when))


# -- growth ------------------------------------------------------------------------------------------------------


def growth(fleet: Fleet) -> Html | None:
    """How much is stored and dumped, and what grows most."""
    figures = [
        _figure(fleet.stored, "Stored in the repositories", "After deduplication and compression"),
        _figure(fleet.dumped, "Dumped every night", "All dumps together, before deduplication and compression"),
        _figure(
            fleet.added, "New every night", "What no repository had yet, before compression; first backups excluded"
        ),
    ]
    drawn = [figure for figure in figures if figure is not None]
    if not drawn:
        return None
    lists = [one for one in (_growers(fleet), _newest(fleet), _out_of_order(fleet)) if one is not None]
    if not lists:
        return tag("div", *drawn, class_="pair charts")
    return tag("div", tag("div", *drawn, class_="pair"), tag("div", *lists, class_="pair"), class_="charts")


def _figure(series: Series | None, title: str, what: str) -> Html | None:
    if series is None or len(series.known) < 2:
        return None
    (first, before), (last, now) = series.known[0], series.known[-1]
    grown = f", {percent(series.growth)}" if series.growth is not None else ""
    said = f"{human_bytes(before)} on {day(first)}, {human_bytes(now)} on {day(last)}{grown}."
    return tag(
        "figure",
        tag("h3", title),
        tag("figcaption", f"{what}. {said}"),
        line(series, human_bytes, f"{title}: {said}"),
        months(series.first, len(series.values)),
    )


def _largest(weighed: Iterable[tuple[float, Database]]) -> list[tuple[float, Database]]:
    """The few databases that have most of something, the most first; none where there is only one to name."""
    largest = sorted((pair for pair in weighed if pair[0] > 0), key=lambda pair: -pair[0])[:_LARGEST]
    return largest if len(largest) > 1 else []


def _growers(fleet: Fleet) -> Html | None:
    largest = _largest(
        (one.dumps.known[-1][1] - one.dumps.known[0][1], one) for one in fleet.databases if one.dumps.growth
    )
    if not largest:
        return None
    rows = [
        tag(
            "tr",
            named(one),
            tag("td", human_bytes(one.bytes_read), class_="number"),
            tag("td", f"+{human_bytes(added)}", below(percent(one.dumps.growth or 0)), class_="number"),
        )
        for added, one in largest
    ]
    return listing("Fastest growing", {"Database": None, "Dump": "number", "Growth": "number"}, rows)


def _newest(fleet: Fleet) -> Html | None:
    """Which databases add most to their repositories."""
    largest = _largest((one.new.last_bytes or 0, one) for one in fleet.databases)
    if not largest:
        return None
    rows = [
        tag(
            "tr",
            named(one),
            tag("td", share_bar(min(one.new.last_share or 0, 1)), class_="share"),
            tag("td", human_bytes(added), below(share_of_dump(one.new.last_share)), class_="number"),
        )
        for added, one in largest
    ]
    return listing("Most new data per night", {"Database": None, "Of a dump": "share", "New": "number"}, rows)


def _out_of_order(fleet: Fleet) -> Html | None:
    """Databases whose rows are no longer put in order, and why."""
    stopped = [one for one in fleet.databases if one.new.out_of_order][:_LARGEST]
    if not stopped:
        return None
    rows = [tag("tr", named(one), tag("td", one.new.out_of_order)) for one in stopped]
    return listing("Back in heap order", {"Database": None, "Reason": None}, rows)


# -- drills ------------------------------------------------------------------------------------------------------


def drills(fleet: Fleet) -> Html | None:
    """What is proven to restore, and how long that takes."""
    if not fleet.databases:
        return None
    failed = [one for one in fleet.databases if one.drill and not one.drill["ok"]]
    never = sum(not one.drill for one in fleet.databases)
    said = [f"{len(fleet.proven)} of {counted(len(fleet.databases), 'database')} passed the last drill."]
    if failed:
        said.append(f"{len(failed)} failed it.")
    if never:
        said.append(f"{never} never had one: wait for the host's monthly drill, or run drill.yml now.")
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
            named(one),
            tag("td", share_bar((one.recovery_seconds or 0) / most), class_="share"),
            tag("td", duration(one.recovery_seconds), class_="number"),
        )
        for one in slowest
    ]
    heads = {"Database": None, "Relative to longest": "share", "Recovery": "number"}
    return listing("Measured time to restore, longest first", heads, rows)


def _failed_drills(failed: Sequence[Database]) -> Html | None:
    if not failed:
        return None
    rows = [
        tag(
            "tr",
            named(one),
            tag("td", ((one.drill or {}).get("error") or {}).get("message", NOTHING)),
            tag("td", ago((one.drill or {}).get("age_seconds")), class_="number"),
        )
        for one in failed
    ]
    return listing("Failed drills", {"Database": None, "Reason": None, "When": "number"}, rows)


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
    in_need, well = _fold(fleet.hosts)
    which = "Hosts that need attention" if well else "All hosts, worst first"
    table = wide_table("hosts", f"{which}, and what they store where.", heads, [_host(host) for host in in_need])
    return join(
        tag("div", table, class_="card") if in_need else None,
        _folded(counted(len(well), "safe host"), "hosts", heads, [_host(host) for host in well]),
    )


def _host(host: Host) -> Html:
    words = {BAD: "Not safe", WARNING: "Warning", NEW: "Waiting", SAFE: "Safe"}
    word = words.get(host.condition) if host.outcome in {"safe", "not safe"} else host.outcome.capitalize()
    said = f"{word}, {counted(len(host.databases), 'database')}" if host.databases else word
    verdict = tag("span", icon(host.condition), tag("b", host.name), class_="verdict")
    measured, stored = host.sizes.known[-1] if host.sizes and host.sizes.known else (None, None)
    # It is measured once a day: what is older than the last night says so.
    age = f"measured {measured:%Y-%m-%d}" if host.sizes and measured and measured < host.sizes.last else None
    snapshots = counted(host.snapshots, "snapshot") if host.snapshots else None
    grows = more_a_night(host.grows) if host.grows else None
    return row(
        host.condition,
        tag("th", verdict, below(said), class_="name", scope="row", role="rowheader"),
        repository=host.repository or host.summary,
        stored=join(human_bytes(stored), below(", ".join(filter(None, (snapshots, grows, age))))),
        ratio=ratio(host.dedup_ratio),
        next=join(clock(host.next_pass) if host.next_pass else NOTHING, below(host.schedule)),
    )

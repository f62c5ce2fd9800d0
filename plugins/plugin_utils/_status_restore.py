# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What the status page tells of one database at a time: its history, its newest snapshots, and commands to copy.

Each has an address of its own on the page, ``#HOST/CONTAINER/DATABASE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, join, tag, text
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import icon, nights_in_words, strip_again
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import Database, Fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_snapshots import (
    Snapshot,
    list_on_host,
    restore_from_controller,
    restore_on_host,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_tables import nights_of, place
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import ago, clock
from ansible_collections.scalr.backup.plugins.plugin_utils._units import counted, human_bytes

# So many snapshots of a database are listed; the command that lists all is beside them.
_LISTED = 5
# Of so many databases each host's are behind a click.
_MANY = 30

_SAYS = (
    "Run these commands on the controller. Each shows what it would replace and asks for confirmation first. For a snapshot "
    "other than the newest, add -e snapshot=ID. On the host itself, without the controller:"
)
_ON_THE_HOST = "docker exec -it scalr-backup scalr-backup restore --db=CONTAINER --database=NAME --snapshot=ID"


def restore(fleet: Fleet) -> Html | None:
    """Every database, in the order of names, and how to get it back."""
    if not fleet.databases:
        return None
    ordered = sorted(fleet.databases, key=lambda one: one.place)
    entries = [tag("div", *map(_database, ordered), class_="card restore")]
    if len(ordered) > _MANY:
        entries = [_of_host(host, list(several)) for host, several in groupby(ordered, key=lambda one: one.host)]
    return join(tag("p", _SAYS, class_="quiet"), tag("p", tag("code", _ON_THE_HOST), class_="quiet"), *entries)


def run(where: str, command: str) -> Html:
    """A command to copy, and where it is run."""
    return join(tag("p", f"{where}:", class_="where"), _to_copy(command))


def _to_copy(command: str) -> Html:
    # A long list of hosts is broken behind a comma, not within a name; what is copied has no break.
    broken = Html(text(command).replace(",", ",<wbr/>"))
    return tag("div", tag("pre", broken, tabindex="0"), class_="run")


def _of_host(host: str, databases: Sequence[Database]) -> Html:
    summary = tag("summary", tag("b", host), f", {counted(len(databases), 'database')}")
    return tag("details", summary, tag("div", *map(_database, databases), class_="card restore"), class_="folded")


def _database(one: Database) -> Html:
    where = tag("span", f"on {one.host}", class_="host")
    newest = tag("span", _newest(one), class_="sub")
    controller = restore_from_controller(one.host, one.container, one.name)
    return tag(
        "details",
        tag("summary", one.container, "/", tag("b", one.name), " ", where, newest),
        _history(one),
        run("Restore the newest, on the controller", controller)
        if controller
        else run(f"Restore the newest, on {one.host}", restore_on_host(one.container, one.name)),
        _listed(one),
        id=place(one),
    )


def _history(one: Database) -> Html:
    """What became of it: its nights once more, what they were in words, and its last drill."""
    drill = "Never drilled."
    if one.drill:
        passed = "Passed" if one.drill["ok"] else "Failed"
        took = f", restored in {duration(one.recovery_seconds)}" if one.recovery_seconds else ""
        drill = f"{passed} its last drill {ago(one.drill.get('age_seconds') or 0)}{took}."
    state = tag("p", icon(one.condition), f" {one.verdict}, last good backup {ago(one.age_seconds).lower()}. ", drill)
    return tag("div", state, strip_again(one, nights_of(one)), tag("p", nights_in_words(one)), class_="past")


def _newest(one: Database) -> str:
    if one.snapshots is None:
        return "The repository did not list its snapshots."
    if not one.snapshots:
        return "There are no snapshots."
    return f"{counted(len(one.snapshots), 'snapshot')}, the newest from {clock(one.snapshots[0].time)}"


def _listed(one: Database) -> Html | None:
    if not one.snapshots:
        return None
    pinned = [snapshot for snapshot in one.snapshots[_LISTED:] if snapshot.pinned]
    shown = [*one.snapshots[:_LISTED], *pinned[:_LISTED]]
    more = len(one.snapshots) - len(shown)
    return join(
        tag("ul", *map(_snapshot, shown), class_="snapshots", role="list"),
        run(f"{counted(more, 'older one')} on {one.host}", list_on_host(one.container)) if more else None,
    )


def _snapshot(one: Snapshot) -> Html:
    known = [clock(one.time), human_bytes(one.dump_bytes) if one.dump_bytes else None]
    # Most are of a night, which needs no word.
    known += [one.reason if one.reason != "nightly" else None, "pinned" if one.pinned else None]
    words = ", ".join(word for word in known if word)
    return tag("li", tag("code", one.id), " ", words)

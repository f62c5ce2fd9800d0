# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The playbooks' final report on all hosts: a table, the worst first, and the number of hosts per outcome.

Each host is a mapping of its name, ``host``, and of the playbook's facts about it. A host that has none of them, because its
run ended before anything was noted, or whose answer cannot be read, counts as one that gave none: it must not cost the others
their report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.filter.tally import tally
from ansible_collections.scalr.backup.plugins.filter.text_table import text_table
from ansible_collections.scalr.backup.plugins.plugin_utils._findings import severities
from ansible_collections.scalr.backup.plugins.plugin_utils._legible import each_for_itself
from ansible_collections.scalr.backup.plugins.plugin_utils._terminal import prose
from ansible_collections.scalr.backup.plugins.plugin_utils._units import human_age, human_bytes, whole_percent

Record = Mapping[str, Any]
Row = list[object]
_Options = ParamSpec("_Options")
_LinesOf = Callable[Concatenate[Sequence[Record], _Options], list[str]]

_FAILED = ("not reached", "failed")
_NO_ANSWER = "The host gave no answer; its error is above."


def _noted(hosts: Iterable[Record], **otherwise: object) -> list[Record]:
    """The hosts, and what counts for those of which nothing was noted."""
    return [{"outcome": "failed", "failure": _NO_ANSWER, **otherwise, **host} for host in hosts]


def _each_for_itself(lines_of: _LinesOf[_Options]) -> _LinesOf[_Options]:
    """The same lines, in which a host whose answer cannot be read has no other row than its failure."""

    @wraps(lines_of)
    def lines(hosts: Sequence[Record], /, *arguments: _Options.args, **options: _Options.kwargs) -> list[str]:
        return each_for_itself(lambda shown: lines_of(shown, *arguments, **options), hosts, _silent)

    return lines


def _silent(host: Record, why: str) -> Record:
    return {"host": host["host"], "failure": why, "summary": why}


@_each_for_itself
def backup_lines(hosts: Sequence[Record]) -> list[str]:
    """What became of the backups: ``outcome``, ``rows``, ``failure`` and ``notes`` of each host."""
    hosts = _noted(hosts, rows=[], notes=[])
    bad: list[Row] = []
    good: list[Row] = []
    for host in hosts:
        if _has_only_its_failure(host):
            bad.append([host["host"], "", "", host["failure"], *[""] * 5])
        for row in host["rows"]:
            (good if row.get("ok", True) else bad).append(_saved(host["host"], row))
    header = ["HOST", "CONTAINER", "DATABASE", "RESULT", "SNAPSHOT", "READ", "NEW", "ROWS", "TIME"]
    # What nothing backs up.
    notes = [f"{host['host']}: {note}" for host in hosts for note in host["notes"]]
    return [
        *text_table(bad + good, header, right=["READ", "NEW", "ROWS", "TIME"]),
        *_apart(notes),
        *_counted(hosts, _FAILED),
    ]


def _saved(host: str, row: Record) -> Row:
    """What became of one database."""
    if "ok" not in row:
        return [host, row["container"], row["database"], "would be saved", *[""] * 5]
    return [
        host,
        row["container"],
        row["database"],
        "saved" if row["ok"] else row["error"]["message"],
        _short(row.get("snapshot_id")),
        human_bytes(row["bytes_read"]),
        human_bytes(row["bytes_added"]),
        row.get("rows"),
        duration(row["duration_seconds"]),
    ]


@_each_for_itself
def check_lines(hosts: Sequence[Record]) -> list[str]:
    """What became of the checks: ``outcome``, ``failure`` and ``read`` of each host."""
    hosts = _noted(hosts, read="")
    bad = [[host["host"], host["failure"], ""] for host in hosts if host["failure"]]
    good = [[host["host"], "intact", host["read"]] for host in hosts if not host["failure"]]
    return [*text_table(bad + good, ["HOST", "REPOSITORY", "DATA READ"]), *_counted(hosts, _FAILED)]


@_each_for_itself
def drill_lines(hosts: Sequence[Record], check_mode: bool = False) -> list[str]:
    """What became of the drills: ``outcome``, ``rows`` and ``failure`` of each host."""
    hosts = _noted(hosts, rows=[])
    bad: list[Row] = []
    good: list[Row] = []
    for host in hosts:
        if _has_only_its_failure(host):
            bad.append([host["host"], "", "", host["failure"], *[""] * 8])
        for row in host["rows"]:
            (good if row["ok"] else bad).append(_drilled(host["host"], row))
    header = ["HOST", "CONTAINER", "DATABASE", "RESULT", "SNAPSHOT", "MADE", "IMAGE"]
    header += ["TABLES", "ROWS", "RESTORED IN", "AMCHECK", "ASSERTIONS"]
    warning = ["Check mode cannot predict a drill: nothing was restored."] if check_mode else []
    return [
        *text_table(bad + good, header, right=["TABLES", "ROWS", "RESTORED IN"]),
        *_counted(hosts, (*_FAILED, "not tried")),
        *warning,
    ]


def _drilled(host: str, row: Record) -> Row:
    """What became of one database."""
    not_tried = "not tried: " if row.get("tried") is False else ""
    assertions = row.get("assertions")
    return [
        host,
        row["container"],
        row["database"],
        "passed" if row["ok"] else f"{not_tried}{row['error']['message']}",
        _short(row.get("snapshot_id")),
        _moment(row.get("snapshot_time")),
        row.get("image"),
        row.get("tables"),
        row.get("rows"),
        duration(row.get("recovery_seconds")),
        row.get("amcheck"),
        f"{assertions['passed']} of {assertions['passed'] + assertions['failed']}" if assertions else "",
    ]


@_each_for_itself
def prune_lines(hosts: Sequence[Record], check_mode: bool = False) -> list[str]:
    """What became of the rules: ``outcome``, ``failure``, ``removed``, ``kept`` and ``warnings`` of each host."""
    hosts = _noted(hosts, removed="", kept="", warnings=[])
    ordered = sorted(hosts, key=lambda host: not host["failure"])
    rows = [[host["host"], host["failure"] or host["outcome"], host["removed"], host["kept"]] for host in ordered]
    removed = "WOULD BE REMOVED" if check_mode else "REMOVED"
    return [
        *text_table(rows, ["HOST", "RESULT", removed, "REMAIN"], right=[removed, "REMAIN"]),
        *_counted(hosts, ("not reached", "not trusted", "failed")),
        *(warning for host in hosts for warning in host["warnings"]),
    ]


def rotate_lines(hosts: Sequence[Record]) -> list[str]:
    """What became of the passwords: ``result``, ``switched`` and ``giver`` of each host, as far as it came."""
    rows = [[host["host"], host.get("result", "NOT changed: the host was not reached.")] for host in hosts]
    givers = {host["giver"] for host in hosts if host.get("switched")}
    notes = []
    if "operator" in givers:
        notes.append(
            "Where backup_password or an env file sets the password, put the new one there now: site.yml rejects any other."
        )
    if "role" in givers:
        notes.append(
            "The new passwords are stored on the hosts and on this controller. KEEP A COPY SOMEWHERE ELSE: losing the "
            "password loses every backup."
        )
    return [*text_table(rows, ["HOST", "PASSWORD"]), *_apart(notes)]


# What a status is called, the worst first; what is not among them is well.
_UNWELL = ("not reached", "without an answer", "not safe", "not complete")
_GOOD = "ok"
_HEALTHY = {"safe": "yes", "not complete": "partly", "nothing to back up": "", "waiting for the first pass": ""}


@_each_for_itself
def status_lines(hosts: Sequence[Record]) -> list[str]:
    """How well all hosts are: ``outcome``, ``rows``, ``next_pass``, ``summary``, ``findings`` and ``kept`` of each."""
    silent: dict[str, Any] = {"outcome": "without an answer", "summary": _NO_ANSWER, "next_pass": ""}
    hosts = _noted(hosts, **silent, rows=[], findings=[], kept=[])
    ordered = sorted(hosts, key=_how_bad)
    rows = sorted(((host, row) for host in ordered for row in host["rows"]), key=lambda pair: _urgency(*pair))
    header = ["HOST", "CONTAINER", "DATABASE", "STATE", "LAST BACKUP", "AGE", "DUMP", "NEW A NIGHT", "SNAPSHOT"]
    of_hosts = [
        [host["host"], _HEALTHY.get(host["outcome"], "NO"), host["next_pass"], host["summary"]] for host in ordered
    ]
    return [
        *text_table(
            [_database(host, row) for host, row in rows],
            [*header, "LAST DRILL", "RESTORED IN"],
            right=["AGE", "DUMP", "NEW A NIGHT", "RESTORED IN"],
        ),
        "",
        *text_table(of_hosts, ["HOST", "HEALTHY", "NEXT PASS", "SUMMARY"]),
        *_apart(line for host in ordered for line in _complaints(host)),
        "",
        tally(map(_fate, ordered), "host", _UNWELL),
    ]


def _how_bad(host: Record) -> int:
    """The place of a host in the order: those that say nothing are alike, and so are those that are well."""
    outcome = host["outcome"]
    return max(_UNWELL.index(outcome), 1) if outcome in _UNWELL else len(_UNWELL)


def _urgency(host: Record, row: Record) -> int:
    """The place of a database in the order: lost, stale, not proven or with a failure of its container, good."""
    if not row.get("last_success"):
        return 0
    if not (row["ok"] and row.get("fresh", True)):
        return 1
    return 3 if _state(host, row) == _GOOD else 2


def _drill_is_well(row: Record) -> bool:
    return bool((row.get("drill") or {}).get("ok", True))


def _database(host: Record, row: Record) -> Row:
    """How well one database is."""
    drill = row.get("drill") or {}
    return [
        host["host"],
        row["container"],
        row["database"],
        _state(host, row),
        _moment(row.get("last_success")),
        _if_known(human_age, row["age_seconds"]),
        _if_known(human_bytes, row.get("bytes_read")),
        _new_a_night(row),
        _short(row.get("snapshot_id")),
        f"{'passed' if drill['ok'] else 'FAILED'} {human_age(drill['age_seconds'])} ago" if drill else "never",
        duration(drill.get("recovery_seconds")),
    ]


def _new_a_night(row: Record) -> str | None:
    """What of a database was new on its last whole night, and beside one of its dumps."""
    night = (row.get("new_data") or {}).get("night")
    return f"{human_bytes(night['bytes_added'])}, {whole_percent(night['share'] or 0)}" if night else None


def _state(host: Record, row: Record) -> str:
    if not row["ok"]:
        return str((row.get("error") or {}).get("message", "never backed up"))
    if not row.get("fresh", True):
        return "no recent backup"
    if not _drill_is_well(row):
        return "drill failed"
    return "not safe, see below" if "failure" in severities(row, host["findings"]) else _GOOD


def _fate(host: Record) -> str:
    """What a host counts as. One whose repository is lost with it is not just safe."""
    on_host = any(finding.get("code") == "repository_on_host" for finding in host["findings"])
    return "safe as long as the host lives" if host["outcome"] == "safe" and on_host else str(host["outcome"])


def _complaints(host: Record) -> Iterator[str]:
    """What is wrong, what to do about it, and what else there is to know."""
    for finding in host["findings"]:
        yield from prose(f"{host['host']}: {finding['message']}")
        yield from prose(f"    {finding['remedy']}") if finding.get("remedy") else ()
        # A command stays one line: it is there to be copied.
        yield from (f"    {finding['command']}",) if finding.get("command") else ()
    for copy in host["kept"]:
        yield from prose(
            f"{host['host']}: {copy['container']}/{copy['database']} was kept by a restore on {copy['kept_since'][:10]} "
            "and is not backed up; once you no longer need it:"
        )
        yield f"    {copy['command']}"
    for row in host["rows"]:
        if why := ((row.get("new_data") or {}).get("row_order") or {}).get("why_not"):
            yield from prose(f"{host['host']}: {row['container']}/{row['database']}: {why}.")


def _has_only_its_failure(host: Record) -> bool:
    """Whether a host has failed, and none of its databases tells why."""
    return host["outcome"] in _FAILED and all(row.get("ok") for row in host["rows"])


def _counted(hosts: Iterable[Record], order: Sequence[str]) -> list[str]:
    return ["", tally((host["outcome"] for host in hosts), "host", order)]


def _apart(lines: Iterable[str]) -> list[str]:
    """Lines below an empty one, where there are any."""
    found = list(lines)
    return ["", *found] if found else []


def _if_known(said: Callable[[float], str], number: float | None) -> str | None:
    """A number in words; the table has a mark of its own for what is not known."""
    return None if number is None else said(number)


def _short(identity: str | None) -> str:
    return (identity or "")[:8]


def _moment(time: str | None) -> str:
    """An ISO 8601 time in UTC, to the second."""
    return f"{time[:19]}Z" if time else ""

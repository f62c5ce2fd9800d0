# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read of a verb's result: one table for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from scalr_backup.cli.doctor_lines import show_checks
from scalr_backup.cli.layout import show_table
from scalr_backup.core.units import NOTHING, counted, human_age, human_bytes, human_duration, printable, whole_percent

if TYPE_CHECKING:
    from scalr_backup.core.answers import (
        BackupPlanAnswer,
        DiscoverAnswer,
        DrillAnswer,
        ForgetAnswer,
        FoundContainer,
        HistoryAnswer,
        JudgedDatabase,
        JudgedDrill,
        NotifyAnswer,
        PinAnswer,
        PlannedDatabase,
        RehearseAnswer,
        RestoreAnswer,
        RestoredAnswer,
        SnapshotsAnswer,
        StatusAnswer,
    )
    from scalr_backup.core.key_answers import KeyAddedAnswer, KeysAnswer, KeysRemovedAnswer, PasswordAnswer
    from scalr_backup.core.new_data_answers import GrowthAnswer, NewDataAnswer
    from scalr_backup.core.records.failures import FailureRecord
    from scalr_backup.core.records.history import BackupLine, Entry
    from scalr_backup.core.records.maintenance import KeptCount
    from scalr_backup.core.records.passes import CopyRecord, KeptCopyRecord, PassRecord


def _moment(text: str | None) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S %Z}".strip() if text else "never"


def _reason(error: FailureRecord | None) -> str:
    return error["message"] if error else "see the log"


def _discover(console: Console, data: DiscoverAnswer) -> None:
    rows = []
    for container in data["containers"]:
        names = ", ".join(f"{one['name']} ({human_bytes(one['size_bytes'])})" for one in container["databases"])
        version = container["server_version"] or "–"
        rows.append([container["name"], container["status"], version, names or container["reason"] or ""])
    rows += [[one["name"], "NOT BACKED UP", "–", f"{one['why']}; {one['evidence']}"] for one in data["unmatched"]]
    show_table(console, ["CONTAINER", "STATUS", "POSTGRESQL", "DATABASES"], rows)
    _kept_databases(console, [copy for container in data["containers"] for copy in container["kept_databases"]])
    if not rows:
        text = "Nothing to back up: no container on this host matches, and none was found that runs PostgreSQL."
        console.print(text, highlight=False, soft_wrap=True)
    _row_orders(console, data["containers"])
    _notes(console, data["notes"])


def _row_orders(console: Console, containers: Sequence[FoundContainer]) -> None:
    """How the rows of each database's large tables are ordered, where that was asked for; and what would help others."""
    looked = [
        (f"{container['name']}/{one['name']}", one["row_order"])
        for container in containers
        for one in container["databases"]
        if "row_order" in one
    ]
    rows, cures = [], []
    for name, order in looked:
        for table in order["ordered"]:
            way = f"{table['scan']}, descending" if table["descending"] else table["scan"]
            how = f"{', '.join(table['key'])} ({way})"
            rows.append([name, printable(table["table"]), human_bytes(table["bytes"]), printable(how), table["reason"]])
        for heap in order["heap"]:
            rows.append([name, printable(heap["table"]), human_bytes(heap["bytes"]), "heap order", heap["reason"]])
            if heap["cure"]:
                cures.append(f"{name} {heap['table']}: {heap['cure']}.")
        if why := order["error"]["message"] if order["error"] else order["why_not"]:
            rows.append([name, NOTHING, NOTHING, NOTHING, why])
    if not looked:
        return
    console.print()
    if rows:
        show_table(console, ["DATABASE", "TABLE", "SIZE", "ORDER", "WHY"], [[*map(printable, row)] for row in rows])
        _notes(console, [f"To improve {printable(cure)}" for cure in cures])
    else:
        console.print("No table is large enough to be dumped in an order of its own.", highlight=False, soft_wrap=True)


def _notes(console: Console, notes: list[str]) -> None:
    """Print what an operator needs to know besides the table."""
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _backup(console: Console, data: PassRecord | BackupPlanAnswer) -> None:
    if "plan" in data:
        show_table(console, ["CONTAINER", "DATABASE"], [[one["container"], one["database"]] for one in data["plan"]])
        return
    rows = [
        [
            one["container"],
            one["database"],
            "ok" if one["ok"] else "FAILED",
            (one["snapshot_id"] or "–")[:8],
            human_bytes(one["bytes_read"]),
            human_bytes(one["bytes_added"]),
            "–" if one["rows"] is None else f"{one['rows']:,}",
            human_duration(one["duration_seconds"]),
        ]
        for one in data["databases"]
    ]
    show_table(console, ["CONTAINER", "DATABASE", "RESULT", "SNAPSHOT", "DUMP", "ADDED", "ROWS", "TOOK"], rows)
    if not rows and not data["error"]:
        console.print("Nothing to back up.")
    console.print(
        f"run {data['run']}: {human_duration(data['duration_seconds'])}, {data['failed']} failed", highlight=False
    )
    _notes(console, data["notes"])
    if data["copy"]:
        _copy(console, data["copy"])


def _copy(console: Console, data: CopyRecord) -> None:
    if data["ok"]:
        text = f"{counted(data['copied'], 'snapshot')} copied to {data['repository']}, {len(data['removed'])} removed there"
    else:
        text = f"NOT copied to {data['repository']}: {_reason(data['error'])}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _restore(console: Console, data: RestoreAnswer) -> None:
    plan = data["plan"]
    rows = [
        [
            one["database"],
            human_bytes(one["size_bytes"]) if one["exists"] else "absent",
            str(one["sessions"]),
            *_restored_from(one),
        ]
        for one in plan["databases"]
    ]
    source = plan["source"]
    elsewhere = (source["host"], source["container"]) != (plan["host"], plan["container"])
    origin = f", from {source['container']} of {source['host']}" if elsewhere else ""
    console.print(f"{plan['host']}: {plan['container']} (PostgreSQL {plan['server_version']}){origin}", highlight=False)
    show_table(console, ["DATABASE", "SIZE NOW", "SESSIONS", "REPLACED BY", "TIME", "AGE", "DUMP"], rows)
    for who in (who for one in plan["databases"] for who in one["connected"]):
        name = f"{who['user']} ({who['application'] or 'no name'}, {who['address']})"
        console.print(f"connected: {name}, {counted(who['sessions'], 'session')}", highlight=False, markup=False)
    if plan["roles"]:
        console.print(f"roles to create: {', '.join(plan['roles'])}", highlight=False, markup=False)
    for warning in plan["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)
    for one in data["databases"]:
        console.print(f"{one['database']}: {_fate(one)}", highlight=False, markup=False)


def _restored_from(planned: PlannedDatabase) -> list[str]:
    snapshot = planned["snapshot"]
    if snapshot is None:
        return [planned["old_database"] or NOTHING, NOTHING, NOTHING, NOTHING]
    age, size = human_age(snapshot["age_seconds"]), human_bytes(snapshot["dump_bytes"])
    return [snapshot["short_id"], _moment(snapshot["time"]), age, size]


def _fate(outcome: RestoredAnswer) -> str:
    if not outcome["ok"]:
        return f"NOT restored: {_reason(outcome['error'])}"
    if outcome["snapshot_id"] is None:
        return f"swapped back; the database it replaced is kept as {outcome['old_database']}"
    verified = outcome["verified"]
    how = (
        f"{counted(verified['rows'], 'row')} in {counted(verified['tables'], 'table')} verified"
        if verified
        else "rows not verified"
    )
    kept = f", the replaced one is kept as {outcome['old_database']}" if outcome["old_database"] else ""
    return f"restored in {human_duration(outcome['duration_seconds'])}, {how}{kept}"


def _drill(console: Console, data: DrillAnswer) -> None:
    rows = []
    for one in data["databases"]:
        assertions = one["assertions"]
        asserted = assertions["passed"] + assertions["failed"]
        rows.append(
            [
                one["container"],
                one["database"],
                "passed" if one["ok"] else "FAILED" if one["tried"] else "not tried",
                one["snapshot_id"][:8],
                _moment(one["snapshot_time"]),
                human_duration(one["recovery_seconds"]),
                "–" if one["rows"] is None else f"{one['rows']:,} in {counted(one['tables'] or 0, 'table')}",
                one["amcheck"] or "–",
                f"{assertions['passed']} of {asserted}" if asserted else "–",
            ]
        )
    columns = ["CONTAINER", "DATABASE", "DRILL", "SNAPSHOT", "TIME", "RECOVERY", "ROWS COMPARED", "PG_AMCHECK"]
    show_table(console, [*columns, "ASSERTIONS"], rows)
    for one in data["databases"]:
        if one["error"]:
            reason = one["error"]["message"]
            console.print(f"{one['container']}/{one['database']}: {reason}", markup=False, highlight=False)
    not_tried = f", {data['not_tried']} not tried" if data["not_tried"] else ""
    console.print(
        f"run {data['run']}: {human_duration(data['duration_seconds'])}, {data['failed']} failed{not_tried}",
        highlight=False,
    )


def _snapshots(console: Console, data: SnapshotsAnswer) -> None:
    rows = [
        [
            one["short_id"],
            _moment(one["time"]),
            one["container"] or one["path"],
            one["database"] or "–",
            one["reason"] or "–",
            human_bytes(one["dump_bytes"]),
            "pinned" if one["pinned"] else "",
        ]
        for one in data["snapshots"]
    ]
    show_table(console, ["SNAPSHOT", "TIME", "CONTAINER", "DATABASE", "REASON", "DUMP", ""], rows)


def _key(console: Console, data: KeysAnswer | KeyAddedAnswer | KeysRemovedAnswer) -> None:
    if "keys" not in data:
        _facts(console, data)
        return
    rows = [
        [one["id"][:8], one["user"], one["host"], one["created"], "this host's" if one["current"] else ""]
        for one in data["keys"]
    ]
    show_table(console, ["KEY", "USER", "HOST", "CREATED", ""], rows)
    if data["shared_with"]:
        others = ", ".join(data["shared_with"])
        console.print(f"Other hosts may use this host's key: {others}.", markup=False, highlight=False)


def _status(console: Console, data: StatusAnswer) -> None:
    # The answer comes first, on a line of its own at any width.
    style = {"safe": "bold green", "not_safe": "bold red", "incomplete": "bold yellow"}.get(data["verdict"], "bold")
    console.print(f"[{style}]{escape(data['summary'])}[/]", soft_wrap=True, highlight=False)
    failing = {(one["container"], one["database"]) for one in data["findings"] if one["severity"] == "failure"}
    rows = [
        [
            one["container"],
            one["database"],
            # What is wrong with a container as a whole names no database.
            "PROBLEM" if failing & {(one["container"], one["database"]), (one["container"], "")} else "ok",
            human_age(one["age_seconds"]),
            human_bytes(one["bytes_read"]),
            _new_a_night(one.get("new_data")),
            _kept(one["kept"]),
            _last_drill(one["drill"]),
        ]
        for one in data["databases"]
    ]
    if rows:
        columns = ["CONTAINER", "DATABASE", "HEALTH", "LAST GOOD", "DUMP", "NEW A NIGHT", "KEPT", "LAST DRILL"]
        show_table(console, columns, rows)
    if data["copy"]:
        age = human_age(data["copy"]["age_seconds"])
        console.print(f"copy in {data['copy']['repository']}: last good {age}", markup=False, highlight=False)
    for finding in data["findings"]:
        mark = "•" if finding["severity"] == "failure" else "◦"
        console.print(f"{mark} {finding['message']}", markup=False, highlight=False, soft_wrap=True)
        if finding["remedy"]:
            console.print(f"  {finding['remedy']}", markup=False, highlight=False, soft_wrap=True)
        # Folded here, it would be two commands to whoever copies it.
        console.print(f"  → {finding['command']}", markup=False, highlight=False, soft_wrap=True)
    _kept_databases(console, data["kept_databases"])
    _out_of_order(console, data["databases"])
    if growth := data.get("repository_growth"):
        console.print(_grown(growth), highlight=False, soft_wrap=True)
    text = f"host {data['host']}, schedule {data['schedule']}, next pass {_moment(data['next_pass'])}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _new_a_night(known: NewDataAnswer | None) -> str:
    """What of a database was new on its last night, and beside one of its dumps."""
    night = known["night"] if known else None
    if night is None:
        return NOTHING
    return f"{human_bytes(night['bytes_added'])}, {whole_percent(night['share'] or 0)}"


def _grown(growth: GrowthAnswer) -> str:
    size = growth["bytes_a_night"]
    way = "shrinks" if size < 0 else "grows"
    return f"The repository {way} by {human_bytes(abs(size))} a night, as measured since {growth['since'][:10]}."


def _out_of_order(console: Console, databases: Sequence[JudgedDatabase]) -> None:
    """Databases whose rows auto has stopped to put in order."""
    for one in databases:
        known = one.get("new_data")
        if known and (why := known["row_order"]["why_not"]):
            text = f"◦ {one['container']}/{one['database']}: {why}."
            console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def _kept_databases(console: Console, copies: Sequence[KeptCopyRecord]) -> None:
    """Databases that restores kept beside the live ones, and how to drop them."""
    for copy in copies:
        what = f"{copy['container']}/{copy['database']} ({human_bytes(copy['size_bytes'])})"
        text = f"◦ {what} was kept by a restore on {copy['kept_since'][:10]} and is not backed up; to drop it:"
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        console.print(printable(f"  → {copy['command']}"), markup=False, highlight=False, soft_wrap=True)


def _history(console: Console, data: HistoryAnswer) -> None:
    rows = [[_moment(one["time"]), one["kind"], *_whose(one), _came_to(one), *_figures(one)] for one in data["entries"]]
    if rows:
        columns = ["TIME", "WHAT", "CONTAINER", "DATABASE", "RESULT", "SIZE", "ADDED", "ROWS", "TOOK"]
        show_table(console, columns, rows)
    else:
        console.print(f"Nothing is recorded since {_moment(data['since'])}.", markup=False, highlight=False)


def _came_to(entry: Entry) -> str:
    """How an entry of the history ended; of one that stands for a day, how many of that day were good."""
    if entry["kind"] != "drill" and (day := entry.get("day")):
        failed = f", FAILED: {day['error'] or 'see the log'}" if day["failed"] else ""
        return f"{day['good']} of {day['good'] + day['failed']} ok{failed}"
    return "ok" if entry["ok"] else f"FAILED: {entry['error'] or 'see the log'}"


def _whose(entry: Entry) -> list[str]:
    """The container and the database of an entry; a pass has neither."""
    return ["", ""] if entry["kind"] == "pass" else [entry["container"], entry["database"]]


def _figures(entry: Entry) -> list[str]:
    """Size, new data, rows and duration, as far as an entry of its kind has them."""
    if entry["kind"] == "backup":
        rows = NOTHING if entry["rows"] is None else f"{entry['rows']:,}"
        return [human_bytes(entry["bytes_read"]), _added(entry), rows, human_duration(entry["seconds"])]
    if entry["kind"] == "drill":
        return [NOTHING, NOTHING, NOTHING, human_duration(entry["recovery_seconds"])]
    return [human_bytes(entry["size_bytes"]), NOTHING, NOTHING, NOTHING]


def _added(entry: BackupLine) -> str:
    """What of a dump was new, and as a share of it; or why all of it had to be."""
    added, read = entry.get("bytes_added"), entry.get("bytes_read")
    if not added or not read:
        return human_bytes(added)
    why = {"first": "first", "order": "new order"}.get(entry.get("anew") or "", whole_percent(added / read))
    return f"{human_bytes(added)}, {why}"


def _notify(console: Console, data: NotifyAnswer) -> None:
    for one in data["tested"]:
        fate = f"NOT delivered: {one['error']}" if one["error"] else "delivered"
        console.print(f"{one['service']}: {fate}", markup=False, highlight=False, soft_wrap=True)
    counts = f"sent: {data['sent']}, failed attempts: {data['failed']}, pending: {data['pending']}"
    last = f"; last error: {data['last_error']}" if data["last_error"] else ""
    console.print(f"{counts}{last}", markup=False, highlight=False, soft_wrap=True)


def _kept(kept: KeptCount | None) -> str:
    """How many snapshots retention keeps, and which rules keep them."""
    if kept is None:
        return "–"
    return f"{kept['snapshots']}: {', '.join(f'{count} {why}' for why, count in kept['why'].items())}"


def _forget(console: Console, data: ForgetAnswer) -> None:
    rows = [
        [
            one["short_id"],
            _moment(one["time"]),
            one["container"] or NOTHING,
            one["database"] or NOTHING,
            "keep" if one["keep"] else "REMOVE",
            ", ".join(one["why"]),
        ]
        for one in data["decisions"]
    ]
    if rows:
        show_table(console, ["SNAPSHOT", "TIME", "CONTAINER", "DATABASE", "", "WHY"], rows)
    console.print(f"{len(data['removed'])} removed, {data['kept']} kept", highlight=False)
    for warning in data["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)


def _pin(console: Console, data: PinAnswer) -> None:
    state = "pinned and kept for ever" if data["pinned"] else "no longer pinned: retention applies"
    before = f"; its id was {data['was'][:8]}" if data["was"] != data["id"] else ""
    console.print(f"{data['id'][:8]} is {state}{before}.", markup=False, highlight=False, soft_wrap=True)


def _last_drill(drill: JudgedDrill | None) -> str:
    if drill is None:
        return "never"
    ago = f"{human_age(drill['age_seconds'])} ago"
    return f"passed {ago}, {human_duration(drill['recovery_seconds'])}" if drill["ok"] else f"FAILED {ago}"


def _facts(console: Console, data: Mapping[str, object]) -> None:
    """Results that need no table; unknown values are left out."""
    for name, value in data.items():
        if value is not None:
            console.print(f"{name.replace('_', ' ')}: {_in_words(value)}", markup=False, highlight=False)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, dict):
        known = {name.replace("_", " "): one for name, one in value.items() if one is not None}
        return ", ".join(f"{name} {_in_words(one)}" for name, one in known.items()) or "none"
    return str(value)


def _password(console: Console, data: PasswordAnswer) -> None:
    if not data["generated"]:
        console.print(
            f"There is a password in {data['path']}; it stays.", markup=False, highlight=False, soft_wrap=True
        )
        return
    for line in (
        f"A PASSWORD WAS GENERATED for the backups of {data['host']}. It is stored in",
        f"  {data['path']}",
        "and nowhere else. KEEP A COPY ON ANOTHER MACHINE: losing it loses every backup.",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rehearsal(console: Console, data: RehearseAnswer) -> None:
    for which, opened in (("repository", data["repository"]), ("copy", data["copy"])):
        if opened:
            state = (
                "opens" if not opened["created"] else "was created" if opened["repository_id"] else "does not exist yet"
            )
            console.print(f"{which}: {opened['repository']} {state}", markup=False, highlight=False)


# One for each verb, each with that verb's own answer.
TABLES: dict[str, Callable[[Console, Any], None]] = {
    "discover": _discover,
    "backup": _backup,
    "copy": _copy,
    "restore": _restore,
    "drill": _drill,
    "snapshots": _snapshots,
    "status": _status,
    "doctor": show_checks,
    "history": _history,
    "health": _facts,
    "key": _key,
    "forget": _forget,
    "prune": _facts,
    "pin": _pin,
    "unpin": _pin,
    "check": _facts,
    "init": _facts,
    "password": _password,
    "rehearse": _rehearsal,
    "unlock": _facts,
    "validate": _facts,
    "notify": _notify,
}

# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What people read about a restore: what would be replaced, the confirmation, and the outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.filter.text_table import text_table
from ansible_collections.scalr.backup.plugins.plugin_utils._units import human_age, human_bytes, printable

Record = Mapping[str, Any]


def restore_objection(wish: Record, password: str, repository: str) -> str:
    """Why a restore makes no sense, before any host is queried; empty if it does."""
    if not wish["db"] and not wish["undo"]:
        return "Set the container to restore, for example -e db=scalr-foo-db."
    if wish["strategy"] not in ("beside", "replace"):
        return f"restore_strategy is {wish['strategy']}, but must be beside or replace."
    if password and not repository:
        return "from_password is the password of another repository: set from_repository to its address."
    return ""


def restore_plan(plan: Record, host: str, wish: Record) -> dict[str, Any]:
    """A plan as people read it: its ``title``, all ``lines``, and the ``question`` whether it may be."""
    title = _title(plan, host, wish)
    becomes = "replaced" if any(row["exists"] for row in plan["databases"]) else "created"
    return {
        "title": title,
        "lines": [
            f"{title}. These databases will be {becomes}:",
            "",
            *(_table_of_undo(plan) if wish["undo"] else _table(plan)),
            "",
            *_connected(plan),
            *_consequences(plan, wish),
            *(f"WARNING: {warning}" for warning in plan.get("warnings") or []),
        ],
        "question": _question(plan, host),
    }


def _title(plan: Record, host: str, wish: Record) -> str:
    if wish["undo"]:
        return f"Undo of the restore {wish['undo']} in {plan['container']} on {host}"
    source = f" of {wish['source']}" if wish["source"] else ""
    into = f" into {wish['target']}" if wish["target"] not in ("", wish["db"]) else ""
    return f"Restore of {wish['db']}{source}{into} on {host}"


def _table(plan: Record) -> list[str]:
    """The databases, and the snapshots that take their places."""
    rows = []
    for row in plan["databases"]:
        if not (snapshot := row["snapshot"]):
            continue
        source = f" (from {row['source_database']})" if row["source_database"] != row["database"] else ""
        rows.append(
            [
                f"{row['database']}{source}",
                *_now(row),
                snapshot["short_id"],
                f"{snapshot['time'][:19]}Z",
                human_age(snapshot["age_seconds"]),
                human_bytes(snapshot["dump_bytes"]),
            ]
        )
    header = ["DATABASE", "SIZE NOW", "CONNECTED", "SNAPSHOT", "MADE", "AGE", "DUMP"]
    return text_table(rows, header, right=["SIZE NOW", "CONNECTED", "AGE", "DUMP"])


def _table_of_undo(plan: Record) -> list[str]:
    """The databases, and those that are put back in their places."""
    rows = [[row["database"], *_now(row), row["old_database"]] for row in plan["databases"]]
    header = ["DATABASE", "SIZE NOW", "CONNECTED", "PUT BACK"]
    return text_table(rows, header, right=["SIZE NOW", "CONNECTED"])


def _now(row: Record) -> tuple[object, object]:
    """How large a database is now, and how many are connected to it."""
    return human_bytes(row["size_bytes"]) if row["exists"] else "absent", row.get("sessions")


def _connected(plan: Record) -> Iterator[str]:
    """Who is connected to what would be replaced."""
    for row in plan["databases"]:
        for one in row.get("connected") or []:
            application = f" with {one['application']}" if one.get("application") else ""
            address = f" from {one['address']}" if one.get("address") else ""
            sessions = f", {one['sessions']} sessions" if one["sessions"] > 1 else ""
            yield f"Connected to {row['database']}: {one['user']}{application}{address}{sessions}"


def _consequences(plan: Record, wish: Record) -> Iterator[str]:
    """What happens beside that, and to what is there now."""
    if plan.get("roles"):
        yield f"These roles are missing and will be created: {', '.join(plan['roles'])}."
    if wish["undo"]:
        yield "The current databases are kept under another name."
        return
    yield f"The current databases are {'' if wish['safety_snapshot'] else 'NOT '}backed up first."
    if plan["strategy"] == "replace":
        yield "The live databases are DROPPED FIRST: if the restore fails, there are none."
    elif wish["keep_old"]:
        yield "The replaced databases are kept under another name."
    else:
        yield "The replaced databases are dropped once their successors are in place."


def _question(plan: Record, host: str) -> str:
    wanted = plan["confirm"]
    typed = f"the container's name, {wanted}," if wanted == plan["container"] else wanted
    does = "drop and restore" if plan["strategy"] == "replace" else "replace"
    # Ansible shows it as it is, and the host has named the container.
    return printable(f"Type {typed} to {does} these databases on {host}; anything else aborts")


def restore_confirmation(wanted: str, confirm: object = None, answer: str = "") -> str:
    """Why nothing is restored: neither *confirm*, where it is given, nor the *answer* is what is *wanted*."""
    given = answer.strip() if confirm is None else confirm
    if given == wanted:
        return ""
    return printable(f"Nothing was restored: {_unconfirmed(wanted, confirm, answer.strip())}")


def _unconfirmed(wanted: str, confirm: object, answer: str) -> str:
    if confirm is not None:
        return f"confirm is {confirm or 'empty'}, but must be {wanted}."
    if answer:
        return f"the answer was {answer}, but must be {wanted}."
    # A command line takes what stands behind a space for another variable.
    variable = f"'{json.dumps({'confirm': wanted})}'" if " " in wanted else f"confirm={wanted}"
    return f"there was no answer. Type {wanted}, or pass -e {variable} where there is no terminal."


def restore_outcome(result: Record, title: str, undo: str = "") -> list[str]:
    """What became of each database, and what is to be known beside that."""
    rows = [
        [
            row["database"],
            ("put back" if undo else "restored") if row["ok"] else row["error"]["message"],
            (row.get("snapshot_id") or "")[:8],
            (row.get("safety_snapshot_id") or "")[:8],
            row.get("old_database"),
            (row.get("verified") or {}).get("tables"),
            (row.get("verified") or {}).get("rows"),
            duration(row.get("duration_seconds")),
        ]
        for row in result["databases"]
    ]
    header = ["DATABASE", "RESULT", "FROM", "BEFORE", "OLD ONE", "TABLES", "ROWS", "TIME"]
    notes = list(_notes(result))
    return [
        f"{title}:",
        "",
        *text_table(rows, header, right=["TABLES", "ROWS", "TIME"]),
        *(["", *notes] if notes else []),
    ]


def _notes(result: Record) -> Iterator[str]:
    for row in result["databases"]:
        if row.get("kept_database"):
            yield f"The restored copy of {row['database']} is kept as {row['kept_database']} for inspection."
    if result.get("roles_created"):
        yield f"Roles created: {', '.join(result['roles_created'])}."
    if any(row.get("old_database") for row in result["databases"]):
        yield f"To swap back the replaced databases: ansible-playbook scalr.backup.restore -e undo={result['run']}"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs for backups: discovery, a pass, its copy, its snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from scalr_backup.actions.backup.result import PassPlan, PassRequest
from scalr_backup.actions.discovery import Discovered, Discovery
from scalr_backup.actions.health import findings
from scalr_backup.actions.order_look import RowOrders, row_orders
from scalr_backup.actions.restore import selection
from scalr_backup.actions.retention import pins
from scalr_backup.cli.call import Copy, DryRun, Json, SnapshotId, run_verb
from scalr_backup.cli.output import Outcome
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import schedule
from scalr_backup.core.answers import (
    BackupPlanAnswer,
    DatabaseName,
    DiscoverAnswer,
    FoundContainer,
    FoundDatabase,
    SnapshotsAnswer,
)
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import ExitCode, UnknownSnapshotError
from scalr_backup.core.keeping import notes_on_keeping
from scalr_backup.core.model import MANUAL, Cluster, Database
from scalr_backup.core.progress import log
from scalr_backup.tools import place
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.state import State


def discover(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs (default: all).")] = None,
    row_order: Annotated[
        bool, typer.Option("--row-order", help="Show how the rows of large tables are ordered, and why others are not.")
    ] = False,
    json: Json = False,
) -> None:
    """Show this host's database containers and what they hold."""

    def call(agent: Agent) -> Outcome:
        config = agent.config()
        discovery = Discovery(config, DockerHost(), agent.cancelled, agent.emit)
        found = discovery.clusters(db or ())
        state = State()
        history = state.order_history(utc_now())
        orders = row_orders(config, discovery, found.clusters, history) if row_order else {}
        state.put(look=found.look.as_record(utc_now()))
        now = utc_now()
        due = schedule.next_pass(config, now).isoformat()
        note = findings.of_repository_on_host(config) if place.is_lost_with_the_host(config) else ""
        answer = _discovered(config.host, found, orders, due, note)
        answer["notes"] += notes_on_keeping(config, now)
        if sentence := state.unwritten():  # It is a look all the same.
            agent.emit(log("warning", sentence))
        return Outcome(answer)

    run_verb("discover", json, call)


def backup_verb(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs (default: all).")] = None,
    reason: Annotated[str, typer.Option(help="nightly or manual; retention treats them separately.")] = MANUAL,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="An extra tag; 'pinned' keeps the snapshots for ever.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a running pass instead of failing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be backed up, and change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Back up databases, one snapshot each; then write the manifest and apply retention."""

    def call(agent: Agent) -> Outcome:
        request = PassRequest(tuple(db or ()), reason, tuple(tag or ()), 24 * 3600.0 if wait else 0.0)
        if dry_run:
            return _planned(agent.backup().plan(request.patterns))
        result = agent.backup().run(request)
        changed = any(outcome.ok for outcome in result.databases)
        return Outcome(result.as_dict(), changed, result.exit_code, result.failure)

    run_verb("backup", json, call)


def copy_verb(json: Json = False) -> None:
    """Copy snapshots to the second repository and apply its retention, as each pass does."""

    def call(agent: Agent) -> Outcome:
        copied = agent.copier().run()
        changed = copied.copied > 0 or bool(copied.removed)
        return Outcome(copied.as_dict(), changed, ExitCode.GOOD if copied.ok else ExitCode.FAILED, copied.error)

    run_verb("copy", json, call)


def snapshots(
    db: Annotated[str | None, typer.Option("--db", help="Only snapshots of this container.")] = None,
    database: Annotated[str | None, typer.Option(help="Only snapshots of this database.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="Only the snapshot with this id or prefix.")] = None,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """List the snapshots of this host's databases."""

    def call(agent: Agent) -> Outcome:
        dumps = [one for one in agent.restic(copy=copy).snapshots() if one.container]
        found = selection.of_database(dumps, db, database) if db or database else dumps
        if snapshot is not None:
            found = [one for one in found if any(name.startswith(snapshot) for name in one.ids)]
            if not found:
                raise UnknownSnapshotError(f"No snapshot's id begins with {snapshot!r}.")
        return Outcome(SnapshotsAnswer(snapshots=[one.as_dict() for one in found]))

    run_verb("snapshots", json, call)


def pin(
    snapshot: SnapshotId,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Keep a snapshot for ever, whatever retention says; its id changes, and the new one is printed."""
    run_verb("pin", json, lambda agent: _pinned(agent, snapshot, pinned=True, copy=copy, dry_run=dry_run))


def unpin(
    snapshot: SnapshotId,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Return a pinned snapshot to retention; its id changes, and the new one is printed."""
    run_verb("unpin", json, lambda agent: _pinned(agent, snapshot, pinned=False, copy=copy, dry_run=dry_run))


def _pinned(agent: Agent, snapshot: str, *, pinned: bool, copy: bool, dry_run: bool) -> Outcome:
    restic = agent.restic(copy=copy)
    done = pins.pin(agent.config(), restic, snapshot, pinned=pinned, anywhere=copy, dry_run=dry_run)
    return Outcome(done.as_dict(), changed=done.changed)


def _discovered(host: str, found: Discovered, orders: RowOrders, due: str, note: str) -> DiscoverAnswer:
    clusters = {cluster.container.name: cluster for cluster in found.clusters}
    containers: list[FoundContainer] = []
    for container in found.containers:
        cluster = clusters.get(container.name)
        containers.append(
            {
                "name": container.name,
                "id": container.id[:12],
                "image": container.image,
                "state": container.state,
                "status": container.status,
                "reason": container.reason,
                "server_version": cluster.server_version if cluster else None,
                "databases": [_database(cluster, one, orders) for one in cluster.databases] if cluster else [],
                "kept_databases": cluster.kept_as_dicts() if cluster else [],
                "left_out_databases": cluster.left_out_as_dicts() if cluster else [],
            }
        )
    unmatched = [container.as_dict() for container in found.look.unmatched]
    return {
        "host": host,
        "containers": containers,
        "unmatched": unmatched,
        "notes": findings.notes_on(unmatched),
        "warnings": found.warnings,
        "next_pass": due,
        "repository_note": note,
    }


def _database(cluster: Cluster, database: Database, orders: RowOrders) -> FoundDatabase:
    described = database.as_dict()
    if order := orders.get((cluster.container.name, database.name)):
        described["row_order"] = order
    return described


def _planned(plan: PassPlan) -> Outcome:
    """What a pass would do; it fails where the pass would fail."""
    databases: list[DatabaseName] = [
        {"container": container, "database": database} for container, database in plan.databases
    ]
    exit_code = ExitCode.SOME_DATABASES_FAILED if plan.failure else ExitCode.GOOD
    return Outcome(BackupPlanAnswer(plan=databases), bool(databases), exit_code, plan.failure)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs: parse, call one use case, print, exit."""

from __future__ import annotations

import getpass
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from enum import StrEnum
from json import dumps
from typing import Annotated, Any, cast

import typer

from scalr_backup import __version__
from scalr_backup.actions import opening
from scalr_backup.actions.backup import run as backup
from scalr_backup.actions.discovery import Discovered, Discovery
from scalr_backup.actions.drill import run as drill
from scalr_backup.actions.health import alerts, findings, status
from scalr_backup.actions.health.outbox import Courier, Outbox, Recipients
from scalr_backup.actions.repository import copy as copies
from scalr_backup.actions.repository import keys, maintenance
from scalr_backup.actions.restore import run as restore
from scalr_backup.actions.restore import selection, undo
from scalr_backup.actions.retention import policy as retention
from scalr_backup.actions.use_case import Tools
from scalr_backup.cli import options
from scalr_backup.cli.output import HumanOutput, JsonOutput, Outcome, Output
from scalr_backup.core import schedule, stopping
from scalr_backup.core.config import (
    Addresses,
    Config,
    Given,
    Keep,
    Secrets,
    load_addresses,
    load_config,
    load_copy_secrets,
    load_secrets,
    other_secrets,
    parse_addresses,
    parse_config,
    parse_given,
    parse_password,
)
from scalr_backup.core.errors import (
    AppendOnlyError,
    ConfigurationError,
    ExitCode,
    InterruptedRunError,
    ScalrBackupError,
    UnknownSnapshotError,
    UsageError,
)
from scalr_backup.core.logs import LEVELS, make_logger
from scalr_backup.core.model import MANUAL, DatabaseBackup, Failure
from scalr_backup.core.progress import log
from scalr_backup.tools import heartbeat, history, notify, place
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.restic.stores import redact
from scalr_backup.tools.state import State, utc_now

app = options.Verbs(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Backs up and restores the PostgreSQL containers of this host.",
)

Json = Annotated[bool, typer.Option("--json", help="Print events and, last, one result, a JSON object a line.")]
FromCopy = Annotated[bool, typer.Option("--from-copy", help="Restore from the second repository.")]
Scheduled = Annotated[
    bool, typer.Option("--scheduled", help="As the schedule does: give way to a pass, a restore or a drill.")
]
Snapshot = Annotated[str, typer.Argument(help="The snapshot's id, or the beginning of it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Copy = Annotated[bool, typer.Option("--copy", help="The second repository instead of the first.")]


# The code of a status that is not good.
NOT_SAFE = "not_safe"


class Agent:
    """The tools that a verb may need, each made when it is first asked for."""

    def __init__(self, out: Output) -> None:
        self.emit = out.event
        self.cancelled = stopping.listen()

    def config(self) -> Config:
        """The configuration, read anew."""
        return load_config()

    def restic(self, *, copy: bool = False) -> Restic:
        """The configured repository, or the second one, through restic."""
        return self.copy_restic() if copy else Restic(self.config(), load_secrets(), cancelled=self.cancelled)

    def copy_restic(self) -> Restic:
        """The second repository, through restic.

        Raises UsageError where there is none.
        """
        config = self.config()
        if config.copy_to is None:
            raise UsageError("There is no second repository: backup_copy_repository names none.")
        config = config.model_copy(update={"repository": config.copy_to.repository, "keep": config.copy_to.keep})
        return Restic(config, load_copy_secrets(), cancelled=self.cancelled)

    def given_restic(self, given: Given) -> tuple[Restic, Restic | None]:
        """The repositories of a configuration that is not in use, through restic: the first one, and the second if any."""
        first = Restic(given.config, given.secrets, cancelled=self.cancelled)
        if given.config.copy_to is None:
            return first, None
        update = {"repository": given.config.copy_to.repository, "keep": given.config.copy_to.keep}
        return first, Restic(given.config.model_copy(update=update), given.copy_secrets, cancelled=self.cancelled)

    def copier(self) -> copies.Copier:
        """The use case of a copy."""
        return copies.Copier(self._tools())

    def backup(self) -> backup.Pass:
        """The use case of a pass."""
        return backup.Pass(self._tools())

    def restore(self, source: Restic | None = None) -> restore.Restore:
        """The use case of a restore, from another repository where one is given."""
        return restore.Restore(self._tools(), source)

    def undo(self) -> undo.Undo:
        """The use case of an undo."""
        return undo.Undo(self._tools())

    def other_repository(self, repository: str, secrets: Secrets | None) -> Restic:
        """Another repository than the configured one; with this agent's secrets unless others are given."""
        config = self.config().model_copy(update={"repository": repository})
        return Restic(config, secrets or load_secrets(), cancelled=self.cancelled)

    def keys(self, *, copy: bool = False) -> keys.Keys:
        """The use case of the passwords that open the repository, or the second one."""
        return keys.Keys(self.restic(copy=copy), self.config().host, self.emit)

    def care(self) -> maintenance.Maintenance:
        """The use case of checks and prunes."""
        return maintenance.Maintenance(self.config(), State(), self.emit, self.cancelled)

    def place(self, *, copy: bool = False) -> maintenance.Place:
        """The repository to care for, or the second one."""
        return maintenance.Place(self.restic(copy=copy), maintenance.OF_COPY if copy else "")

    def places(self) -> list[maintenance.Place]:
        """Every repository that the schedule cares for."""
        return [self.place(copy=copy) for copy in ([False, True] if self.config().copy_to else [False])]

    def drill(self, source: Restic | None = None) -> drill.Drill:
        """The use case of a drill, from another repository where one is given."""
        return drill.Drill(self._tools(), DockerHost(), source)

    def _tools(self) -> Tools:
        config = self.config()
        discovery = Discovery(config, DockerHost(), self.cancelled, self.emit)
        copy_to = self.copy_restic if config.copy_to else None
        return Tools(config, discovery, self.restic(), State(), self.emit, self.cancelled, copy_to)


@app.command()
def discover(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs; default all.")] = None,
    json: Json = False,
) -> None:
    """Show the database containers of this host and what they hold."""

    def call(agent: Agent) -> Outcome:
        config = agent.config()
        found = Discovery(config, DockerHost(), agent.cancelled, agent.emit).clusters(db or ())
        State().put("look", found.look.as_record(utc_now()))
        due = schedule.next_pass(config, utc_now()).isoformat()
        note = findings.of_repository_on_host(config) if place.is_lost_with_the_host(config) else ""
        return Outcome({**_discovered(config.host, found), "next_pass": due, "repository_note": note})

    _run("discover", json, call)


@app.command(name="backup")
def backup_verb(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs; default all.")] = None,
    reason: Annotated[str, typer.Option(help="nightly or manual; retention judges each by itself.")] = MANUAL,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A further tag; 'pinned' keeps it for ever.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a pass that runs instead of refusing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be backed up.")] = False,
    json: Json = False,
) -> None:
    """Back up databases: one snapshot each, a manifest, retention."""

    def call(agent: Agent) -> Outcome:
        request = backup.Request(tuple(db or ()), reason, tuple(tag or ()), 24 * 3600.0 if wait else 0.0)
        if dry_run:
            return _planned(agent.backup().plan(request.patterns))
        result = agent.backup().run(request)
        changed = any(outcome.ok for outcome in result.databases)
        return Outcome(result.as_dict(), changed, result.exit_code, _pass_failure(result))

    _run("backup", json, call)


@app.command(name="restore")
def restore_verb(
    db: Annotated[str | None, typer.Option("--db", help="The database container that was backed up.")] = None,
    database: Annotated[str | None, typer.Option(help="One database; default all of the container.")] = None,
    snapshot: Annotated[
        str,
        typer.Option(
            help="latest, an id or several with commas, a run, tag=NAME, or a time: the newest at or before it."
        ),
    ] = "latest",
    confirm: Annotated[str | None, typer.Option(help="What the plan asks for: the replaced container's name.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be replaced.")] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the replaced database under another name; --undo brings it back.")
    ] = False,
    no_safety_snapshot: Annotated[
        bool, typer.Option("--no-safety-snapshot", help="Do not save the live database first.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="Another container to restore into.")] = None,
    database_as: Annotated[str | None, typer.Option(help="Another name for the restored database.")] = None,
    from_host: Annotated[str | None, typer.Option(help="The host that made the snapshot; default this one.")] = None,
    from_repository: Annotated[str | None, typer.Option(help="Another repository to restore from.")] = None,
    from_secrets: Annotated[
        bool, typer.Option("--from-secrets", help="Read that repository's password from standard input, as JSON.")
    ] = False,
    from_copy: FromCopy = False,
    strategy: Annotated[
        str, typer.Option(help="beside, or replace: drop the live database first, where there is no room for two.")
    ] = restore.BESIDE,
    without_manifest: Annotated[
        bool,
        typer.Option(
            "--without-manifest", help="Do without a manifest that cannot be read: no row counts are verified."
        ),
    ] = False,
    undo_run: Annotated[
        str | None, typer.Option("--undo", help="Swap back what the restore of this run has kept.")
    ] = None,
    json: Json = False,
) -> None:
    """Restore databases beside the live ones, verify them, and swap them in."""

    def call(agent: Agent) -> Outcome:
        if undo_run is not None:
            return _undo(agent, undo.UndoRequest(undo_run, db, confirm), only_plan=plan, ask=not json)
        assert db is not None  # Where there is no restore to undo.
        request = restore.Request(
            db, database, snapshot, confirm, keep_old, not no_safety_snapshot, target, database_as, from_host, strategy,
            without_manifest,
        )  # fmt: skip
        with _source(agent, from_repository, from_secrets, from_copy) as source:
            use_case = agent.restore(source)
            if plan:
                result = restore.RestoreResult(None, use_case.plan(request))
                return Outcome(result.as_dict(), changed=True)
            if confirm is None and not json and sys.stdin.isatty():
                request = _ask(use_case, request)
            return _restored(use_case.run(request))

    _run("restore", json, call)


@app.command(name="drill")
def drill_verb(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs; default all.")] = None,
    database: Annotated[str | None, typer.Option(help="One database; default all of the container.")] = None,
    snapshot: Annotated[
        str,
        typer.Option(
            help="latest, an id or several with commas, a run, tag=NAME, or a time: the newest at or before it."
        ),
    ] = "latest",
    from_host: Annotated[str | None, typer.Option(help="The host that made the snapshot; default this one.")] = None,
    from_repository: Annotated[str | None, typer.Option(help="Another repository to restore from.")] = None,
    from_secrets: Annotated[
        bool, typer.Option("--from-secrets", help="Read that repository's password from standard input, as JSON.")
    ] = False,
    from_copy: FromCopy = False,
    image: Annotated[str | None, typer.Option(help="Drill with this image; default the one of the source.")] = None,
    json: Json = False,
) -> None:
    """Prove that snapshots restore: into a throwaway server in memory, compared and looked through."""

    def call(agent: Agent) -> Outcome:
        request = drill.Request(tuple(db or ()), database, snapshot, from_host, image)
        with _source(agent, from_repository, from_secrets, from_copy) as source:
            result = agent.drill(source).run(request)
        return Outcome(result.as_dict(), exit_code=result.exit_code, error=_drill_failure(result))

    _run("drill", json, call)


@app.command(name="copy")
def copy_verb(json: Json = False) -> None:
    """Copy to the second repository now, and apply its retention; a pass does so by itself."""

    def call(agent: Agent) -> Outcome:
        copied = agent.copier().run()
        changed = copied.copied > 0 or bool(copied.removed)
        return Outcome(copied.as_dict(), changed, ExitCode.GOOD if copied.ok else ExitCode.FAILED, copied.error)

    _run("copy", json, call)


@app.command()
def snapshots(
    db: Annotated[str | None, typer.Option("--db", help="Only of this container.")] = None,
    database: Annotated[str | None, typer.Option(help="Only of this database.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="Only the one with this id or prefix.")] = None,
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
                raise UnknownSnapshotError(f"There is no snapshot whose id begins with {snapshot!r}.")
        return Outcome({"snapshots": [one.as_dict() for one in found]})

    _run("snapshots", json, call)


@app.command()
def forget(
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", help="Remove just this snapshot, whatever the rules say; repeatable."),
    ] = None,
    accept_late: Annotated[
        bool,
        typer.Option("--accept-late", help="Believe snapshots that are older than the last look and were not there."),
    ] = False,
    remove_future: Annotated[
        bool,
        typer.Option(
            "--remove-future",
            help="First remove snapshots that are dated in the future, but for the only good one of a database.",
        ),
    ] = False,
    copy: Copy = False,
    from_host: Annotated[
        str | None, typer.Option(help="The host whose snapshots are judged; default this one.")
    ] = None,
    from_repository: Annotated[str | None, typer.Option(help="Another repository, of a host that only adds.")] = None,
    from_secrets: Annotated[  # noqa: ARG001 (it must be given; together.py sees to that)
        bool, typer.Option("--from-secrets", help="Read that repository's password from standard input, as JSON.")
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A rule for that repository, such as daily=30; repeatable.")
    ] = None,
    keep_within: Annotated[str, typer.Option(help="There, how long everything stays.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Leave the data of removed snapshots.")] = False,
    json: Json = False,
) -> None:
    """Apply the retention policy to this host's snapshots, and prune; or, from a trusted place, to another host's."""

    def call(agent: Agent) -> Outcome:
        judged = _judged_repository(agent, from_repository, from_host, keep, keep_within, copy=copy)
        with judged as (config, restic):
            memory: retention.Memory | None = None
            record: retention.Record = retention.unrecorded
            if not from_repository:
                record = maintenance.recorder(State(), restic, maintenance.OF_COPY if copy else "")
            else:
                # What an agent remembers, whoever has its host can forge: only another place has a memory worth the name.
                memory = retention.Memory(State(), restic.repository_id(), config.host)
                if not dry_run:
                    restic.unlock()  # A stale lock of a host that is gone would stand in the way for ever.
            if snapshot:
                done = retention.forget_named(config, restic, snapshot, dry_run=dry_run, memory=memory)
                return Outcome(done.as_dict(), changed=bool(done.removed))
            done = retention.forget(
                config,
                restic,
                agent.emit,
                dry_run=dry_run,
                prune=not no_prune,
                memory=memory,
                accept_late=accept_late,
                remove_future=remove_future,
                record=record,
            )
        exit_code = ExitCode.FAILED if done.error else ExitCode.GOOD
        return Outcome(done.as_dict(), bool(done.removed), exit_code, done.error)

    _run("forget", json, call)


@app.command()
def check(
    read_data_subset: Annotated[
        str | None, typer.Option(help="Read data too: 10%, 2G, or 1/7, as restic's check takes it.")
    ] = None,
    copy: Copy = False,
    scheduled: Scheduled = False,
    json: Json = False,
) -> None:
    """Check the repository's integrity; as the schedule does it, read the parts of its data whose turn it is."""

    def call(agent: Agent) -> Outcome:
        if not scheduled:
            agent.care().check(agent.place(copy=copy), read_data_subset)
            return Outcome({"errors": 0, "read_data_subset": read_data_subset})
        if not agent.config().check_schedule:
            raise UsageError("There is no schedule of checks to go by: backup_check_schedule is empty.")
        return Outcome(agent.care().scheduled_check(agent.places()).as_dict())

    _run("check", json, call)


@app.command()
def prune(copy: Copy = False, scheduled: Scheduled = False, json: Json = False) -> None:
    """Delete the data that no snapshot needs; forget does so too, unless told otherwise."""

    def call(agent: Agent) -> Outcome:
        if agent.config().append_only and not copy:
            raise AppendOnlyError(f"{agent.config().host} only adds to its repository (append_only): run prune.yml.")
        care = agent.care()
        done = care.scheduled_prune(agent.places()) if scheduled else care.prune(agent.place(copy=copy))
        return Outcome({"run": done.run, "deferred": done.deferred}, changed=done.deferred is None)

    _run("prune", json, call)


@app.command()
def pin(
    snapshot: Snapshot,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Keep a snapshot for ever, whatever the retention rules say; its id changes, and the new one is told."""
    _run("pin", json, lambda agent: _pinned(agent, snapshot, pinned=True, copy=copy, dry_run=dry_run))


@app.command()
def unpin(
    snapshot: Snapshot,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Leave a pinned snapshot to the retention rules again; its id changes, and the new one is told."""
    _run("unpin", json, lambda agent: _pinned(agent, snapshot, pinned=False, copy=copy, dry_run=dry_run))


@app.command()
def init(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show whether there is a repository.")] = False,
    must_exist: Annotated[bool, typer.Option("--must-exist", help="Fail where there is no repository.")] = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Make the repository where there is none; prove that the password opens the one that is there."""

    def call(agent: Agent) -> Outcome:
        restic = agent.restic(copy=copy)
        restic.require_version()
        opened = opening.open_or_make(
            restic, copy_of=agent.restic() if copy else None, make=not dry_run, must_exist=must_exist
        )
        return Outcome(asdict(opened), changed=opened.created)

    _run("init", json, call)


@app.command()
def rehearse(
    make: Annotated[
        list[opening.Which] | None, typer.Option("--make", help="Make this one where it is missing; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Open the repositories of a configuration to come, which comes with its secrets from standard input, as JSON."""

    def call(agent: Agent) -> Outcome:
        first, copy = agent.given_restic(parse_given(_standard_input()))
        first.require_version()
        done = opening.rehearse(first, copy, make or ())
        exit_code = ExitCode.FAILED if done.error else ExitCode.GOOD
        return Outcome(done.as_dict(), done.changed, exit_code, done.error)

    _run("rehearse", json, call)


@app.command()
def unlock(json: Json = False) -> None:
    """Remove stale locks from the repository; live ones stay."""

    def call(agent: Agent) -> Outcome:
        removed = agent.restic().unlock()
        return Outcome({"removed": removed}, changed=removed > 0)

    _run("unlock", json, call)


class KeyAction(StrEnum):
    """What can be done with the repository's keys."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"


@app.command(name="key")
def key_verb(
    action: Annotated[
        KeyAction, typer.Argument(help="list; add: that of a password; remove: those of a password, or one by its id.")
    ],
    key: Annotated[str | None, typer.Argument(help="With remove, the id of a key, or its beginning.")] = None,
    escrow: Annotated[
        str | None, typer.Option(help="With add: the key is for a safe, under this name, and not for this host.")
    ] = None,
    unused_by: Annotated[
        list[str] | None, typer.Option("--unused-by", help="With remove: a host that is known not to need the key.")
    ] = None,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """List, add or remove the passwords that open the repository; a password is read from standard input, as JSON."""

    def call(agent: Agent) -> Outcome:
        use_case = agent.keys(copy=copy)
        if action is KeyAction.LIST:
            return Outcome(use_case.listing().as_dict())
        if action is KeyAction.ADD:
            label = (keys.HOST_USER, agent.config().host) if escrow is None else (keys.ESCROW_USER, escrow)
            added = use_case.add(_password(), *label, dry_run=dry_run)
            return Outcome(asdict(added), changed=added.added)
        unused = unused_by or ()
        removed = (
            use_case.remove(key, unused, dry_run=dry_run)
            if key
            else use_case.retire(_password(), unused, dry_run=dry_run)
        )
        return Outcome({"removed": removed}, changed=bool(removed))

    _run("key", json, call)


@app.command(name="status")
def status_verb(json: Json = False) -> None:
    """Am I safe? The health of every database's backups. Exits with 1 when the answer is no."""

    def call(agent: Agent) -> Outcome:
        answer = _status(agent.config())
        if answer.healthy:
            return Outcome(answer.as_dict())
        return Outcome(answer.as_dict(), exit_code=ExitCode.FAILED, error=Failure(NOT_SAFE, answer.summary))

    _run("status", json, call)


@app.command(name="history")
def history_verb(
    days: Annotated[int, typer.Option(help="How many days to look back, up to 400.")] = 30,
    json: Json = False,
) -> None:
    """What happened night by night: every backup, every pass, every drill."""

    def call(agent: Agent) -> Outcome:
        if not 1 <= days <= history.KEEP.days:
            raise UsageError(f"--days is a number from 1 to {history.KEEP.days}, which {days} is not.")
        since = utc_now() - timedelta(days=days)
        entries = State().history.read(since)
        config = agent.config()
        # A night is a date of the time zone that the passes are scheduled in.
        told = {"host": config.host, "timezone": config.timezone, "since": since.isoformat(), "entries": entries}
        return Outcome(told)

    _run("history", json, call)


@app.command()
def health(json: Json = False) -> None:
    """Exit with 0 when every database has a good snapshot younger than 26 hours, else with 1."""

    def call(agent: Agent) -> Outcome:
        health = _status(agent.config()).health
        exit_code = ExitCode.GOOD if health.ok else ExitCode.FAILED
        return Outcome({"healthy": health.ok, "summary": health.sentence}, exit_code=exit_code)

    _run("health", json, call)


@app.command(name="notify")
def notify_verb(
    test: Annotated[
        bool, typer.Option("--test", help="Send a test to everybody, and say whom it did not reach.")
    ] = False,
    json: Json = False,
) -> None:
    """Deliver the messages that still wait, or a test."""

    def call(agent: Agent) -> Outcome:
        config = agent.config()
        recipients = _recipients(load_addresses())
        if not recipients.services:
            raise UsageError("Nobody is told: backup_notify names no service.")
        outbox = Outbox(State(), lambda level, text, **facts: agent.emit(log(level, text, **facts)))
        if not test:
            outbox.send(recipients.services, utc_now(), at_once=True)
        told = alerts.deliver_test(config, recipients.services) if test else []
        failed = [sentence for _name, sentence in told if sentence]
        data = {"tested": [{"service": name, "error": error} for name, error in told], **outbox.summary()}
        error = Failure("not_delivered", " ".join(failed)) if failed else None
        return Outcome(data, exit_code=ExitCode.FAILED if failed else ExitCode.GOOD, error=error)

    _run("notify", json, call)


@app.command()
def validate(
    addresses: Annotated[
        bool, typer.Option("--addresses", help="Validate the addresses of backup_notify and of the heartbeat instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Validate the configuration document on standard input; needs nothing else."""

    def call(_agent: Agent) -> Outcome:
        if addresses:
            recipients = _recipients(parse_addresses(_standard_input()))
            return Outcome({"services": len(recipients.services), "valid": True})
        config = parse_config(_standard_input(), "The configuration")
        return Outcome({"host": config.host, "valid": True})

    _run("validate", json, call)


@app.command(name="serve")
def serve_verb() -> None:
    """Run passes on schedule until told to stop; logs JSON lines."""
    # No other verb needs what serves: the libraries of metrics and logs, and an HTTP server.
    from scalr_backup.service import server  # noqa: PLC0415
    from scalr_backup.service.lookout import Lookout  # noqa: PLC0415
    from scalr_backup.service.metrics_http import MetricsServer  # noqa: PLC0415

    try:
        config, state = load_config(), State()
        # A restic that was killed with the container left its spool. Only a drill, in a container of its own, may run now.
        restic = Restic(config, load_secrets())
        if not state.runs.any_alive():
            restic.clear_spool()
        _recipients(load_addresses())  # Refused now, and not at three in the morning.
        with MetricsServer(config, state), Lookout(state), _watch(config, state) as looker:
            exit_code = server.Server(config, state, [looker]).run()
        sys.exit(exit_code)
    except ScalrBackupError as error:
        make_logger().error("The agent cannot start.", code=error.code, reason=error.message)
        sys.exit(int(error.exit_code))


@app.command()
def version() -> None:
    """Print the agent's version."""
    print(__version__)


def main() -> None:
    """The ``scalr-backup`` command."""
    app(prog_name="scalr-backup")


def _run(verb: str, as_json: bool, call: Callable[[Agent], Outcome]) -> None:
    """Call a verb's use case, print its outcome, and exit as the contract says; never with a traceback."""
    out: Output = JsonOutput() if as_json else HumanOutput()
    try:
        options.require_sound(verb)
        agent = Agent(out)
        _stop_if_told("before it had begun")
        outcome = call(agent)
    except ScalrBackupError as failed:
        outcome = Outcome(exit_code=failed.exit_code, error=Failure(failed.code, failed.message))
    except Exception as unexpected:  # noqa: BLE001 (whatever it is, the operator gets a sentence)
        text = f"An error that the agent does not know: {type(unexpected).__name__}: {unexpected}"
        outcome = Outcome(exit_code=ExitCode.FAILED, error=Failure("internal", text))
    out.result(verb, outcome)
    sys.exit(int(outcome.exit_code))


def _stop_if_told(when: str) -> None:
    """Raises InterruptedRunError."""
    if stopping.told.is_set():
        raise InterruptedRunError(f"Told to stop {when}; nothing was done.")


def _pinned(agent: Agent, snapshot: str, *, pinned: bool, copy: bool, dry_run: bool) -> Outcome:
    restic = agent.restic(copy=copy)
    done = retention.pin(agent.config(), restic, snapshot, pinned=pinned, anywhere=copy, dry_run=dry_run)
    return Outcome(asdict(done), changed=done.changed)


def _password() -> str:
    """A password of the repository: typed, where there is a terminal, and never shown."""
    if not sys.stdin.isatty():
        return parse_password(_standard_input())
    try:
        with stopping.leaving_a_question():
            return getpass.getpass()
    except (EOFError, KeyboardInterrupt):
        raise InterruptedRunError("No password was typed; nothing was done.") from None


def _standard_input() -> str:
    """Raises InterruptedRunError when the verb is told to end before it has come to its end."""
    text = stopping.read_standard_input()
    _stop_if_told("while it read its standard input")
    return text


def _source(
    agent: Agent, repository: str | None, from_secrets: bool, from_copy: bool
) -> AbstractContextManager[Restic | None]:
    """The repository to restore from, where it is not the configured one: the second one, or another."""
    return nullcontext(agent.copy_restic()) if from_copy else _other_repository(agent, repository, from_secrets)


@contextmanager
def _other_repository(agent: Agent, repository: str | None, from_secrets: bool) -> Iterator[Restic | None]:
    """The repository to restore from, where it is not the configured one; its password lies in memory meanwhile."""
    if repository is None:
        yield None
        return
    if not from_secrets:
        yield agent.other_repository(repository, None)
        return
    with other_secrets(_standard_input()) as secrets:
        yield agent.other_repository(repository, secrets)


@contextmanager
def _judged_repository(
    agent: Agent,
    repository: str | None,
    host: str | None,
    keep: Sequence[str] | None,
    keep_within: str,
    *,
    copy: bool = False,
) -> Iterator[tuple[Config, Restic]]:
    """The repository that retention works on, and its rules: this agent's first one, its second one as a *copy*, or another.

    Another one is somebody else's: nothing of it is in this agent's configuration, which need not even be there.
    """
    if repository is None:
        restic, config = agent.restic(copy=copy), agent.config()
        if copy and config.copy_to is not None:
            # A host that only adds to its first repository still sees to this one.
            config = config.model_copy(update={"keep": config.copy_to.keep, "append_only": False})
        yield config, restic
        return
    rules = dict.fromkeys(Keep.model_fields, 0) | _counts(keep or ())
    document = {"host": host, "repository": repository, "keep": rules, "keep_within": keep_within}
    config = parse_config(dumps(document), "The rules")
    with other_secrets(_standard_input()) as secrets:
        yield config, Restic(config, secrets, cancelled=agent.cancelled)


def _counts(rules: Sequence[str]) -> dict[str, int]:
    """Rules of retention such as ``daily=30``."""
    counts = {}
    for rule in rules:
        name, _equals, count = rule.partition("=")
        if not count.isdecimal():
            raise UsageError(f"{rule!r} is no rule such as daily=30.")
        counts[name] = int(count)
    return counts


def _restored(result: restore.RestoreResult[restore.Plan] | restore.RestoreResult[undo.UndoPlan]) -> Outcome:
    failed = [outcome.error for outcome in result.databases if outcome.error]
    changed = any(outcome.ok for outcome in result.databases)
    return Outcome(result.as_dict(), changed, result.exit_code, failed[0] if failed else None)


def _undo(agent: Agent, request: undo.UndoRequest, *, only_plan: bool, ask: bool) -> Outcome:
    use_case = agent.undo()
    if only_plan:
        return Outcome(restore.RestoreResult(None, use_case.plan(request)).as_dict(), changed=True)
    if request.confirm is None and ask and sys.stdin.isatty():
        plan = use_case.plan(request)
        HumanOutput().result("restore", Outcome(restore.RestoreResult(None, plan).as_dict()))
        request = replace(request, confirm=_typed(f"Type the container's name, {plan.confirm}, to put it back: "))
    return _restored(use_case.run(request))


def _ask(use_case: restore.Restore, request: restore.Request) -> restore.Request:
    """Show the plan on the terminal and take the operator's word."""
    plan = use_case.plan(request)
    HumanOutput().result("restore", Outcome(restore.RestoreResult(None, plan).as_dict()))
    is_name = plan.confirm == request.into
    what = f"the container's name, {plan.confirm}," if is_name else f"the words {plan.confirm!r}"
    typed = _typed(f"Type {what} to replace what is live: ")
    # What was shown is what is restored, though a pass may end in between.
    return replace(request, snapshot=plan.reference, confirm=typed)


def _typed(prompt: str) -> str:
    # A run finishes what it does on Ctrl-C; a question just ends, and the answer is no.
    try:
        with stopping.leaving_a_question():
            return input(prompt)
    except (EOFError, KeyboardInterrupt):
        return ""


def _recipients(addresses: Addresses) -> Recipients:
    """Whom to tell. Raises ConfigurationError where an address is none."""
    services = notify.services(addresses.notify)
    for service in services:
        service.check()
    return Recipients(services, heartbeat.Heartbeat(addresses.heartbeat) if addresses.heartbeat else None)


def _watch(config: Config, state: State) -> alerts.Watch:
    """Whoever looks on while the agent serves; it reads the configuration anew, as the server does."""
    known = {"config": config, "addresses": Addresses(), "recipients": Recipients()}
    logger = make_logger()
    # The courier's threads ask, and the server's does.
    asking = threading.Lock()

    def latest() -> Config:
        with asking, suppress(ConfigurationError):  # The server logs it; the one before stays in force.
            known["config"] = load_config()
        return cast(Config, known["config"])

    def recipients() -> Recipients:
        with asking:
            try:
                if (addresses := load_addresses()) != known["addresses"]:
                    known.update(recipients=_recipients(addresses), addresses=addresses)
            except ConfigurationError as error:
                if error.message != known.get("refused"):
                    known["refused"] = error.message
                    logger.error("The addresses are not valid; those before stay in force.", reason=error.message)
            return cast(Recipients, known["recipients"])

    def say(level: str, text: str, **facts: Any) -> None:
        logger.log(LEVELS[level], text, **facts)

    return alerts.Watch(state, latest, Courier(state, recipients, say), _judge)


def _status(config: Config) -> status.Status:
    return _judge(config, State().read())


def _judge(config: Config, document: Mapping[str, Any]) -> status.Status:
    now = utc_now()
    # A status needs no secrets, so that health can never be wrong for want of one.
    return status.judge(
        config,
        redact(config.repository),
        document,
        State().first_started(now, document),
        now,
        lost_with_host=place.is_lost_with_the_host(config),
    )


def _discovered(host: str, found: Discovered) -> dict[str, Any]:
    clusters = {cluster.container.name: cluster for cluster in found.clusters}
    containers = []
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
                "databases": [asdict(database) for database in cluster.databases] if cluster else [],
                "kept_databases": cluster.kept_as_dicts() if cluster else [],
            }
        )
    unmatched = [container.as_dict() for container in found.look.unmatched]
    told = {"unmatched": unmatched, "notes": findings.notes_on(unmatched), "warnings": found.warnings}
    return {"host": host, "containers": containers, **told}


def _planned(plan: backup.PassPlan) -> Outcome:
    """What a pass would do; it fails where that would."""
    databases = [{"container": container, "database": database} for container, database in plan.databases]
    error = _databases_failed(plan.failed, len(plan.failed) + len(databases)) if plan.failed else plan.error
    exit_code = ExitCode.SOME_DATABASES_FAILED if error else ExitCode.GOOD
    return Outcome({"plan": databases}, bool(databases), exit_code, error)


def _drill_failure(result: drill.DrillResult) -> Failure | None:
    """The one sentence for a drill that was not all good."""
    if result.error:
        return result.error
    failed = [(one, one.error) for one in result.databases if one.error and one.tried]
    not_tried = [(one, one.error) for one in result.databases if one.error and not one.tried]
    if failed:
        first, error = failed[0]
        how_many = f"{len(failed)} of {len(result.databases)} databases failed their drill"
        return Failure("databases_failed", f"{how_many}; first: {first.container}/{first.database}: {error.message}")
    if not_tried:
        first, error = not_tried[0]
        which = f"{len(not_tried)} of {len(result.databases)} databases could not be drilled"
        of_it = f"{which}, which says nothing about their backups"
        return Failure(error.code, f"{of_it}; first: {first.container}/{first.database}: {error.message}")
    return result.missing[0] if result.missing else None


def _databases_failed(failed: Sequence[DatabaseBackup], total: int) -> Failure:
    first = failed[0].error
    how_many = f"{len(failed)} of {total} databases were not backed up"
    return Failure("databases_failed", f"{how_many}; first: {first.message if first else 'unknown'}")


def _pass_failure(result: backup.PassResult) -> Failure | None:
    """The one sentence for a pass that was not all good."""
    failed = [outcome for outcome in result.databases if not outcome.ok]
    if failed:
        return _databases_failed(failed, len(result.databases))
    if result.roles_failed:
        return result.roles_failed[0]
    if result.error:
        return result.error
    if not result.retention["ok"]:
        return Failure("retention", f"Retention failed: {result.retention['error']['message']}")
    if result.copy is not None and result.copy.error:
        message = f"The copy to {result.copy.repository} failed: {result.copy.error.message}"
        return Failure(result.copy.error.code, message)
    return None

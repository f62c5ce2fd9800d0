# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs for a repository: init, check, prune, unlock, its keys, and retention."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from json import dumps
from typing import Annotated

import typer

from scalr_backup.actions import opening
from scalr_backup.actions.recording import Record
from scalr_backup.actions.repository import keys, maintenance
from scalr_backup.actions.repository.apart import require_another
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.retention.memory import Memory, read_id, recognise
from scalr_backup.actions.retention.run import Retention, Wish, unrecorded
from scalr_backup.actions.retention.witness import Witness, require_small_files
from scalr_backup.cli.call import Copy, DryRun, FromSecrets, Json, Scheduled, run_verb, standard_input
from scalr_backup.cli.output import Outcome
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import stopping
from scalr_backup.core.answers import CheckAnswer, PruneAnswer, UnlockAnswer
from scalr_backup.core.config import Config, Keep, parse_config
from scalr_backup.core.errors import AppendOnlyError, ExitCode, InterruptedRunError, UsageError
from scalr_backup.core.key_answers import KeysRemovedAnswer, PasswordAnswer
from scalr_backup.core.secrets import other_secrets, parse_given, parse_password, password_place, place_on_host
from scalr_backup.tools import password_file
from scalr_backup.tools.known_files import KnownFilesStore
from scalr_backup.tools.locks import trusted_lock
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State


def forget(
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", help="Remove only this snapshot, whatever the rules say (repeatable)."),
    ] = None,
    accept_late: Annotated[
        bool,
        typer.Option("--accept-late", help="Accept snapshots that predate the last look but were not there then."),
    ] = False,
    read_all: Annotated[
        bool,
        typer.Option("--read-all", help="Forget which files were read and trusted before, and read every one again."),
    ] = False,
    remove_future: Annotated[
        bool,
        typer.Option(
            "--remove-future",
            help="First remove snapshots dated in the future, except a database's only good one.",
        ),
    ] = False,
    copy: Copy = False,
    from_host: Annotated[
        str | None, typer.Option(help="The host whose snapshots to judge (default: this one).")
    ] = None,
    from_repository: Annotated[str | None, typer.Option(help="Another repository, of an append-only host.")] = None,
    from_secrets: FromSecrets = False,  # noqa: ARG001 (it must be given; together.py sees to that)
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A rule for that repository, such as daily=30 (repeatable).")
    ] = None,
    keep_within: Annotated[
        str, typer.Option(help="How long that repository keeps everything, whatever --keep says.")
    ] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and change nothing.")] = False,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Keep the data of removed snapshots for a later prune.")
    ] = False,
    json: Json = False,
) -> None:
    """Apply retention to this host's snapshots, or from a trusted place to another host's, and prune."""

    def call(agent: Agent) -> Outcome:
        judged = _judged_repository(agent, from_repository, from_host, keep, keep_within, copy=copy)
        with judged as (config, restic), ExitStack() as held:
            record: Record = unrecorded
            debt = None
            if not from_repository:
                prefix = maintenance.OF_COPY if copy else ""
                record = maintenance.recorder(agent.state, restic, prefix)
                debt = PruneDebt(agent.state, restic.repository, prefix)
            memory = witness = None
            if from_repository:
                place = _trusted_place(agent, config, restic, agent.state, dry_run=dry_run, read_all=read_all)
                memory, witness = held.enter_context(place)
            retention = Retention(config, restic, agent.emit, memory, debt, record, witness)
            if snapshot:
                done = retention.forget_named(snapshot, dry_run=dry_run)
                return Outcome(done.as_dict(), changed=bool(done.removed))
            done = retention.forget(
                Wish(dry_run=dry_run, prune=not no_prune, accept_late=accept_late, remove_future=remove_future)
            )
        exit_code = ExitCode.FAILED if done.error else ExitCode.GOOD
        return Outcome(done.as_dict(), bool(done.removed), exit_code, done.error)

    run_verb("forget", json, call)


@contextmanager
def _trusted_place(
    agent: Agent, config: Config, restic: Restic, state: State, *, dry_run: bool, read_all: bool
) -> Iterator[tuple[Memory, Witness]]:
    """What this place remembers of another host's snapshots and of its repository's files, which is made ready to be judged.

    Whoever controls a host can forge what its agent remembers: only another place can be trusted to remember. One run at a
    time does so for a repository, since each would overwrite what the other remembers; raises BusyError beside another.
    """
    files = restic.files()
    require_small_files(files, restic.repository)
    identity = read_id(restic)
    with state.locks.hold(trusted_lock(identity), f"prune.yml, for {config.host}"):
        known = KnownFilesStore(identity, address=restic.repository)
        memory = recognise(restic, known, state, identity, config.host, read_all=read_all, dry_run=dry_run)
        witness = Witness(
            restic,
            files,
            known,
            agent.emit,
            read_all=read_all,
            limit_seconds=config.maintenance_seconds,
        )
        if not dry_run:
            witness.clear_locks()
            restic.unlock()  # A stale lock of a host that is gone would block this for ever.
        yield memory, witness


def check(
    read_data_subset: Annotated[
        str | None, typer.Option(help="Also read data: 10%, 2G or 1/7, as in restic check.")
    ] = None,
    copy: Copy = False,
    scheduled: Scheduled = False,
    json: Json = False,
) -> None:
    """Check the repository's integrity; with --scheduled, also read the part of its data that is due."""

    def call(agent: Agent) -> Outcome:
        if not scheduled:
            agent.care().check(agent.place(copy=copy), read_data_subset)
            return Outcome(CheckAnswer(errors=0, read_data_subset=read_data_subset))
        if not agent.config().check_schedule:
            raise UsageError("No checks are scheduled: backup_check_schedule is empty.")
        return Outcome(agent.care().scheduled_check(agent.places()).as_dict())

    run_verb("check", json, call)


def prune(copy: Copy = False, scheduled: Scheduled = False, json: Json = False) -> None:
    """Delete data that no snapshot needs, as forget does without --no-prune."""

    def call(agent: Agent) -> Outcome:
        if agent.config().append_only and not copy:
            raise AppendOnlyError(f"{agent.config().host} is append-only: run prune.yml.")
        care = agent.care()
        done = care.scheduled_prune(agent.places()) if scheduled else care.prune(agent.place(copy=copy))
        return Outcome(PruneAnswer(run=done.run, deferred=done.deferred), changed=done.deferred is None)

    run_verb("prune", json, call)


def init(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show whether the repository exists, and create nothing.")
    ] = False,
    must_exist: Annotated[bool, typer.Option("--must-exist", help="Fail if the repository does not exist.")] = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Create the repository if it does not exist; otherwise check that the password opens it."""

    def call(agent: Agent) -> Outcome:
        restic = agent.restic(copy=copy)
        restic.require_version()
        opened = opening.open_or_make(
            restic, copy_of=agent.restic() if copy else None, make=not dry_run, must_exist=must_exist
        )
        return Outcome(opened.as_dict(), changed=opened.created)

    run_verb("init", json, call)


def password(json: Json = False) -> None:
    """Generate the repository's password, if there is none yet, where the agent reads it."""

    def call(agent: Agent) -> Outcome:
        config, path = agent.config(), password_place()
        made = password_file.generate(path)
        told = str(place_on_host(path))
        return Outcome(PasswordAnswer(host=config.host, path=told, generated=made), changed=made)

    run_verb("password", json, call)


def rehearse(
    make: Annotated[
        list[opening.Which] | None, typer.Option("--make", help="Create this one if it is missing (repeatable).")
    ] = None,
    json: Json = False,
) -> None:
    """Open the repositories of a new configuration, read with its secrets from standard input as JSON."""

    def call(agent: Agent) -> Outcome:
        first, copy = agent.given_restic(parse_given(standard_input()))
        first.require_version()
        done = opening.rehearse(first, copy, make or ())
        exit_code = ExitCode.FAILED if done.error else ExitCode.GOOD
        return Outcome(done.as_dict(), done.changed, exit_code, done.error)

    run_verb("rehearse", json, call)


def unlock(copy: Copy = False, json: Json = False) -> None:
    """Remove stale locks from the repository; live locks stay."""

    def call(agent: Agent) -> Outcome:
        removed = agent.restic(copy=copy).unlock()
        return Outcome(UnlockAnswer(removed=removed), changed=removed > 0)

    run_verb("unlock", json, call)


class KeyAction(StrEnum):
    """What to do with the repository's keys."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"


def key_verb(
    action: Annotated[
        KeyAction,
        typer.Argument(help="list; add: the key of a password; remove: a password's keys, or one key by its id."),
    ],
    key: Annotated[str | None, typer.Argument(help="With remove: a key's id, or a prefix of it.")] = None,
    escrow: Annotated[
        str | None, typer.Option(help="With add: a key to keep in a safe under this name, not for this host.")
    ] = None,
    unused_by: Annotated[
        list[str] | None,
        typer.Option("--unused-by", help="With remove: a host that does not need the key (repeatable)."),
    ] = None,
    dry_run: DryRun = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """List, add or remove the keys of the repository, one for each password that opens it.

    A password is asked for on a terminal; otherwise it is read from standard input, as {"password": "…"}.
    """

    def call(agent: Agent) -> Outcome:
        use_case = agent.keys(copy=copy)
        if action is KeyAction.LIST:
            return Outcome(use_case.listing().as_dict())
        if action is KeyAction.ADD:
            label = (keys.HOST_USER, agent.config().host) if escrow is None else (keys.ESCROW_USER, escrow)
            added = use_case.add(_password(), *label, dry_run=dry_run)
            return Outcome(added.as_dict(), changed=added.added)
        unused = unused_by or ()
        removed = (
            use_case.remove(key, unused, dry_run=dry_run)
            if key
            else use_case.retire(_password(), unused, dry_run=dry_run)
        )
        return Outcome(KeysRemovedAnswer(removed=removed), changed=bool(removed))

    run_verb("key", json, call)


def _password() -> str:
    """A password of the repository; on a terminal it is typed, and never shown."""
    if not sys.stdin.isatty():
        return parse_password(standard_input())
    try:
        with stopping.leaving_a_question():
            return getpass.getpass()
    except (EOFError, KeyboardInterrupt):
        raise InterruptedRunError("No password given; nothing was done.") from None


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

    Another one needs nothing from this agent's configuration, which need not even exist.
    """
    if repository is None:
        restic, config = agent.restic(copy=copy), agent.config()
        if copy and config.copy_to is not None:
            require_another(agent.restic(), restic)
            # A host that is append-only in its first repository still prunes this one.
            config = config.model_copy(update={"keep": config.copy_to.keep, "append_only": False})
        yield config, restic
        return
    rules = dict.fromkeys(Keep.model_fields, 0) | _counts(keep or ())
    document = {"host": host, "repository": repository, "keep": rules, "keep_within": keep_within}
    config = parse_config(dumps(document), "The rules", named=str)
    with other_secrets(standard_input()) as secrets:
        yield config, Restic(config, secrets, cancelled=agent.cancelled)


def _counts(rules: Sequence[str]) -> dict[str, int]:
    """Retention rules such as ``daily=30``."""
    counts = {}
    for rule in rules:
        name, _equals, count = rule.partition("=")
        # Python reads the digits of every script.
        if not (count.isascii() and count.isdecimal()):
            raise UsageError(f"{rule!r} is not a rule such as daily=30.")
        if name in counts:
            raise UsageError(f"--keep has {name!r} twice: leave only the one that counts.")
        counts[name] = int(count)
    return counts

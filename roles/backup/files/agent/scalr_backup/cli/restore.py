# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs for restores: a restore, its undo, a drill."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Annotated

import typer

from scalr_backup.actions.drill.result import DrillRequest
from scalr_backup.actions.restore.request import BESIDE, STOP, Plan, RestoreRequest
from scalr_backup.actions.restore.result import RestoreResult, preview
from scalr_backup.actions.restore.run import Restore
from scalr_backup.actions.restore.undo import UndoPlan, UndoRequest
from scalr_backup.cli.call import FromCopy, FromSecrets, Json, run_verb, standard_input
from scalr_backup.cli.output import Outcome, Output
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import stopping
from scalr_backup.core.secrets import other_secrets
from scalr_backup.tools.restic.repository import Restic

# Which snapshots a restore or a drill reads.
Reference = Annotated[
    str,
    typer.Option(help="latest, ids separated by commas, a run, tag=NAME, or a time: the newest at or before it."),
]
FromHost = Annotated[str | None, typer.Option(help="The host that made the snapshot (default: this one).")]
FromRepository = Annotated[str | None, typer.Option(help="Restore from this repository instead.")]


def restore_verb(
    db: Annotated[str | None, typer.Option("--db", help="The container whose databases to restore.")] = None,
    database: Annotated[str | None, typer.Option(help="One database (default: all of the container).")] = None,
    snapshot: Reference = "latest",
    confirm: Annotated[
        str | None,
        typer.Option(
            help="What the plan asks for: the container's name, or with --strategy replace: 'replace' and the name."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be replaced, and change nothing.")] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the replaced database under another name, for --undo.")
    ] = False,
    no_safety_snapshot: Annotated[
        bool, typer.Option("--no-safety-snapshot", help="Do not back up the live database first.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="Restore into this container instead.")] = None,
    database_as: Annotated[str | None, typer.Option(help="Restore the database under this name.")] = None,
    from_host: FromHost = None,
    from_repository: FromRepository = None,
    from_secrets: FromSecrets = False,
    from_copy: FromCopy = False,
    strategy: Annotated[
        str, typer.Option(help="beside, or replace, which drops the live database first and needs no space for two.")
    ] = BESIDE,
    without_manifest: Annotated[
        bool,
        typer.Option(
            "--without-manifest",
            help="Ignore the manifest, if it cannot be read: row counts are not verified, roles come from another one.",
        ),
    ] = False,
    on_error: Annotated[
        str | None,
        typer.Option(help="stop (default), or skip: leave out objects that cannot be restored, never rows."),
    ] = None,
    undo_run: Annotated[
        str | None, typer.Option("--undo", help="Swap back the databases that this restore run kept.")
    ] = None,
    json: Json = False,
) -> None:
    """Restore databases beside the live ones, verify them, then swap them in."""

    def call(agent: Agent) -> Outcome:
        if undo_run is not None:
            return _undo(agent, UndoRequest(undo_run, db, confirm), only_plan=plan, ask=not json)
        # The options were checked: unless a restore is undone, there is a container.
        request = RestoreRequest(
            db or "", database, snapshot, confirm, keep_old, not no_safety_snapshot, target, database_as, from_host,
            strategy, without_manifest, on_error or STOP,
        )  # fmt: skip
        with _source(agent, from_repository, from_secrets, from_copy) as source:
            return _restore(agent.restore(source), request, agent.out, only_plan=plan, ask=not json)

    run_verb("restore", json, call)


def drill_verb(
    db: Annotated[list[str] | None, typer.Option("--db", help="Container names or globs (default: all).")] = None,
    database: Annotated[str | None, typer.Option(help="One database (default: all of the container).")] = None,
    snapshot: Reference = "latest",
    from_host: FromHost = None,
    from_repository: FromRepository = None,
    from_secrets: FromSecrets = False,
    from_copy: FromCopy = False,
    image: Annotated[str | None, typer.Option(help="Use this image (default: the source's own).")] = None,
    json: Json = False,
) -> None:
    """Restore snapshots into throwaway servers in memory, and compare every row count.

    The agent behind its socket proxy may not create containers: run drill.yml, or the script drill on the host.
    """

    def call(agent: Agent) -> Outcome:
        request = DrillRequest(tuple(db or ()), database, snapshot, from_host, image)
        with _source(agent, from_repository, from_secrets, from_copy) as source:
            result = agent.drill(source).run(request)
        return Outcome(result.as_dict(), exit_code=result.exit_code, error=result.failure)

    run_verb("drill", json, call)


def _source(
    agent: Agent, repository: str | None, from_secrets: bool, from_copy: bool
) -> AbstractContextManager[Restic | None]:
    """The repository to restore from if not the configured one: the second one, or any other."""
    return nullcontext(agent.copy_restic()) if from_copy else _other_repository(agent, repository, from_secrets)


@contextmanager
def _other_repository(agent: Agent, repository: str | None, from_secrets: bool) -> Iterator[Restic | None]:
    """The repository to restore from if not the configured one; its password stays in memory."""
    if repository is None:
        yield None
        return
    if not from_secrets:
        yield agent.other_repository(repository, None)
        return
    with other_secrets(standard_input()) as secrets:
        yield agent.other_repository(repository, secrets)


def _restored(result: RestoreResult[Plan] | RestoreResult[UndoPlan]) -> Outcome:
    failed = [outcome.error for outcome in result.databases if outcome.error]
    changed = any(outcome.ok for outcome in result.databases)
    return Outcome(result.as_dict(), changed, result.exit_code, failed[0] if failed else None)


def _restore(use_case: Restore, request: RestoreRequest, out: Output, *, only_plan: bool, ask: bool) -> Outcome:
    if only_plan:
        return Outcome(preview(use_case.plan(request)), changed=True)
    if request.confirm is None and ask and sys.stdin.isatty():
        request = _ask(use_case, request, out)
    return _restored(use_case.run(request))


def _undo(agent: Agent, request: UndoRequest, *, only_plan: bool, ask: bool) -> Outcome:
    use_case = agent.undo()
    if only_plan:
        return Outcome(preview(use_case.plan(request)), changed=True)
    if request.confirm is None and ask and sys.stdin.isatty():
        plan = use_case.plan(request)
        agent.out.result("restore", Outcome(preview(plan)))
        request = replace(request, confirm=_typed(f"Type the container's name, {plan.confirm}, to swap it back: "))
    return _restored(use_case.run(request))


def _ask(use_case: Restore, request: RestoreRequest, out: Output) -> RestoreRequest:
    """Show the plan on the terminal and ask the operator to confirm, where no bar is drawn over what is typed."""
    plan = use_case.plan(request)
    out.result("restore", Outcome(preview(plan)))
    is_name = plan.confirm == request.into
    what = f"the container's name, {plan.confirm}," if is_name else f"the words {plan.confirm!r}"
    typed = _typed(f"Type {what} to replace the live databases: ")
    # Restore what was shown, even if a pass ends in between.
    return replace(request, snapshot=plan.reference, confirm=typed)


def _typed(prompt: str) -> str:
    # On Ctrl-C a run finishes its current step; a question just ends, and the answer is no.
    try:
        with stopping.leaving_a_question():
            return input(prompt)
    except (EOFError, KeyboardInterrupt):
        return ""

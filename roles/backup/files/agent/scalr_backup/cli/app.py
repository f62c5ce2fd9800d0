# SPDX-License-Identifier: GPL-3.0-or-later
"""The command and its verbs: each parses its options, calls one action, prints the result, and exits."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from scalr_backup import __version__
from scalr_backup.cli import backup, doctor, health, options, repository, restore, serve, streams
from scalr_backup.cli.output import JsonOutput, Outcome
from scalr_backup.core.errors import ExitCode, UsageError
from scalr_backup.core.model import Failure

app = options.Verbs(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Back up and restore the PostgreSQL containers of this host.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _of_the_program(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What is asked of the program rather than of a verb."""


# In the order in which --help shows them.
app.command(example="scalr-backup discover --db 'scalr-*-db'")(backup.discover)
app.command("backup", example="scalr-backup backup --db scalr-shop-db --tag pinned")(backup.backup_verb)
app.command("restore", example="scalr-backup restore --db scalr-shop-db --snapshot 2026-11-22T01:30")(
    restore.restore_verb
)
app.command("drill", example="scalr-backup drill --db scalr-shop-db --snapshot latest")(restore.drill_verb)
app.command("copy", example="scalr-backup copy")(backup.copy_verb)
app.command(example="scalr-backup snapshots --db scalr-shop-db --database shop")(backup.snapshots)
app.command(example="scalr-backup forget --dry-run")(repository.forget)
app.command(example="scalr-backup check --read-data-subset 10%")(repository.check)
app.command(example="scalr-backup prune --copy")(repository.prune)
app.command(example="scalr-backup pin 5f0c8e1b")(backup.pin)
app.command(example="scalr-backup unpin 5f0c8e1b")(backup.unpin)
app.command(example="scalr-backup init --dry-run")(repository.init)
app.command(example="scalr-backup password")(repository.password)
app.command(example="scalr-backup rehearse --make repository < configuration.json")(repository.rehearse)
app.command(example="scalr-backup unlock")(repository.unlock)
app.command("key", example="scalr-backup key remove 450fbce0 --unused-by web2")(repository.key_verb)
app.command("status", example="scalr-backup status")(health.status_verb)
app.command("doctor", example="scalr-backup doctor")(doctor.doctor_verb)
app.command("history", example="scalr-backup history --days 7")(health.history_verb)
app.command(example="scalr-backup health")(health.health)
app.command("notify", example="scalr-backup notify --test")(health.notify_verb)
app.command(example="scalr-backup validate < config.json")(health.validate)
app.command("serve", example="scalr-backup serve")(serve.serve_verb)


@app.command(example="scalr-backup version")
def version() -> None:
    """Print the agent's version."""
    print(__version__)


def main() -> None:
    """The ``scalr-backup`` command."""
    streams.prepare()
    try:
        _call("scalr-backup")
    except SystemExit as end:
        sys.exit(streams.ended(int(end.code or 0)))


def _call(name: str) -> None:
    if "--json" not in sys.argv[1:]:
        app(prog_name=name)
    try:
        # As a program that is embedded: what is wrong with the options is raised, not drawn.
        code = typer.main.get_group(app).main(prog_name=name, standalone_mode=False)
    except typer.TyperException as wrong:
        _refuse(name, wrong)
    sys.exit(code or ExitCode.GOOD)


def _refuse(name: str, wrong: typer.TyperException) -> NoReturn:
    """Say in a result line what is wrong with a command line that no verb was called with."""
    verb = sys.argv[1] if sys.argv[1] in typer.main.get_group(app).commands else ""
    message = f"{wrong.format_message().rstrip('.')}. {f'{name} {verb}'.rstrip()} --help shows what it takes."
    JsonOutput().result(verb, Outcome(exit_code=ExitCode.USAGE, error=Failure(UsageError.code, message)))
    sys.exit(ExitCode.USAGE)

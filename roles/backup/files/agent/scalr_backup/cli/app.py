# SPDX-License-Identifier: GPL-3.0-or-later
"""The command and its verbs: each parses, calls one action, prints, exits."""

from __future__ import annotations

from scalr_backup import __version__
from scalr_backup.cli import backup, health, options, repository, restore, serve

app = options.Verbs(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Backs up and restores the PostgreSQL containers of this host.",
)


# In the order in which --help shows them.
app.command()(backup.discover)
app.command(name="backup")(backup.backup_verb)
app.command(name="restore")(restore.restore_verb)
app.command(name="drill")(restore.drill_verb)
app.command(name="copy")(backup.copy_verb)
app.command()(backup.snapshots)
app.command()(repository.forget)
app.command()(repository.check)
app.command()(repository.prune)
app.command()(backup.pin)
app.command()(backup.unpin)
app.command()(repository.init)
app.command()(repository.rehearse)
app.command()(repository.unlock)
app.command(name="key")(repository.key_verb)
app.command(name="status")(health.status_verb)
app.command(name="history")(health.history_verb)
app.command()(health.health)
app.command(name="notify")(health.notify_verb)
app.command()(health.validate)
app.command(name="serve")(serve.serve_verb)


@app.command()
def version() -> None:
    """Print the agent's version."""
    print(__version__)


def main() -> None:
    """The ``scalr-backup`` command."""
    app(prog_name="scalr-backup")

# SPDX-License-Identifier: GPL-3.0-or-later
"""``--help`` of the program and of each verb: flags without a type, ``-h``, ``--version``, and examples that work."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from scalr_backup import __version__
from scalr_backup.cli import app as cli
from scalr_backup.cli.options import EXAMPLE
from typer.testing import CliRunner

PROGRAM = typer.main.get_command(cli.app)
VERBS = dict(PROGRAM.commands)


def run(*arguments):
    # Wide enough for every line of help to stay whole.
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200"}, prog_name="scalr-backup")


def example(verb):
    return VERBS[verb].epilog.removeprefix(EXAMPLE)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_is_shown_and_says_no_type_of_a_flag(verb, flag):
    called = run(*([verb] if verb else []), flag)
    assert called.exit_code == 0
    assert "Usage: scalr-backup" in called.output
    assert "bool" not in called.output
    assert re.search(r"--help +-h ", called.output)


def test_what_an_option_takes_is_said():
    assert re.search(r"--db +<", run("restore", "-h").output)
    assert re.search(r"--days +<int>", run("history", "-h").output)


def test_the_version_is_told_by_an_option_and_by_a_verb():
    for word in ("--version", "version"):
        called = run(word)
        assert (called.exit_code, called.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_ends_with_an_example(verb):
    shown = run(verb, "--help").output.rstrip()
    assert shown.endswith(f"{EXAMPLE}{example(verb)}")
    assert len(f" {EXAMPLE}{example(verb)}") <= 80, "it stays in one line of a terminal, to be copied"


class Begun(Exception):
    """A verb asks for its tools: nothing is wrong with how it was called."""


@pytest.mark.parametrize("verb", VERBS)
def test_an_example_is_parsed_by_the_real_parser(verb, monkeypatch):
    """Each option of it exists and takes such a value, and together they are allowed: then the verb begins."""

    def agent(_out):
        raise Begun

    monkeypatch.setattr("scalr_backup.cli.call.Agent", agent)
    command, _redirection, _file = example(verb).partition(" < ")
    program, *arguments = shlex.split(command)
    assert (program, arguments[0]) == ("scalr-backup", verb)
    with PROGRAM.make_context("scalr-backup", [*arguments]) as context:
        name, found, rest = PROGRAM.resolve_command(context, arguments)
        found.make_context(name, rest, parent=context)
    # These two answer without tools.
    if verb not in {"serve", "version"}:
        assert "Unexpected error: Begun" in CliRunner().invoke(cli.app, [*arguments, "--json"]).output

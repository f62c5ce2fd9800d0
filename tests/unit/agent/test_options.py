# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of options that go together, and the verbs that obey it before they touch anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.module_utils import _together as collections_table
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.actions.restore.undo import UndoRequest
from scalr_backup.cli import app as cli
from scalr_backup.core import together
from scalr_backup.core.errors import UsageError
from typer.testing import CliRunner

# How a verb writes an option, and a value for it, by the name that the table has for it.
WRITTEN = {
    "db": ["--db=c"],
    "undo": ["--undo=r"],
    "database": ["--database=d"],
    "database_as": ["--database-as=e"],
    "snapshot": ["--snapshot=5f0c"],
    "snapshots": ["--snapshot=5f0c"],
    "target": ["--target=t"],
    "from_host": ["--from-host=h"],
    "from_repository": ["--from-repository=s3:x"],
    "from_password": ["--from-secrets"],
    "from_copy": ["--from-copy"],
    "strategy": ["--strategy=replace"],
    "keep_old": ["--keep-old"],
    "safety_snapshot": ["--no-safety-snapshot"],
    "without_manifest": ["--without-manifest"],
    "on_error": ["--on-error=skip"],
    "accept_late": ["--accept-late"],
    "read_all": ["--read-all"],
    "remove_future": ["--remove-future"],
    "keep": ["--keep=daily=3"],
    "keep_within": ["--keep-within=30d"],
    "scheduled": ["--scheduled"],
    "copy": ["--copy"],
    "read_data_subset": ["--read-data-subset=5%"],
    "unused_by": ["--unused-by=web9"],
    "escrow": ["--escrow=safe"],
    "key": ["450fbce0"],
    "addresses": ["--addresses"],
    "containers": ["--containers"],
}
# Of modules and playbooks only: a verb has no such option.
NOT_A_VERBS = {"from_environment", "restore_strategy"}


def words(name, verb="restore"):
    """How a sentence names an option."""
    return "key" if name == "key" else WRITTEN[name][0].partition("=")[0]


def pairs():
    """Every pair of options that a rule of a verb forbids, and what the refusal has to say."""
    for verb, rules in together.VERBS.items():
        for rule in rules.apart:
            for other in set(rule.others) - NOT_A_VERBS:
                given = [*WRITTEN[rule.name], *WRITTEN[other]]
                yield verb, given, f"{words(rule.name)} cannot be combined with {words(other)}"
        for rule in rules.needs:
            if rule.name not in NOT_A_VERBS:
                missing = ", ".join(map(words, rule.others))
                yield verb, WRITTEN[rule.name], f"{words(rule.name)} needs {missing} as well"
        for rule in rules.only:
            if verb == "key":
                wrong = next(action for action in ("list", "add", "remove") if action not in rule.values)
                ask = [wrong, *WRITTEN[rule.name]]
                yield verb, ask, f"{words(rule.name)} works only with action={rule.values[0]}"
    yield "restore", [], "Give --db or --undo"
    yield (
        "restore",
        ["--db=c", "--keep-old", "--strategy=replace"],
        "--keep-old works only with --strategy=beside",
    )


@pytest.fixture
def nothing_is_touched(monkeypatch):
    """Whatever a verb would begin with fails the test."""
    monkeypatch.setattr("scalr_backup.cli.call.Agent", lambda _out: pytest.fail("the verb has begun"))


def refusal(*arguments):
    """What a verb says, in whose name, and that it is a matter of usage."""
    call = CliRunner().invoke(cli.app, [*arguments, "--json"])
    result = json.loads(call.stdout.splitlines()[-1])
    assert (call.exit_code, result["exit_code"], result["error"]["code"]) == (2, 2, "usage")
    return result["error"]["message"]


@pytest.mark.parametrize(("verb", "options", "sentence"), sorted(pairs(), key=repr), ids=str)
def test_options_that_do_not_go_together_are_refused_before_anything_is_touched(
    nothing_is_touched, verb, options, sentence
):
    assert sentence in refusal(verb, *options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "--db="],
        ["restore", "--db=c", "--database= "],
        ["restore", "--db=c", "--snapshot="],
        ["restore", "--db=c", "--target="],
        ["restore", "--undo="],
        ["backup", "--db=c", "--db="],
        ["backup", "--tag="],
        ["drill", "--image="],
        ["discover", "--db="],
        ["snapshots", "--db="],
        ["snapshots", "--snapshot="],
        ["forget", "--snapshot="],
        ["check", "--read-data-subset="],
        ["key", "add", "--escrow="],
        ["key", "remove", ""],
        ["pin", ""],
        ["unpin", ""],
    ],
    ids=str,
)
def test_an_empty_option_is_refused_before_anything_is_touched(nothing_is_touched, arguments):
    assert "is empty: give it a value, or leave it out." in refusal(*arguments)


def test_an_option_that_is_not_given_is_not_in_the_way_of_others(nothing_is_touched):
    # The defaults of --snapshot, --strategy and --keep-within are values, and given by nobody.
    for arguments in (["restore", "--undo=r"], ["forget"], ["key", "list"], ["prune", "--scheduled"]):
        with pytest.raises(pytest.fail.Exception, match="has begun"):
            CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RestoreRequest("scalr-*-db"),
        lambda: RestoreRequest("scalr-shop-db", target="scalr-?hop-db"),
        lambda: RestoreRequest("scalr-shop-db", target="scalr-[st]hop-db"),
        lambda: UndoRequest("r", "scalr-*-db"),
    ],
)
def test_a_restore_is_into_one_container_and_takes_no_glob(make):
    with pytest.raises(UsageError, match="is a glob, but a restore goes into one container"):
        make()


def test_the_agent_and_the_collection_have_the_same_table():
    def text(module):
        return Path(module.__file__).read_text().partition('"""Which options')[2]

    assert text(together) == text(collections_table)


def test_an_address_with_a_password_in_it_is_refused_before_anything_is_touched(nothing_is_touched):
    arguments = ["--from-host=h", "--from-repository=rest:https://web1:p@canary/1@rest.test/", "--from-secrets"]
    for verb in (["restore", "--db=c"], ["drill"], ["forget", "--keep=daily=1"]):
        message = refusal(*verb, *arguments)
        assert "The address in --from-repository contains a password" in message
        assert "RESTIC_REST_PASSWORD in the environment that goes with it" in message
        assert "canary" not in message

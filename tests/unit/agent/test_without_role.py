# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice for an agent that environment variables configure names nothing that only Ansible has."""

from __future__ import annotations

import ast
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from scalr_backup.actions.doctor import of_engine, of_host, of_store
from scalr_backup.actions.doctor.run import examine
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.health.status import judge
from scalr_backup.cli.app import app
from scalr_backup.cli.output import Outcome, in_words_here
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import remedies, without_role
from scalr_backup.core.config import Config
from scalr_backup.core.environment import GENERATE, OF_ROLE
from scalr_backup.core.errors import ExitCode, UsageError
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import log, progress
from scalr_backup.core.recognition import WHAT_TO_DO
from scalr_backup.core.room import WrittenTo
from scalr_backup.core.secrets import load_secrets
from scalr_backup.core.without_role import spoken, words_here
from scalr_backup.tools.restic import refusals
from typer.testing import CliRunner

from tests.unit.agent.test_doctor_run import nobody_outside_is_asked, sources  # noqa: F401 (a fixture)

# What Compose has none of. A workflow, and prune.yml for a host that only adds, are run elsewhere.
ANSIBLE = re.compile(r"ansible-playbook|(?:site|backup|check|recovery_kit)\.yml|-e \w+=|\bbackup_[a-z_]+\b")
# Codes are words like variables.
CODES = {"backup_failed", "backup_in_future", "backup_too_old"}


def advice() -> Iterator[str]:
    """Everything that doctor says of what to do."""
    for code in remedies._CURES:
        yield remedies.cure(code)
        yield remedies.command(code, "web1", "shop-db") or ""
    yield WHAT_TO_DO
    yield from (reason for _pattern, _verdict, reason in refusals._REFUSALS)
    small = WrittenTo("the state", "/state", 1, 0, 10**12, writable=True)
    config = Config(host="web1", repository="/repository")
    accepted = Config(host="web1", repository="/repository", repository_on_host_accepted=True)
    examined = [
        *(
            of_engine.of_proxy(of_engine.ProxyFacts(address, between=False, probe=probe, container="x"), "web1")
            for address in (None, "unix:///s")
            for probe in of_engine.Probe
        ),
        of_engine.of_containers([], ["scalr-*"], "web1"),
        of_engine.of_unmatched([], [], looked=False),
        of_host.of_room([small], 90),
        of_host.of_room([WrittenTo("the state", "/state", 1, 0, 0, writable=False)], 90),
        of_host.of_memory(1),
        of_host.of_recipients(Recipients(), scraped=False),
        of_host.of_recipients(Recipients((None,)), scraped=False, events=()),
        of_host.of_recipients(Recipients(), scraped=False, unwritten="/metrics"),
        of_host.of_versions("0.8.0", "0.17.0"),
        of_store.of_password([]),
        of_store.of_place(config, lost_with_host=True, on_host=True),
        of_store.of_place(accepted, lost_with_host=False, on_host=True),
    ]
    for one in examined:
        yield from (one.seen, one.cure, one.command, *one.details)


def test_nothing_that_only_ansible_has_is_advised():
    told = [spoken(text) for text in advice()]
    assert len(told) > 100
    left = {text for text in told for word in ANSIBLE.findall(text) if word not in CODES}
    assert left == set()
    assert not [text for text in told for name in OF_ROLE if re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("ansible-playbook scalr.backup.site --limit web1", "docker compose up --detach"),
        (
            "ansible-playbook scalr.backup.backup --limit web1 -e db=shop-db",
            "docker exec scalr-backup scalr-backup backup --db shop-db",
        ),
        ("ansible-playbook scalr.backup.check --limit 'a b'", "docker exec scalr-backup scalr-backup check"),
        (
            "ansible-playbook scalr.backup.check --limit web1 -e from_copy=true",
            "docker exec scalr-backup scalr-backup check --copy",
        ),
        ("docker logs --tail 20 shop-db", "docker logs --tail 20 shop-db"),
        ("Raise backup_memory.", "Raise BACKUP_MEMORY."),
        ("name yours in backup_containers", "name yours in BACKUP_CONTAINERS"),
        ("check the key in backup_environment or backup_env_file", "check the key in secrets/environment"),
        ("backup_failed", "backup_failed"),
        ("my_backup_keep", "my_backup_keep"),
        (
            remedies.cure("configuration"),
            "Do what the message says; after a change of a variable or a mount, run docker compose up --detach.",
        ),
        (
            "Free some space on it, run prune.yml, or move the repository elsewhere.",
            "Free some space on it, run scalr-backup prune, or move the repository elsewhere.",
        ),
        (
            "web1 is append-only and removes nothing: run prune.yml, which removes snapshots from a trusted place.",
            "web1 is append-only and removes nothing: run prune.yml, which removes snapshots from a trusted place.",
        ),
        (
            "restore with without_manifest=true (--without-manifest): row counts are then not verified",
            "restore with --without-manifest: row counts are then not verified",
        ),
        (
            "or use restore_strategy=replace, which drops the live one; as strategy=replace does",
            "or use --strategy replace, which drops the live one; as --strategy replace does",
        ),
        ("restore it with -e db=shop-db -e snapshot=5f0c8e1b.", "restore it with --db shop-db --snapshot 5f0c8e1b."),
        ("backup_copy_repository is not set.", "BACKUP_COPY_REPOSITORY is not set."),
    ],
)
def test_it_is_said_in_the_words_of_the_environment(text, other):
    assert spoken(text) == other


@pytest.mark.parametrize(
    "text",
    [
        "There is no repository at /srv/backup_keep/backup_repository.",
        "There is no repository at sftp:backup_keep@host:backup_keep.",
        'shop-db/backup_keep: ERROR: the table public.backup_keep, of the database "backup_keep", is gone',
        "/srv/site.yml cannot be read; mysite.yml neither",
    ],
)
def test_names_and_places_stay_as_they_are(text):
    assert spoken(text) == text


def test_what_was_said_so_once_stays():
    once = [spoken(text) for text in advice()]
    assert [spoken(text) for text in once] == once


def test_each_clause_is_one_that_the_agent_says():
    """Else the role's words would be back when somebody words a sentence anew."""
    package = Path(without_role.__file__).parents[1]
    trees = [ast.parse(file.read_text()) for file in package.rglob("*.py") if file.name != "without_role.py"]
    texts = {one.value for tree in trees for one in ast.walk(tree) if isinstance(one, ast.Constant)}
    said = "\n".join(text for text in texts if isinstance(text, str)).lower()
    clauses = {clause for clause, _other in without_role._CLAUSES} - {f"{GENERATE} generates one"}
    assert {clause for clause in clauses if clause.lower() not in said} == set()


def test_who_has_lost_the_password_is_not_told_to_make_another_one(configured, tmp_path, monkeypatch):
    """It would open nothing of what was saved."""
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    told = json.loads(answer(monkeypatch, load_secrets, "--json"))
    assert told["error"]["message"].endswith(
        "; put your saved copy back; only a new installation may generate one with docker compose run --rm password."
    )


def test_a_socket_of_another_group_is_thought_of():
    assert "DOCKER_GROUP" in spoken(remedies.cure("docker_unreachable"))


@pytest.fixture
def configured(monkeypatch):
    """An agent that variables configure."""
    monkeypatch.setenv("BACKUP_HOST", "web1")


def test_the_doctor_speaks_so_where_variables_configure_it(configured):
    diagnosis = examine(replace(sources(), words=words_here()), threading.Event())
    told = [json.dumps(one.as_dict("x", 0.0)) for one in diagnosis.made.examined.values()]
    assert any("BACKUP_CONTAINERS" in text for text in told)
    assert not [text for text in told if ANSIBLE.search(text)]
    assert Agent.__new__(Agent).sources().words is spoken


def test_the_status_and_its_messages_speak_so(configured):
    config = Config(host="web1", repository="/repository")
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    judged = judge(config, "/repository", {}, datetime(2026, 1, 1, tzinfo=UTC), now, lost_with_host=True)
    told = [f"{one.message} {one.command} {one.remedy}" for one in judged.findings]
    assert any("docker exec scalr-backup scalr-backup backup" in text for text in told)
    assert any("BACKUP_REPOSITORY" in text for text in told)
    assert not [text for text in told if ANSIBLE.search(text)]


def answer(monkeypatch, act, *options):
    """What a verb prints that does this."""
    monkeypatch.setattr(Agent, "restic", lambda _agent, **_which: act())
    return CliRunner().invoke(app, ["unlock", *options]).output


def refused():
    raise UsageError("There is no second repository: backup_copy_repository is not set.")


def test_a_verbs_failure_speaks_so(configured, monkeypatch):
    assert json.loads(answer(monkeypatch, refused, "--json"))["error"] == {
        "code": "usage",
        "message": "There is no second repository: BACKUP_COPY_REPOSITORY is not set.",
    }
    assert "BACKUP_COPY_REPOSITORY is not set." in answer(monkeypatch, refused)


def test_a_verbs_failure_speaks_as_ever_where_a_role_has_configured_the_agent(monkeypatch):
    for options in ((), ("--json",)):
        assert "backup_copy_repository is not set." in answer(monkeypatch, refused, *options)


def test_what_a_pass_says_and_answers_is_in_words_of_the_environment_but_not_its_names(configured):
    said, record = [], {"code": "repository_refused", "message": "set them in backup_environment or backup_env_file"}
    inner = SimpleNamespace(event=said.append, result=lambda verb, outcome: said.append((verb, outcome)))
    out = in_words_here(inner)
    out.event(log("warning", WHAT_TO_DO, container="backup_keep", database="backup_keep", error=record))
    out.event(progress("dump", container="backup_keep", bytes=1))
    pass_data = {
        "databases": [{"container": "backup_keep", "error": record}],
        "warnings": [WHAT_TO_DO],
        "unmatched": [{"name": "backup_keep", "why": "backup_filter rejects it"}],
        "failed": 1,
        "error": None,
    }
    out.result("backup", Outcome(pass_data, True, ExitCode.FAILED, Failure("x", "raise backup_memory")))
    event, going, (verb, outcome) = said
    told = {"code": "repository_refused", "message": "set them in secrets/environment"}
    assert event == log("warning", spoken(WHAT_TO_DO), container="backup_keep", database="backup_keep", error=told)
    assert going == progress("dump", container="backup_keep", bytes=1)
    assert (verb, outcome.changed, outcome.exit_code) == ("backup", True, ExitCode.FAILED)
    assert outcome.error == Failure("x", "raise BACKUP_MEMORY")
    assert outcome.data == {
        "databases": [{"container": "backup_keep", "error": told}],
        "warnings": [spoken(WHAT_TO_DO)],
        "unmatched": [{"name": "backup_keep", "why": "BACKUP_FILTER rejects it"}],
        "failed": 1,
        "error": None,
    }
    assert pass_data["warnings"] == [WHAT_TO_DO], "what is on record stays as it is"


def test_they_speak_as_ever_where_a_role_has_configured_the_agent():
    assert words_here() is str

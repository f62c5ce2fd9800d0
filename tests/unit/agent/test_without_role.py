# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice for an agent that environment variables configure names nothing that only Ansible has."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from scalr_backup.actions.doctor import of_engine, of_host, of_store
from scalr_backup.actions.doctor.run import examine
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.health.status import judge
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import remedies
from scalr_backup.core.config import Config
from scalr_backup.core.environment import OF_ROLE
from scalr_backup.core.recognition import WHAT_TO_DO
from scalr_backup.core.room import WrittenTo
from scalr_backup.core.without_role import spoken, words_here
from scalr_backup.tools.restic import refusals

from tests.unit.agent.test_doctor_run import nobody_outside_is_asked, sources  # noqa: F401 (a fixture)

# What Compose has none of. A workflow, and prune.yml for a host that only adds, are run elsewhere.
ANSIBLE = re.compile(r"ansible-playbook|(?:site|backup|check|recovery_kit)\.yml|-e \w+=|\bbackup_[a-z_]+\b")
# Codes are words like variables.
CODES = {"backup_failed", "backup_too_old"}


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
        ("docker logs --tail 20 shop-db", "docker logs --tail 20 shop-db"),
        ("Raise backup_memory.", "Raise BACKUP_MEMORY."),
        ("name yours in backup_containers", "name yours in BACKUP_CONTAINERS"),
        ("check the key in backup_environment or backup_env_file", "check the key in secrets/environment"),
        ("backup_failed", "backup_failed"),
        ("my_backup_keep", "my_backup_keep"),
        (remedies.cure("configuration"), "Correct the variable and run docker compose up --detach."),
    ],
)
def test_it_is_said_in_the_words_of_the_environment(text, other):
    assert spoken(text) == other


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


def test_they_speak_as_ever_where_a_role_has_configured_the_agent():
    assert words_here() is str

# SPDX-License-Identifier: GPL-3.0-or-later
"""Another repository's secrets: read from standard input, kept from everybody, gone afterwards."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from scalr_backup.actions.retention.suspects import SnapshotsLook
from scalr_backup.cli import repository as verbs
from scalr_backup.cli.restore import _other_repository
from scalr_backup.core.config import Config, Keep
from scalr_backup.core.errors import BusyError, ConfigurationError, ForgedFilesError, UsageError
from scalr_backup.core.progress import nobody
from scalr_backup.core.secrets import parse_secrets
from scalr_backup.tools import known_files
from scalr_backup.tools.state import State

PASSWORD = "correct horse"


def test_the_password_goes_to_a_file_that_nobody_else_reads():
    document = {"password": PASSWORD, "environment": {"AWS_SECRET_ACCESS_KEY": "k=e y", "RCLONE": ""}}
    secrets = parse_secrets(json.dumps(document))
    assert secrets.password_file.read_text() == PASSWORD
    assert secrets.password_file.stat().st_mode & 0o777 == 0o600
    assert secrets.environment == {"AWS_SECRET_ACCESS_KEY": "k=e y", "RCLONE": ""}
    assert "k=e y" not in repr(secrets)


KILLED = """
import json, os, signal, subprocess, sys
from scalr_backup.core.secrets import parse_secrets
secrets = parse_secrets(json.dumps({"password": "correct horse", "ssh_private_key": "a key"}))
print(subprocess.run(["cat", secrets.password_file, secrets.ssh_key], capture_output=True, text=True).stdout, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_nothing_behind(tmp_path):
    environment = {"PYTHONPATH": ":".join(sys.path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Whom it started could read them.
    assert killed.stdout.strip() == f"{PASSWORD}a key"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("environment", [{}, {"environment": None}, {"environment": {}}])
def test_a_store_may_need_no_environment(environment):
    assert parse_secrets(json.dumps({"password": PASSWORD, **environment})).environment == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct horse",
        '"correct horse"',
        '["correct horse"]',
        "null",
        "{}",
        '{"passwort": "correct horse"}',
        '{"password": ""}',
        '{"password": " \\n"}',
        '{"password": null}',
        '{"password": ["correct horse"]}',
        '{"password": "correct horse", "environment": ["correct horse"]}',
        '{"password": "correct horse", "environment": "A=correct horse"}',
        '{"password": "correct horse"',
        '{"password": "correct horse \\ud800"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_such_document_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigurationError, match="secrets must be") as caught:
        parse_secrets(text)
    assert PASSWORD not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "environment",
    [{"A": "one\nB=correct horse"}, {"A B": "correct horse"}, {"": "correct horse"}, {"A": "correct horse\0"}],
)
def test_an_environment_that_cannot_be_is_refused_and_not_repeated(environment):
    with pytest.raises(ConfigurationError) as caught:
        parse_secrets(json.dumps({"password": PASSWORD, "environment": environment}))
    assert PASSWORD not in caught.value.message


class FakeAgent:
    """Remembers which repository was asked for, with which secrets."""

    def __init__(self):
        self.asked = []

    def other_repository(self, repository, secrets):
        password = secrets.password_file.read_text() if secrets else None
        self.asked.append((repository, password))
        return SimpleNamespace(secrets=secrets)


def test_the_password_is_gone_when_the_restore_has_ended(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"password": PASSWORD})))
    agent = FakeAgent()
    with _other_repository(agent, "s3:there", True) as source:
        file = source.secrets.password_file
        assert file.exists()
        assert file.stat().st_mode & 0o777 == 0o600
    assert agent.asked == [("s3:there", PASSWORD)]
    assert not file.exists()


def test_the_password_is_gone_when_the_restore_has_failed(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"password": PASSWORD})))

    def restore():
        with _other_repository(FakeAgent(), "s3:there", True) as source:
            files.append(source.secrets.password_file)
            raise UsageError("no")

    files = []
    with pytest.raises(UsageError):
        restore()
    assert not files[0].exists()


def test_without_secrets_of_its_own_it_opens_with_the_agents():
    agent = FakeAgent()
    with _other_repository(agent, "/mnt/there", False):
        assert agent.asked == [("/mnt/there", None)]


def test_the_configured_repository_needs_nothing():
    agent = FakeAgent()
    with _other_repository(agent, None, False) as source:
        assert source is None
    assert agent.asked == []


# -- retention in another repository -------------------------------------------------------------------------


RULES = ["daily=30", "monthly=6"]


def test_retention_elsewhere_needs_nothing_of_this_agents_configuration(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"password": PASSWORD})))
    monkeypatch.setattr(verbs, "Restic", lambda config, secrets, cancelled: SimpleNamespace(secrets=secrets))
    agent = SimpleNamespace(cancelled=None)
    with verbs._judged_repository(agent, "s3:there", "web1", RULES, "60d") as (config, restic):
        assert (config.host, config.repository, config.keep_within) == ("web1", "s3:there", "60d")
        assert config.keep.rules == {"daily": 30, "monthly": 6}
        assert not config.append_only
        file = restic.secrets.password_file
        assert file.read_text() == PASSWORD
    assert not file.exists()


def test_retention_in_the_second_repository_goes_by_the_rules_of_that_one():
    rules = Keep(daily=7)
    config = Config(host="web1", repository="s3:https://s3.test/b", append_only=True).model_copy(
        update={"copy_to": SimpleNamespace(keep=rules)}
    )
    here, there = (SimpleNamespace(repository=name, repository_id=lambda name=name: name) for name in ("/r", "/copy"))
    agent = SimpleNamespace(config=lambda: config, restic=lambda *, copy=False: there if copy else here)
    with verbs._judged_repository(agent, None, None, None, "30d", copy=True) as (judged, restic):
        assert (judged.keep, judged.append_only, restic) == (rules, False, there)
    with verbs._judged_repository(agent, None, None, None, "30d") as (judged, restic):
        assert (judged, restic) == (config, here)

    there.repository_id = here.repository_id
    refused = pytest.raises(
        ConfigurationError, match="backup_copy_repository is /copy, which is the first repository, /r,"
    )
    with refused, verbs._judged_repository(agent, None, None, None, "30d", copy=True):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("s3:there", "web1", ["daily"], "30d"), "'daily' is not a rule such as daily=30"),
        (("s3:there", "web1", ["daily=True"], "30d"), "'daily=True' is not a rule such as daily=30"),
        (("s3:there", "web1", ["daily=\u0663"], "30d"), "is not a rule such as daily=30"),
        (("s3:there", "web1", ["daily=3", "daily=0"], "30d"), "--keep has 'daily' twice"),
        (("s3:there", "web1", ["daily=-1"], "30d"), "'daily=-1' is not a rule"),
        (("s3:there", "web1", ["nightly=3"], "30d"), r"keep\.nightly: no such key"),
        (("s3:there", "web1", ["daily=0"], "30d"), "would delete every backup"),
        (("s3:there", "web1", RULES, "soon"), "'soon' is not a duration"),
    ],
)
def test_retention_elsewhere_is_told_everything_or_refused(arguments, words):
    with pytest.raises((UsageError, ConfigurationError), match=words), verbs._judged_repository(None, *arguments):
        pass


# -- what a trusted place remembers ----------------------------------------------------------------------------

ITS_ID, ANOTHER_ID = "5f0c" * 16, "0d2f" * 16


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Enter the trusted place, for a repository with an id at an address."""
    monkeypatch.setattr(known_files, "STATE_DIRECTORY", tmp_path)
    agent = SimpleNamespace(emit=nobody)

    def enter(identity=ITS_ID, address="rest:http://x/", *, host="web1", dry_run=False, read_all=False):
        files = SimpleNamespace(listing=lambda _kind: {})
        restic = SimpleNamespace(
            files=lambda: files, repository=address, repository_id=lambda: identity, unlock=lambda: 0
        )
        config = SimpleNamespace(host=host, maintenance_seconds=9)
        return verbs._trusted_place(agent, config, restic, State(tmp_path), dry_run=dry_run, read_all=read_all)

    return enter


def test_two_runs_for_one_repository_do_not_overwrite_what_the_other_remembers(place):
    with place():
        with (
            pytest.raises(BusyError, match=r"on this repository already: prune\.yml, for web1"),
            place(address="rest:http://y"),
        ):
            pass
        with place(ANOTHER_ID, "rest:http://z/"):
            pass
    with place():
        pass


def recalled(entered):
    """The ids of the snapshots that are remembered."""
    with entered as (memory, _witness):
        last = memory.recall()
        return last and last.ids


def test_another_id_at_a_known_address_hides_nothing_that_was_seen(place):
    """The config is the one file that a host may overwrite unnoticed where whoever adds may replace."""
    seen = {
        host: SnapshotsLook(datetime(2026, 11, 22, tzinfo=UTC), frozenset({f"of {host}"})) for host in ("web1", "web2")
    }
    for host, look in seen.items():
        with place(host=host) as (memory, _witness):
            memory.keep(look)

    for dry_run in (True, False):
        with (
            pytest.raises(ForgedFilesError, match="its id was 5f0c5f0c then and is 0d2f0d2f now") as told,
            place(ANOTHER_ID, dry_run=dry_run),
        ):
            pass
        assert "prune.yml with -e read_all=true" in told.value.message
        assert recalled(place(ANOTHER_ID, dry_run=True, read_all=True)) == {"of web1"}, "and nothing is accepted"
    assert recalled(place()) == {"of web1"}, "nor is it when its config is as it was"

    assert recalled(place(ANOTHER_ID, read_all=True)) == {"of web1"}
    assert recalled(place(ANOTHER_ID)) == {"of web1"}
    assert recalled(place(ANOTHER_ID, host="web2")) == {"of web2"}
    with pytest.raises(ForgedFilesError, match="its id was 0d2f0d2f then and is 5f0c5f0c now"), place():
        pass


def test_a_known_repository_at_another_address_is_the_same_one(place):
    with place() as (memory, _witness):
        memory.keep(SnapshotsLook(datetime(2026, 11, 22, tzinfo=UTC), frozenset({"one"})))
    assert recalled(place(address="rest:http://x")) == {"one"}
    assert recalled(place(address="s3:https://x/")) == {"one"}
    assert recalled(place(ANOTHER_ID, "s3:https://y/")) is None


@pytest.mark.parametrize("identity", [f"{ITS_ID}-", f"{ITS_ID}00", ITS_ID.upper(), "", "web2/x"])
def test_an_id_that_restic_does_not_write_is_refused(place, identity):
    with pytest.raises(ForgedFilesError, match="an id that restic does not write"), place(identity, read_all=True):
        pass


def test_what_is_carried_over_is_no_less_than_what_either_saw():
    early, late = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
    joined = SnapshotsLook(early, frozenset("a"), frozenset("g")).joined_with(
        SnapshotsLook(late, frozenset("b"), is_certain=False)
    )
    assert joined == SnapshotsLook(late, frozenset("ab"), frozenset("g"), is_certain=False)

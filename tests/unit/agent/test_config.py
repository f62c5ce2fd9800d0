from __future__ import annotations

import json

import pytest
from scalr_backup.cli.serve import serve_verb
from scalr_backup.core.config import duration_hours, parse_config
from scalr_backup.core.errors import ConfigurationError, ExitCode
from scalr_backup.core.secrets import load_copy_secrets, load_secrets, parse_environment, parse_secrets

GOOD = {"host": "db1", "repository": "/repository"}


def parse(**changes):
    return parse_config(json.dumps({**GOOD, **changes}), "config.json")


def test_the_defaults_are_those_of_the_contract():
    config = parse()
    assert config.containers == ("scalr-*-db", "scalr-auth-postgres")
    assert (config.schedule, config.timezone, config.parallel) == ("0 3 * * *", "UTC", 2)
    assert config.keep.rules == {"daily": 30, "weekly": 4, "monthly": 6}
    assert config.dump_size_factor == 16


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "every night"}, "schedule: 'every night' is not a cron expression"),
        ({"schedule": "0 0 30 2 *"}, "schedule: '0 0 30 2 *'"),
        ({"prune_schedule": "0 0 31 4 *"}, "prune_schedule: '0 0 31 4 *'"),
        ({"check_schedule": "sundays"}, "check_schedule: 'sundays' is not a cron expression"),
        ({"check_schedule": "0 0 30 2 *"}, "check_schedule: '0 0 30 2 *'"),
        ({"check_weeks": 0}, "check_weeks: Input should be greater than or equal to 1"),
        (
            {"append_only": True, "repository": "s3:https://s3.test/b", "prune_schedule": "0 5 * * *"},
            "an append-only host does not prune",
        ),
        ({"copy": {"repository": "/copy", "keep": {"daily": 0, "weekly": 0, "monthly": 0}}}, "every count is 0"),
        ({"timezone": "Mars/Olympus"}, "timezone: 'Mars/Olympus' is not a time zone"),
        ({"timezone": "../../etc/passwd"}, "timezone: '../../etc/passwd' is not a time zone"),
        ({"keep": {"daily": 0, "weekly": 0, "monthly": 0}}, "keep: every count is 0, which would delete every backup"),
        ({"keep": {"daily": -1}}, "keep.daily: Input should be greater than or equal to 0"),
        ({"metrics_port": 80}, "metrics_port: 80 is a port that only root may open"),
        ({"metrics_port": 70000}, "metrics_port: Input should be less than or equal to 65535"),
        ({"metrics_textfile": "textfiles"}, "metrics_textfile: 'textfiles' must be an absolute path"),
        ({"append_only": True}, "whoever controls this host can remove its directory /repository"),
        ({"repository": "backups"}, "repository: it must be an absolute path or a restic address"),
        ({"repository": "s3:"}, "repository: it must be an absolute path or a restic address"),
        (
            {"copy": {"repository": "ftp://host/x"}},
            "copy.repository: it must be an absolute path or a restic address",
        ),
        ({"keep_within": "a month"}, "keep_within: 'a month' is not a duration such as 30d"),
        ({"keep_within": "0d"}, "keep_within: '0d' is not a duration"),
        ({"keep_within": "2w"}, "keep_within: '2w' is not a duration"),
        ({"keep_within": "1d2y"}, "keep_within: '1d2y' is not a duration"),
        ({"append_only": "perhaps"}, "append_only: Input should be a valid boolean"),
        ({"parallel": 0}, "parallel: Input should be greater than or equal to 1"),
        ({"containers": ["a b"]}, "containers: 'a b' is neither a container name"),
        ({"repositry": "/x"}, "repositry: no such key"),
        ({"schedule": "0 3 * * * *"}, "schedule: '0 3 * * * *' is not a cron expression: it must have five fields"),
        ({"timezone": "localtime"}, "timezone: 'localtime' is not a time zone"),
        ({"keep": {"daily": 10**20}}, "keep.daily: Input should be less than or equal to 1000000"),
        ({"lock_hours": 10**30}, "lock_hours: Input should be less than or equal to 8784"),
        (
            {"filter": "begins_with(Name, 'x')"},
            "filter: the JMESPath expression \"begins_with(Name, 'x')\" cannot be applied",
        ),
        ({"filter": "contains(Name)"}, "filter: the JMESPath expression 'contains(Name)' cannot be applied"),
        ({"filter": "Config.Labels.[("}, "does not parse at position 16"),
        ({"filter": "contains(Name"}, "does not parse at position 13"),
        ({"filter": "contains(Name, 'x'"}, "does not parse"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_key(changes, sentence):
    with pytest.raises(ConfigurationError) as refused:
        parse(**changes)
    assert sentence in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "expression", ["contains(Name, 'shop')", "length(Config.Labels) > `2`", "Config.Labels.\"scalr.tier\" == 'gold'"]
)
def test_a_filter_is_not_refused_for_what_only_a_container_has(expression):
    assert parse(filter=expression).filter == expression


@pytest.mark.parametrize(
    ("duration", "hours"), [("30d", 720), ("12h", 12), ("1d12h", 36), ("1m", 744), ("1y", 8784), ("1y2m3d4h", 10348)]
)
def test_durations_are_restics(duration, hours):
    assert parse(keep_within=duration).keep_within == duration
    assert duration_hours(duration) == hours


@pytest.mark.parametrize(
    "change",
    [{"check_schedule": "0 0 30 2 *"}, {"timezone": "Mars/Olympus"}, {"keep": {"daily": 0, "weekly": 0, "monthly": 0}}],
)
def test_the_agent_does_not_start_with_what_cannot_be_done(tmp_path, change, monkeypatch, capsys):
    (tmp_path / "config.json").write_text(json.dumps({**GOOD, **change}))
    monkeypatch.setattr("scalr_backup.core.config.CONFIG_FILE", tmp_path / "config.json")
    monkeypatch.setattr("scalr_backup.tools.state.STATE_DIRECTORY", tmp_path)
    with pytest.raises(SystemExit) as ended:
        serve_verb()
    (line,) = capsys.readouterr().out.splitlines()
    assert ended.value.code == 2
    assert {"level": "error", "event": "The agent cannot start.", "code": "configuration"}.items() <= json.loads(
        line
    ).items()


def test_a_document_that_is_no_json_is_refused():
    with pytest.raises(ConfigurationError, match=r"config\.json is not valid JSON"):
        parse_config("{", "config.json")


def test_a_document_that_is_no_object_is_refused():
    with pytest.raises(ConfigurationError):
        parse_config("[]", "config.json")


def test_environment_values_are_verbatim():
    lines = ["# keys", "", "AWS_SECRET_ACCESS_KEY=a=b 'c' \"d\" $e", "EMPTY="]
    assert parse_environment(lines, "environment") == {"AWS_SECRET_ACCESS_KEY": "a=b 'c' \"d\" $e", "EMPTY": ""}


def test_a_bad_environment_line_is_named_by_number_only():
    with pytest.raises(ConfigurationError) as refused:
        parse_environment(["A=1", "secret without equals"], "environment")
    assert "line 2" in refused.value.message
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_missing_or_empty_password_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "password").write_text(content)
    with pytest.raises(ConfigurationError, match=r"run site\.yml"):
        load_secrets(tmp_path)


def test_secrets_are_not_in_their_own_representation(tmp_path):
    (tmp_path / "password").write_text("pass-canary")
    (tmp_path / "environment").write_text("KEY=env-canary\n")
    secrets = load_secrets(tmp_path)
    assert secrets.environment == {"KEY": "env-canary"}
    assert "canary" not in repr(secrets)


def test_the_second_repositorys_secrets_are_its_own_or_the_first_ones(tmp_path):
    (tmp_path / "password").write_text("one")
    (tmp_path / "environment").write_text("A=1")
    assert load_copy_secrets(tmp_path).password_file.read_text() == "one"
    assert load_copy_secrets(tmp_path).environment == {"A": "1"}
    (tmp_path / "copy_password").write_text("two")
    (tmp_path / "copy_environment").write_text("B=2")
    (tmp_path / "ssh_private_key").write_text("key")
    secrets = load_copy_secrets(tmp_path)
    assert (secrets.password_file.read_text(), secrets.environment) == ("two", {"B": "2"})
    assert secrets.ssh_key == tmp_path / "ssh_private_key"
    assert load_secrets(tmp_path).environment == {"A": "1"}


def test_a_copy_into_the_repository_itself_is_refused():
    document = '{"host": "h", "repository": "/repository", "copy": {"repository": "/repository/"}}'
    with pytest.raises(ConfigurationError, match="there would be no copy"):
        parse_config(document, "it")


def test_another_repositorys_secrets_may_bring_what_reaches_its_store():
    given = (
        '{"password": "p", "environment": {}, "ssh_private_key": "canary-key", "ssh_known_hosts": "h ssh-ed25519 A"}'
    )
    secrets = parse_secrets(given)
    assert secrets.ssh_key.read_text() == "canary-key\n"
    assert secrets.ssh_key.stat().st_mode & 0o777 == 0o600
    assert secrets.known_hosts.read_text() == "h ssh-ed25519 A\n"
    assert secrets.authority is None
    assert "canary" not in repr(secrets)

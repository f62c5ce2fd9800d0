# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration out of environment variables: validated as a file is, and nothing of it passed over."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scalr_backup.cli.app import app
from scalr_backup.core import environment
from scalr_backup.core.config import Config, config_of_environment, load_config, parse_config
from scalr_backup.core.errors import ConfigurationError, ExitCode
from scalr_backup.core.secrets import load_addresses, load_copy_secrets, load_secrets
from typer.testing import CliRunner

from tests.unit.agent.test_floors import PACKAGE

HOST = {"BACKUP_HOST": "web1"}
LUA = PACKAGE.parent / "socket-proxy"


@pytest.fixture(autouse=True)
def container(monkeypatch):
    """The environment of a container, which has nothing of this machine's."""
    for name in os.environ:
        if name.startswith((environment.PREFIX, *environment._OF_STORES)):
            monkeypatch.delenv(name)


def refusal(variables):
    with pytest.raises(ConfigurationError) as refused:
        config_of_environment(HOST | variables)
    assert refused.value.exit_code is ExitCode.USAGE
    assert "\n" not in refused.value.message
    return refused.value.message


def test_a_host_needs_no_more_than_its_name():
    config = config_of_environment(HOST)
    assert config == Config(host="web1", repository="/repository", drill_overdue_days=0)


def test_each_kind_of_value_is_read():
    config = config_of_environment(
        HOST
        | {
            "BACKUP_CONTAINERS": "shop-db, crm-*",
            "BACKUP_EXCLUDE": '["old-db"]',
            "BACKUP_ROW_COUNTS": "no",
            "BACKUP_PARALLEL": "4",
            "BACKUP_KEEP": '{"daily": 7}',
            "BACKUP_CHECK_SCHEDULE": "",
            "BACKUP_CONNECTIONS": '{"crm-*": {"port": 5433}}',
            "BACKUP_SCHEDULE_SPREAD": "",
        }
    )
    assert (config.containers, config.exclude) == (("shop-db", "crm-*"), ("old-db",))
    assert (config.row_counts, config.parallel, config.check_schedule) == (False, 4, "")
    assert config.keep.rules == {"daily": 7}
    assert config.connections["crm-*"].port == 5433
    assert (config.spread_minutes, config.drill_overdue_days) == (0, 0)


def test_an_empty_list_is_nothing():
    assert config_of_environment(HOST | {"BACKUP_EXCLUDE": ""}).exclude == ()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"BACKUP_HOST": ""}, "BACKUP_HOST is not set"),
        ({"BACKUP_SCHEDUEL": "0 4 * * *"}, "does not know the variable BACKUP_SCHEDUEL: did you mean BACKUP_SCHEDULE?"),
        ({"BACKUP_XYZZY": "1"}, "does not know the variable BACKUP_XYZZY: docs/compose.md lists those"),
        ({"BACKUP_SCHEDULE": "nightly"}, "BACKUP_SCHEDULE is not valid: 'nightly' is not a cron expression"),
        ({"BACKUP_KEEP": "30"}, 'BACKUP_KEEP must be a mapping in JSON, such as {"daily": 30}'),
        ({"BACKUP_KEEP": '{"dayly": 1}'}, "BACKUP_KEEP is not valid: dayly: no such key"),
        ({"BACKUP_KEEP": '{"daily": 0}'}, "BACKUP_KEEP is not valid: every count is 0"),
        ({"BACKUP_CONTAINERS": '["a"'}, "BACKUP_CONTAINERS must be a list"),
        (
            {"BACKUP_CONTAINERS": "[a-z]*-db"},
            'BACKUP_CONTAINERS must be a list in JSON where it begins with [: a glob such as [a-z]*-db is ["[a-z]*-db"]',
        ),
        ({"BACKUP_CONTAINERS": "[a,b]"}, "BACKUP_CONTAINERS must be a list in JSON"),
        ({"BACKUP_KEEP": '{"daily": true}'}, "BACKUP_KEEP is not valid: daily: true is not a number"),
        ({"BACKUP_KEEP": '{"daily": 30, "daily": 0, "weekly": 4}'}, "BACKUP_KEEP has 'daily' twice"),
        (
            {"BACKUP_COPY_REPOSITORY": "/x", "BACKUP_COPY_KEEP": '{"last": 1, "last": 1}'},
            "BACKUP_COPY_KEEP has 'last' twice",
        ),
        (
            {"BACKUP_CONNECTIONS": '{"a": {"port": true}}'},
            "BACKUP_CONNECTIONS is not valid: a.port: true is not a number",
        ),
        ({"BACKUP_CONNECTIONS": '{"a": {"port": 1}, "a": {}}'}, "BACKUP_CONNECTIONS has 'a' twice"),
        ({"BACKUP_KEEP_WITHIN": "\u0663\u0660d"}, "BACKUP_KEEP_WITHIN is not valid: '\u0663\u0660d' is not a duration"),
        ({"BACKUP_CONTAINERS": "a b"}, "BACKUP_CONTAINERS is not valid: 'a b' is neither a container name"),
        ({"BACKUP_PARALLEL": "many"}, "BACKUP_PARALLEL is not valid: Input should be a valid integer"),
        ({"BACKUP_ROW_COUNTS": "perhaps"}, "BACKUP_ROW_COUNTS is not valid: Input should be a valid boolean"),
        ({"BACKUP_APPEND_ONLY": "perhaps"}, "BACKUP_APPEND_ONLY must be true or false"),
        ({"BACKUP_APPEND_ONLY": "1"}, "BACKUP_APPEND_ONLY is not valid: whoever controls this host"),
        (
            {
                "BACKUP_APPEND_ONLY": "1",
                "BACKUP_REPOSITORY": "s3:https://s3.test/b",
                "BACKUP_PRUNE_SCHEDULE": "0 5 * * *",
            },
            "BACKUP_PRUNE_SCHEDULE is not valid: an append-only host does not prune",
        ),
        (
            {"BACKUP_COPY_REPOSITORY": "local:/repository"},
            "BACKUP_COPY_REPOSITORY is not valid: it is the same place as",
        ),
        ({"BACKUP_COPY_REPOSITORY": "copies"}, "BACKUP_COPY_REPOSITORY is not valid: it must be an absolute path"),
        (
            {"BACKUP_COPY_REPOSITORY": "/copy", "BACKUP_COPY_KEEP": '{"daily": -1}'},
            "BACKUP_COPY_KEEP is not valid: daily: Input should be greater",
        ),
        ({"BACKUP_COPY_KEEP": "30"}, "BACKUP_COPY_KEEP must be a mapping in JSON"),
        ({"BACKUP_CONTAINERS": ""}, "BACKUP_CONTAINERS is empty, so no container would be backed up by name"),
        ({"BACKUP_CONTAINERS": "[]"}, "BACKUP_CONTAINERS is empty"),
        ({"BACKUP_CONTAINERS": "[ \n]"}, "BACKUP_CONTAINERS is empty"),
        ({"BACKUP_CONTAINERS": "[" * 100_000}, "BACKUP_CONTAINERS must be a list"),
        ({"BACKUP_NOTIFY_EVENTS": "[ ]"}, "BACKUP_NOTIFY_EVENTS is empty"),
        ({"BACKUP_HOST": " "}, "BACKUP_HOST is not set"),
        ({"BACKUP_HOST": '"web1"'}, "BACKUP_HOST is not valid: '\"web1\"' must have no quotes"),
        ({"backup_keep": '{"daily": 7}'}, "does not know the variable backup_keep: did you mean BACKUP_KEEP?"),
        ({"backup_schedul": "x"}, "does not know the variable BACKUP_SCHEDUL: did you mean BACKUP_SCHEDULE?"),
        ({"backup_password": "canary"}, "BACKUP_PASSWORD is a secret"),
        ({"BACKUP_KEEP": "{}"}, "BACKUP_KEEP is empty, so no snapshot would be kept"),
        ({"BACKUP_NOTIFY_EVENTS": " "}, "BACKUP_NOTIFY_EVENTS is empty, so nobody would be notified"),
        ({"BACKUP_EXCLUDE": "old-db,*"}, "BACKUP_EXCLUDE is *, which excludes every container"),
        (
            {"BACKUP_REPOSITORY": "rest:https://web1:canary@rest.test/web1/"},
            "The address in BACKUP_REPOSITORY contains a password, which would show up in logs and process lists: leave it "
            "out there, and set RESTIC_REST_USERNAME",
        ),
        ({"BACKUP_COPY_REPOSITORY": "rest:https://web1:canary@rest.test/web1/"}, "in the file copy_environment beside"),
        ({"BACKUP_SOCKET_PROXY": "false"}, "BACKUP_SOCKET_PROXY is for the Ansible role only: "),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_variable(variables, sentence):
    message = refusal(variables)
    assert sentence in message
    assert "canary" not in message


@pytest.mark.parametrize("name", [name.removesuffix("_FILE") for name in environment.FILE_VARIABLES])
def test_a_secret_is_no_variable_and_its_refusal_does_not_repeat_it(name):
    message = refusal({name: "canary"})
    assert f"{name} is a secret, and docker inspect would show it" in message
    assert f"{name}_FILE" in message
    assert "canary" not in message


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "B2_ACCOUNT_KEY", "RESTIC_PASSWORD", "RCLONE_CONFIG_X"])
def test_a_stores_credentials_are_not_passed_over(name):
    message = refusal({name: "canary"})
    assert f"{name} is in the environment" in message
    assert "canary" not in message


@pytest.mark.parametrize("name", sorted(environment.OF_COMPOSE))
def test_what_the_compose_file_reads_is_passed_over(name):
    assert config_of_environment(HOST | {name: "whatever"}) == config_of_environment(HOST)


@pytest.mark.parametrize("name", sorted(environment.OF_ROLE))
def test_what_only_the_role_can_do_is_refused_with_what_there_is_instead(name):
    assert refusal({name: "x"}) == f"{name} is for the Ansible role only: {environment.OF_ROLE[name]}."


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where a configuration file would be."""
    path = tmp_path / "config.json"
    monkeypatch.setattr("scalr_backup.core.config.CONFIG_FILE", path)
    return path


def test_variables_count_where_there_is_no_file(file, monkeypatch):
    monkeypatch.setenv("BACKUP_HOST", "web1")
    monkeypatch.setenv("BACKUP_PARALLEL", "7")
    assert (load_config().host, load_config().parallel) == ("web1", 7)


def test_a_file_counts_where_there_are_no_variables(file, monkeypatch):
    monkeypatch.setenv("BACKUP_MEMORY", "2g")
    file.write_text(json.dumps({"host": "web2", "repository": "/repository"}))
    assert load_config().host == "web2"


def test_both_are_refused(file, monkeypatch):
    monkeypatch.setenv("BACKUP_SCHEDULE", "0 4 * * *")
    file.write_text(json.dumps({"host": "web2", "repository": "/repository"}))
    with pytest.raises(
        ConfigurationError, match=r"two configurations, .* and variables such as BACKUP_SCHEDULE: remove"
    ):
        load_config()


def test_without_either_both_ways_are_named(file, monkeypatch):
    """As where .env holds only what the compose file makes something of."""
    monkeypatch.setenv("BACKUP_IMAGE", "x")
    with pytest.raises(
        ConfigurationError, match=r"run site\.yml, or without Ansible, set BACKUP_HOST \(docs/compose\.md\)"
    ):
        load_config()


def test_secrets_are_where_a_variable_says(tmp_path, monkeypatch):
    for name in environment.FILE_VARIABLES.values():
        (tmp_path / f"my-{name}").write_text("A=1" if name.endswith("environment") else f"json://{name}")
    for variable, name in environment.FILE_VARIABLES.items():
        monkeypatch.setenv(variable, str(tmp_path / f"my-{name}"))
    first, second, addresses = load_secrets(), load_copy_secrets(), load_addresses()
    assert first.password_file == tmp_path / "my-password"
    assert (first.environment, second.environment) == ({"A": "1"}, {"A": "1"})
    assert second.password_file == tmp_path / "my-copy_password"
    assert [path.name for path in (first.ssh_key, first.known_hosts, first.authority)] == [
        "my-ssh_private_key", "my-ssh_known_hosts", "my-ca_certificate",
    ]  # fmt: skip
    assert (addresses.notify, addresses.heartbeat) == (("json://notify",), "json://heartbeat")


@pytest.mark.parametrize(("variable", "load"), [
    ("BACKUP_PASSWORD_FILE", load_secrets),
    ("BACKUP_CA_CERTIFICATE_FILE", load_secrets),
    ("BACKUP_COPY_ENVIRONMENT_FILE", load_copy_secrets),
    ("BACKUP_NOTIFY_FILE", load_addresses),
])  # fmt: skip
def test_a_secret_that_is_not_where_a_variable_says_is_refused(variable, load, tmp_path, monkeypatch):
    (tmp_path / "password").write_text("p")
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    monkeypatch.setenv(variable, "/nowhere/secret")
    with pytest.raises(ConfigurationError, match=f"{variable} is /nowhere/secret, but the container has no such file"):
        load()


def forbidden(*_arguments, **_options):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(("variables", "advice"), [
    (HOST, "it must be a file that the agent's group, 64738, may read"),
    ({}, "run site.yml"),
])  # fmt: skip
@pytest.mark.parametrize(
    ("name", "load"),
    [("password", load_secrets), ("environment", load_secrets), ("copy_environment", load_copy_secrets),
     ("notify", load_addresses)],
)  # fmt: skip
def test_a_secret_that_cannot_be_read_is_said_to_be_so(name, load, variables, advice, tmp_path, monkeypatch):
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "password").write_text("p")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=f"{name} cannot be read: Is a directory; {advice}"):
        load()


def test_secrets_in_a_directory_that_the_agent_may_not_enter(tmp_path, monkeypatch):
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    (tmp_path / "password").write_text("p")
    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(ConfigurationError, match="ssh_private_key cannot be read: Permission denied"):
        load_secrets()
    monkeypatch.setattr(Path, "is_file", forbidden)
    monkeypatch.setenv("BACKUP_PASSWORD_FILE", "/x/y")
    with pytest.raises(ConfigurationError, match="BACKUP_PASSWORD_FILE is /x/y, which cannot be read: Permission"):
        load_secrets()


@pytest.mark.parametrize(("name", "load"), [("environment", load_secrets), ("notify", load_addresses)])
def test_a_secret_that_is_no_text_is_not_shown(name, load, tmp_path, monkeypatch):
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    (tmp_path / "password").write_text("p")
    (tmp_path / name).write_bytes(b"A=canary\xff")
    with pytest.raises(ConfigurationError, match=f"{name} is not UTF-8 text") as refused:
        load()
    assert "canary" not in refused.value.message


def password(monkeypatch, directory, **variables):
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", directory)
    monkeypatch.setattr("scalr_backup.core.config.CONFIG_FILE", directory / "none.json")
    return CliRunner().invoke(app, ["password"], env={"BACKUP_HOST": "web1", "COLUMNS": "200", **variables})


def test_a_password_is_generated_once_and_never_shown(tmp_path, monkeypatch):
    told = password(monkeypatch, tmp_path, SCALR_BACKUP_SECRETS_ON_HOST="/opt/x/secrets")
    written = (tmp_path / "password").read_text()
    assert told.exit_code == 0
    assert "A PASSWORD WAS GENERATED for the backups of web1" in told.output
    assert "/opt/x/secrets/password" in told.output
    assert "KEEP A COPY ON ANOTHER MACHINE" in told.output
    assert len(written) == 64
    assert written.isalnum()
    assert written not in told.output
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o640
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    again = password(monkeypatch, tmp_path)
    assert (again.exit_code, again.output) == (0, f"There is a password in {tmp_path}/password; it stays.\n")
    assert (tmp_path / "password").read_text() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["password"]


@pytest.mark.parametrize("content", ["", "\n", " \n", "\r\n", "\ufeff\n"])
def test_an_empty_file_does_not_pass_for_a_password(content, tmp_path, monkeypatch):
    (tmp_path / "password").write_bytes(content.encode())
    told = password(monkeypatch, tmp_path)
    assert told.exit_code == 2
    assert "contains no password: remove it, then run this again" in told.output
    assert (tmp_path / "password").read_bytes() == content.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["password"]


def test_a_link_to_nowhere_does_not_pass_for_a_password(tmp_path, monkeypatch):
    (tmp_path / "password").symlink_to(tmp_path / "nowhere")
    told = password(monkeypatch, tmp_path)
    assert told.exit_code == 2
    assert "cannot be written: No such file or directory" in told.output


def test_the_place_of_another_password_file_is_told_as_it_is(tmp_path, monkeypatch):
    for name in ("secrets/deep", "other"):
        (tmp_path / name).mkdir(parents=True)
    on_host = {"SCALR_BACKUP_SECRETS_ON_HOST": "/opt/x/secrets"}
    for file, told in (("secrets/deep/key", "/opt/x/secrets/deep/key"), ("other/key", f"{tmp_path}/other/key")):
        called = password(monkeypatch, tmp_path / "secrets", BACKUP_PASSWORD_FILE=str(tmp_path / file), **on_host)
        assert called.exit_code == 0
        assert f"  {told}\n" in called.output


def test_no_password_is_generated_for_a_configuration_that_is_refused(tmp_path, monkeypatch):
    told = password(monkeypatch, tmp_path, BACKUP_PASWORD_FILE="/x")
    assert told.exit_code == 2
    assert "did you mean BACKUP_PASSWORD_FILE?" in told.output
    assert not (tmp_path / "password").exists()


def test_a_missing_password_is_to_be_put_back_and_not_generated_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("scalr_backup.core.secrets.SECRETS_DIRECTORY", tmp_path)
    monkeypatch.setenv("BACKUP_HOST", "web1")
    with pytest.raises(ConfigurationError, match="; put your saved copy back; only a new installation"):
        load_secrets()


def proxy_settings(**variables):
    return subprocess.run(
        [sys.executable, "-m", "scalr_backup.cli.proxy_settings"],
        env={"PYTHONPATH": str(PACKAGE.parent), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_proxy_gets_the_same_configuration_as_a_file():
    variables = HOST | {"BACKUP_CONTAINERS": "shop-*", "BACKUP_COPY_REPOSITORY": "/copy"}
    done = proxy_settings(**variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert parse_config(done.stdout, "it") == config_of_environment(variables)
    read = set(re.findall(r"configuration\.(\w+)", "".join(path.read_text() for path in LUA.glob("*.lua"))))
    assert read & set(Config.model_fields) == {"containers", "exclude", "host_namespaces_accepted"}
    assert read & set(Config.model_fields) <= set(json.loads(done.stdout))


def test_the_proxy_does_not_start_with_what_the_agent_would_refuse():
    done = proxy_settings(BACKUP_HOST="web1", BACKUP_CONTAINER="*")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "The agent does not know the variable BACKUP_CONTAINER: did you mean BACKUP_CONTAINERS?\n"

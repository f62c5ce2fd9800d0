from __future__ import annotations

import json

import pytest
from scalr_backup.cli.serve import serve_verb
from scalr_backup.core.config import duration_hours, load_config, parse_config
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
            "config.json: backup_prune_schedule: an append-only host does not prune, prune.yml does it: leave it empty.",
        ),
        ({"copy": {"repository": "/copy", "keep": {"daily": 0, "weekly": 0, "monthly": 0}}}, "every count is 0"),
        ({"timezone": "Mars/Olympus"}, "timezone: 'Mars/Olympus' is not a time zone"),
        ({"timezone": "../../etc/passwd"}, "timezone: '../../etc/passwd' is not a time zone"),
        ({"keep": {"daily": 0, "weekly": 0, "monthly": 0}}, "keep: every count is 0, which would delete every backup"),
        ({"keep": {"daily": -1}}, "config.json: backup_keep.daily: Input should be greater than or equal to 0"),
        ({"copy": {"repository": "/copy", "keep": {"daily": -1}}}, "config.json: backup_copy_keep.daily: Input should"),
        ({"spread_minutes": 1000}, "config.json: backup_schedule_spread: Input should be less than or equal to 720"),
        ({"host": ""}, "config.json: host: String should have at least 1 character"),
        ({"metrics_port": 80}, "metrics_port: 80 is a port that only root may open"),
        ({"metrics_port": 70000}, "metrics_port: Input should be less than or equal to 65535"),
        ({"metrics_textfile": "textfiles"}, "metrics_textfile: 'textfiles' must be an absolute path"),
        ({"append_only": True}, "backup_append_only: whoever controls this host can remove its directory /repository"),
        ({"append_only": True, "repository": "local:/r"}, "backup_append_only: whoever controls this host can remove"),
        ({"repository": "backups"}, "repository: it must be an absolute path or a restic address"),
        ({"repository": "s3:"}, "repository: it must be an absolute path or a restic address"),
        (
            {"copy": {"repository": "ftp://host/x"}},
            "config.json: backup_copy_repository: it must be an absolute path or a restic address",
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
        ({"host": "web\0"}, "host: it has a NUL character"),
        ({"repository": "/repository\0"}, "repository: it has a NUL character"),
        ({"copy": {"repository": "/copy\0"}}, "repository: it has a NUL character"),
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "The configuration is nested too deeply."),
        ('{"host": ' + "9" * 5000 + "}", "The configuration has a number with too many digits."),
    ],
    ids=["nested", "digits"],
)
def test_a_document_that_no_program_would_write_is_refused_in_one_sentence(text, why):
    with pytest.raises(ConfigurationError) as refused:
        parse_config(text, "The configuration")
    assert refused.value.message == why


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(b'{"host": "caf\xe9"}')
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    "host",
    [
        "web1",
        "web-1.example.com",
        "web_1",
        "192.0.2.7",
        "2001:db8::1",
        "fe80::1%eth0",
        "[2001:db8::1]:22",
        "root@web1",
        "büro",
        "w" * 255,
    ],
)
def test_a_host_has_the_name_that_the_inventory_may_have_for_it(host):
    assert parse(host=host).host == host


@pytest.mark.parametrize(
    "host",
    [
        '"web1"',
        "'web1'",
        "`hostname`",
        "$(hostname)",
        " web1 ",
        "web 1",
        "web1\r",
        "web1 # the first",
        "web1#",
        "\x1b[31mweb1",
        "web\u200b1",
        "web1\\n",
        " ",
    ],
)
def test_what_a_file_of_variables_adds_to_a_hosts_name_is_not_part_of_it(host):
    """It would be another host, whose backups are its own."""
    with pytest.raises(ConfigurationError, match=r"host: .* quotes") as refused:
        parse(host=host)
    assert refused.value.message.isprintable()


def test_a_name_that_is_too_long_is_refused_and_not_repeated():
    with pytest.raises(ConfigurationError, match="host: a name of 3000 characters") as refused:
        parse(host="w" * 3000)
    assert "www" not in refused.value.message


def test_a_switch_is_no_number():
    for changes, key in (
        ({"keep": {"daily": True}}, "daily"),
        ({"parallel": True}, "parallel"),
        ({"pass_hours": False}, "hours"),
    ):
        with pytest.raises(ConfigurationError, match=f"{key}: (true|false) is not a number"):
            parse(**changes)
    # On Ansible's command line, every number is text.
    assert (parse(keep={"daily": "7"}, parallel="3").keep.daily, parse(parallel="3").parallel) == (7, 3)


def test_a_key_that_is_there_twice_is_refused():
    """Only the last would count, and nobody would be told."""
    with pytest.raises(ConfigurationError, match=r"config\.json has 'daily' twice"):
        parse_config(
            '{"host": "db1", "repository": "/r", "keep": {"daily": 30, "daily": 0, "weekly": 1}}', "config.json"
        )


def test_a_document_that_is_no_object_is_refused():
    with pytest.raises(ConfigurationError):
        parse_config("[]", "config.json")


def test_environment_values_are_verbatim():
    lines = ["# keys", "", "AWS_SECRET_ACCESS_KEY=a=b 'c' \"d\" $e", "EMPTY="]
    assert parse_environment(lines, "environment") == {"AWS_SECRET_ACCESS_KEY": "a=b 'c' \"d\" $e", "EMPTY": ""}


def test_an_environment_line_that_no_program_can_be_given_is_named_by_number_only():
    with pytest.raises(ConfigurationError, match="environment: line 2 has a NUL character") as refused:
        parse_environment(["A=1", "B=secret\0"], "environment")
    assert "secret" not in refused.value.message


def test_a_bad_environment_line_is_named_by_number_only():
    with pytest.raises(ConfigurationError) as refused:
        parse_environment(["A=1", "secret without equals"], "environment")
    assert "line 2" in refused.value.message
    assert "secret" not in refused.value.message


# restic takes no more of them: neither white space at both ends, nor what Windows puts before a text.
BLANK = [b"", b"\n", b" \n", b"\r\n", b"\t", b"\xc2\xa0", b"\xef\xbb\xbf\r\n", b"\xff\xfe\n\0"]


@pytest.mark.parametrize("content", [None, *BLANK])
def test_a_missing_or_blank_password_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"run site\.yml"):
        load_secrets(tmp_path)


@pytest.mark.parametrize("content", BLANK)
def test_a_blank_password_of_the_second_repository_is_refused(tmp_path, content):
    (tmp_path / "password").write_text("one")
    (tmp_path / "copy_password").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"copy_password is empty; run site\.yml"):
        load_copy_secrets(tmp_path)


@pytest.mark.parametrize("content", [b"a b", b" a\r\n", b"\xff", b"\xff\xfea\0", b"\xff\xfea"])
def test_a_password_that_is_not_blank_is_one(tmp_path, content):
    (tmp_path / "password").write_bytes(content)
    assert load_secrets(tmp_path).password_file.read_bytes() == content


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


@pytest.mark.parametrize(
    ("repository", "copy"),
    [
        ("/repository", "/repository/"),
        ("/repository", "local:/repository"),
        ("/repository", "//repository"),
        ("/repository", "/x/../repository"),
        ("local:/repository/.", "/repository"),
        ("s3:https://s3.test/b/web1", "s3:s3.test/b/web1"),
        ("s3:https://s3.test/b/web1", "s3://s3.test/b/web1/"),
        ("s3:https://s3.test/b/web1", "s3:https://S3.Test:443/b//web1"),
        ("s3:http://s3.test./b", "s3:http://s3.test:80/b/"),
        ("rest:https://rest.test/web1", "rest:https://web1@rest.test:443/web1/"),
        ("sftp:backup@nas.test:/v/web1", "sftp://backup@NAS.test:22//v/web1/"),
        ("sftp:nas.test:web1", "sftp://nas.test/./web1"),
        ("b2:backups:web1", "b2:backups:/web1/"),
        ("gs:backups:/", "gs:backups:"),
        ("rclone:remote:b/web1", "rclone:remote:b/web1/"),
    ],
)
def test_a_copy_into_the_repository_itself_is_refused_however_its_address_is_spelled(repository, copy):
    with pytest.raises(ConfigurationError) as refused:
        parse(repository=repository, copy={"repository": copy})
    assert refused.value.message == (
        "config.json: backup_copy_repository: it is the same place as the first repository, so there would be no copy: "
        "choose another one."
    )


@pytest.mark.parametrize(
    ("repository", "copy"),
    [
        ("/repository", "/repository2"),
        ("/repository", "/repository/copy"),
        ("s3:https://s3.test/b/web1", "s3:https://s3.test/c/web1"),
        ("s3:https://s3.test/b", "s3:https://s3.test:9000/b"),
        ("s3:https://s3.test/b", "rest:https://s3.test/b"),
        ("rest:http://nas.test:8000/web1", "rest:http://nas.test:8001/web1"),
        ("sftp:backup@nas.test:web1", "sftp:backup@nas.test:/web1"),
        ("sftp:one@nas.test:/web1", "sftp:two@nas.test:/web1"),
        ("rest:https://[::1]:8000/web1", "rest:https://[::2]:8000/web1"),
        ("rest:https://nas.test:port/web1", "rest:https://nas.test:other/web1"),
        ("azure:backups:/web1", "azure:backups:/web2"),
        ("rclone:one:b/web1", "rclone:two:b/web1"),
    ],
)
def test_a_copy_into_another_place_is_none_of_the_repository_itself(repository, copy):
    assert parse(repository=repository, copy={"repository": copy}).copy_to.repository == copy


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

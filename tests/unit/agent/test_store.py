"""What a repository's address says of its store, how two of them are used at once, and what stores' refusals mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.tools.restic.refusals import explain
from scalr_backup.tools.restic.ssh import ssh_option, ssh_probe
from scalr_backup.tools.restic.stores import beside, kind, relevant

FIRST = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "canary-one", "HTTPS_PROXY": "http://proxy"}
SECOND = {"AWS_ACCESS_KEY_ID": "two", "AWS_SECRET_ACCESS_KEY": "canary-two"}


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("/repository", "local"),
        ("s3:https://s3.test/b", "s3"),
        ("s3:s3.amazonaws.com/b", "s3"),
        ("b2:bucket:path", "b2"),
        ("rest:http://rest.test/", "rest"),
        ("sftp:u@h:/p", "sftp"),
        ("sftp://u@h:2222//p", "sftp"),
        ("odd:path", "local"),
    ],
)
def test_the_kind_of_a_store_stands_before_the_colon(repository, expected):
    assert kind(repository) == expected


def test_of_an_environment_a_store_sees_its_own_and_what_is_nobodys():
    environment = {**FIRST, "B2_ACCOUNT_ID": "x", "RESTIC_COMPRESSION": "max"}
    assert relevant("b2:bucket", environment) == {
        "B2_ACCOUNT_ID": "x", "HTTPS_PROXY": "http://proxy", "RESTIC_COMPRESSION": "max",
    }  # fmt: skip
    assert "B2_ACCOUNT_ID" not in relevant("/repository", environment)


class TestTwoStoresAtOnce:
    """restic has one environment for both repositories of a copy."""

    def test_of_different_kinds_have_their_variables_side_by_side(self):
        address, variables = beside("s3:https://s3.test/b", FIRST, "rest:https://rest.test/", {**FIRST})
        assert address == "s3:https://s3.test/b"
        assert variables == FIRST

    def test_of_one_account_need_nothing_else(self):
        address, variables = beside("s3:https://s3.test/b", FIRST, "s3:https://s3.test/c", {**FIRST})
        assert (address, variables["AWS_ACCESS_KEY_ID"]) == ("s3:https://s3.test/b", "one")

    @pytest.mark.parametrize(
        ("repository", "endpoint", "provider", "region", "path"),
        [
            ("s3:https://s3.test:8333/bucket/a/b", "https://s3.test:8333", "Other", "", "bucket/a/b"),
            ("s3:http://s3.test/bucket", "http://s3.test", "Other", "", "bucket"),
            ("s3:s3.eu-west-1.amazonaws.com/bucket/p/", None, "AWS", "eu-west-1", "bucket/p"),
            ("s3://s3.amazonaws.com/bucket", None, "AWS", "", "bucket"),
            ("s3:eu-central-1/bucket", None, "AWS", "eu-central-1", "bucket"),
        ],
    )
    def test_of_two_accounts_of_s3_have_one_read_through_rclone(self, repository, endpoint, provider, region, path):
        address, variables = beside(repository, FIRST, "s3:https://other.test/b", SECOND)
        assert address == f"rclone:from:{path}"
        assert not any(name.startswith("AWS_") for name in variables), "those are the other one's"
        assert variables["RCLONE_CONFIG_FROM_TYPE"] == "s3"
        assert variables["RCLONE_CONFIG_FROM_PROVIDER"] == provider
        assert variables.get("RCLONE_CONFIG_FROM_ENDPOINT") == endpoint
        assert variables.get("RCLONE_CONFIG_FROM_REGION", "") == region
        assert variables["RCLONE_CONFIG_FROM_SECRET_ACCESS_KEY"] == "canary-one"
        assert variables["HTTPS_PROXY"] == "http://proxy"
        assert "canary" not in address

    def test_of_two_users_of_rest_servers_have_one_in_the_address_which_is_a_variable_too(self):
        mine = {"RESTIC_REST_USERNAME": "web1", "RESTIC_REST_PASSWORD": "a:b@c/d"}
        address, variables = beside("rest:https://rest.test:8000/x/", mine, "rest:https://o.test/", {})
        assert address == "rest:https://web1:a%3Ab%40c%2Fd@rest.test:8000/x/"
        assert variables == {}

    def test_of_two_accounts_of_a_kind_without_such_a_way_are_refused(self):
        with pytest.raises(ConfigurationError, match="both b2 stores with different credentials"):
            beside("b2:one", {"B2_ACCOUNT_ID": "1"}, "b2:two", {"B2_ACCOUNT_ID": "2"})


class TestSsh:
    def test_is_told_of_files_only_and_asks_nobody(self):
        (_o, told) = ssh_option(Path("/secrets/key"), Path("/secrets/hosts"))
        assert told.startswith("sftp.args=-F none -i /secrets/key -o UserKnownHostsFile=/secrets/hosts ")
        assert "StrictHostKeyChecking=yes" in told
        assert "BatchMode=yes" in told

    @pytest.mark.parametrize(
        ("repository", "where"),
        [
            ("sftp:store@sftp.test:/backups/x", ["-l", "store", "sftp.test"]),
            ("sftp:a@b@sftp.test:x", ["-l", "a@b", "sftp.test"]),
            ("sftp://store@sftp.test:2222//backups/x", ["-p", "2222", "-l", "store", "sftp.test"]),
            ("sftp://sftp.test//x", ["sftp.test"]),
        ],
    )
    def test_is_asked_at_the_address_that_restic_uses(self, repository, where):
        assert ssh_probe(repository, None, None)[-len(where) - 2 :] == [*where, "-s", "sftp"]


@pytest.mark.parametrize(
    ("words", "verdict", "reason"),
    [
        ("Stat: The difference between the request time and the current time is too large.", "refused", "clock"),
        ("The access key ID you provided does not exist in our records.", "refused", "credentials"),
        ("403 Forbidden: SignatureDoesNotMatch", "refused", "rejects the credentials"),
        ("client.PutObject: Access Denied.", "refused", "lack the permission"),
        ("client.MakeBucket: Access Denied.", "refused", "may not create it"),
        ("Stat: The specified bucket does not exist", "missing", "bucket"),
        ("tls: failed to verify certificate: x509: certificate has expired", "refused", "backup_ca_certificate"),
        ("No ED25519 host key is known for h.\nHost key verification failed.", "refused", "not in backup_ssh_known"),
        (
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            "refused",
            "host key is not the one",
        ),
        ("store@h: Permission denied (publickey).", "refused", "rejects the key"),
        ("dial tcp: lookup nowhere.test on 127.0.0.11:53: no such host", "unreachable", "resolved"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "unreachable", "network"),
        ("mkdir /x: read-only file system", "refused", "it is read-only"),
        ("write /x: no space left on device", "refused", "is full"),
    ],
)
def test_what_a_store_says_means(words, verdict, reason):
    refusal = explain(words)
    assert refusal is not None
    assert refusal.verdict == verdict
    assert reason in refusal.reason


DENIED = "mkdir /srv/back ups/snapshots: permission denied"


@pytest.mark.parametrize("repository", ["/srv/back ups", "local:/srv/back ups"])
def test_a_directory_of_somebody_else_has_no_credentials_but_an_owner(repository):
    refusal = explain(DENIED, repository)
    assert refusal is not None
    assert refusal.verdict == "refused"
    assert "credentials" not in refusal.reason
    assert "belong to the agent's user, 64738" in refusal.reason
    assert refusal.reason.endswith(": on the host, run chown -R 64738:64738 '/srv/back ups'")


def test_what_is_mounted_as_the_default_repository_has_another_path_on_the_host():
    refusal = explain("mkdir /repository/data: permission denied", "/repository")
    assert refusal is not None
    assert refusal.reason.endswith(": on the host, run chown -R 64738:64738 on what is mounted at /repository")


@pytest.mark.parametrize(
    ("words", "repository"),
    [
        (DENIED, "sftp:user@host:/srv"),
        (DENIED, ""),
        # A copy reads from another store.
        ("client.GetObject: Access Denied.", "/srv/backups"),
    ],
)
def test_a_store_that_has_credentials_is_told_of_them(words, repository):
    refusal = explain(words, repository)
    assert refusal is not None
    assert "the credentials lack the permission" in refusal.reason


@pytest.mark.parametrize(
    "words", ["pack 4015c0ff: wrong data returned", "tree 507ab401 not found", "Fatal: unable to load index", "exit 3"]
)
def test_what_is_no_stores_word_is_left_to_restic(words):
    assert explain(words) is None

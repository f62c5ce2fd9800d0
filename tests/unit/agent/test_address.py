"""What an address may show: by property, whatever a password is made of, and whatever the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.module_utils import _address as collections_file
from hypothesis import example, given
from hypothesis import strategies as st
from scalr_backup.core import address
from scalr_backup.core.address import holds_secret, objection, redact, redact_address

# Each with a place for a user and a password, as somebody may write it, whether a store takes it or not.
FORMS = (
    "rest:https://{}@rest.test/web1/", "rest:http://{}@rest.test:8000/", "rest:https://{}@[2001:db8::1]:8000/x",
    "rest:{}@rest.test/x", "s3:https://{}@s3.test:9000/bucket", "s3:{}@s3.test/bucket", "sftp://{}@sftp.test:22//srv/b",
    "sftp:{}@sftp.test:/srv/b", "https://{}@rest.test", "opendal:webdav://{}@dav.test/x", "azure:https://{}@blob.test/c",
    "swift:https://{}@os.test/v3:/path", "rclone:https://{}@x",
)  # fmt: skip
# What a part of could not be told from the rest of the address.
MARK = "canary"
PASSWORDS = st.tuples(
    st.text(alphabet=st.sampled_from("@:/%#?&=,;'\" \\ü€\u202e0aZ~\n[]"), max_size=8),
    st.text(alphabet=st.sampled_from("@:/%#?&=,;'\" \\ü€\u202e0aZ~\n[]"), max_size=8),
).map(lambda ends: ends[0] + MARK + ends[1] + MARK)


@given(st.sampled_from(FORMS), PASSWORDS)
@example("rest:https://{}@rest.test/web1/", "p@ss/canary@canary")
@example("s3:https://{}@s3.test:9000/bucket", "12/34@canary")
def test_no_part_of_a_password_shows_whatever_it_is_made_of(form: str, password: str) -> None:
    shown = redact_address(form.format(f"web1:{password}"))

    assert MARK not in shown
    assert shown == form.format("web1:***")


@given(st.sampled_from(FORMS), PASSWORDS)
def test_an_address_with_a_password_is_refused_in_words_that_do_not_show_it(form: str, password: str) -> None:
    written = form.format(f"web1:{password}")
    # Such a one reads as a port and a path: it is not used as a password, and not shown.
    if not address._PORT.match(password):
        sentence = objection("backup_repository", written)
        assert sentence is not None
        assert MARK not in sentence
        assert "\n" not in sentence


@given(st.sampled_from(FORMS), st.text(alphabet=st.sampled_from("@:/%#?&=,;\\ü€\u202e0aZ~[]"), max_size=16))
def test_in_a_text_an_address_is_a_word(form: str, ends: str) -> None:
    written = form.format(f"web1:{ends}{MARK}{ends}")
    text = redact(f'Fatal: unable to open "{written}": Get {written}: dial tcp: no such host')

    assert MARK not in text
    assert text.startswith("Fatal: unable to open ")
    assert text.endswith("dial tcp: no such host")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("rclone::sftp,host=h,pass=canary,x:/p", "rclone::sftp,host=h,pass=***"),
        ("rclone:r2,secret_access_key='ca,na:ry':bucket", "rclone:r2,secret_access_key=***"),
        ("rest:https://rest.test/x?token=canary&a=b", "rest:https://rest.test/x?token=***"),
        ("rest:https://me@mail.test:canary@rest.test/", "rest:https://me@mail.test:***@rest.test/"),
        ("rest:https://:canary@rest.test/", "rest:https://:***@rest.test/"),
    ],
)
def test_other_places_of_a_secret_in_an_address(written: str, shown: str) -> None:
    assert redact_address(written) == shown
    assert holds_secret(written)


@pytest.mark.parametrize(
    "written",
    [
        "/repository", "/srv/a:b@c", "local:/srv/x", "s3:https://s3.test:9000/bucket/web1", "s3:s3.amazonaws.com/b/a@b",
        "s3:https://s3.test/bucket/a:b@c", "rest:https://rest.test:8000/web1/", "rest:https://web1@rest.test:8000/web1/",
        "rest:https://[2001:db8::1]:8000/x@y", "sftp:backup@sftp.test:/srv/b", "sftp:backup@sftp.test:/srv/a@b:c",
        "sftp:sftp.test:dir@x", "sftp://backup@sftp.test:2222//srv/b", "sftp://backup@[2001:db8::1]:2222//srv/b",
        "b2:bucket:path@x", "azure:container:/x", "gs:bucket:/x", "rclone:remote:path", "rclone:remote,chunk_size=5M:x",
        "rest:https://u:@rest.test/", "swift:container:/x", "rclone::s3,provider=AWS,env_auth=true,region=x:bucket",
        "rclone::sftp,host=h,key_file=/k:dir", "rclone::sftp,host=h,key_use_agent=true:dir",
        "rclone::swift,env_auth=true,auth_version=3:c",
    ],
)  # fmt: skip
def test_what_holds_no_password_stays_as_it_is(written: str) -> None:
    assert redact_address(written) == redact(written) == written
    assert objection("backup_repository", written) is None


@pytest.mark.parametrize(
    "name",
    [
        "env_auth", "v2_auth", "key_file", "pubkey_file", "shared_credentials_file", "service_account_file", "key_use_agent",
        "auth_version", "auth_url", "token_url", "access_key_id", "sse_kms_key_id", "application_credential_id",
        "application_credential_name", "client_id", "token_type", "client_certificate_path", "design",
        "provider", "assign", "author", "region", "pubkey", "ask_password", "key_exchange", "env-auth-url", "ENV_AUTH",
    ],
)  # fmt: skip
def test_a_setting_that_holds_no_secret_stays(name: str) -> None:
    for written in (
        f"rclone::s3,{name}=true,region=x:bucket",
        f"rclone:r,a=b,{name}=/k:dir",
        f"rest:https://h/x?{name}=1",
    ):
        assert redact_address(written) == redact(written) == written
        assert objection("backup_repository", written) is None


@pytest.mark.parametrize(
    "name",
    [
        "pass", "password", "password2", "key_file_pass", "client_certificate_password", "secret_access_key", "client_secret",
        "application_credential_secret", "session_token", "auth_token", "bearer_token", "token", "key", "key_pem", "api_key",
        "sse_customer_key", "sse_customer_key_base64", "service_account_credentials", "sas_url", "sas", "sig", "X-Amz-Signature",
        "auth", "authorization", "oauth", "pwd", "secret_id", "bearer_token_command", "PASS", "accountkey",
    ],
)  # fmt: skip
def test_a_setting_that_holds_a_secret_is_hidden_and_refused(name: str) -> None:
    for before in ("rclone::x,", "rclone::x,env_auth=false,key_file=/k,", "rest:https://h/x?", "rest:https://h/x?a=b&"):
        written = f"{before}{name}=canary:b"
        assert redact_address(written) == redact(written) == f"{before}{name}=***"
        assert objection("backup_repository", written) is not None


@pytest.mark.parametrize(
    "written", ["sftp:host:/data,design=1", "sftp:me@host:/data,key=1?token=2", "sftp://host//a&sig=1"]
)
def test_a_path_of_an_sftp_server_has_no_settings(written: str) -> None:
    assert redact_address(written) == redact(written) == written
    assert objection("backup_repository", written) is None


def test_a_port_before_an_at_is_no_password_and_yet_not_shown() -> None:
    written = "s3:https://s3.test:9000/bucket/who@where"

    assert objection("backup_repository", written) is None
    assert redact_address(written) == "s3:https://s3.test:***@where"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("rest:https://u:p@h/", "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in backup_prune_environment"),
        ("s3:https://u:p@h/b", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in backup_prune_environment"),
        ("sftp://u:p@h//b", "backup_ssh_private_key"),
        ("rclone:r,pass=p:b", "RCLONE_CONFIG_… variables in backup_prune_environment"),
        ("odd:x://u:p@h", "set it in backup_prune_environment"),
    ],
)
def test_the_sentence_names_the_place_where_it_belongs(written: str, place: str) -> None:
    sentence = objection("backup_prune_repository", written)

    assert sentence is not None
    assert sentence.startswith("The address in backup_prune_repository contains a password")
    assert place in sentence


def test_what_is_no_text_is_no_address() -> None:
    assert objection("backup_repository", None) is None


def test_the_agent_and_the_collection_have_the_same_file() -> None:
    def text(path: str) -> str:
        return Path(path).read_text().partition('"""What an address')[2]

    assert text(str(address.__file__)) == text(str(collections_file.__file__))

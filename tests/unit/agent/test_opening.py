"""Repositories are opened, or made where they are missing: those in use, and those of a configuration to come."""

from __future__ import annotations

import json

import pytest
from scalr_backup.actions.opening import Which, open_or_make, rehearse
from scalr_backup.core.errors import (
    ConfigurationError,
    RepositoryMissingError,
    RepositoryRefusedError,
    WrongPasswordError,
)
from scalr_backup.core.secrets import parse_given

BOTH = (Which.REPOSITORY, Which.COPY)
CONFIG = {
    "host": "web1",
    "repository": "s3:https://s3.test/b",
    "containers": ["scalr-*-db"],
    "copy": {"repository": "sftp:b@nas.test:/c", "keep": {"daily": 1}},
}


class FakeRestic:
    """A repository that is there, or can be made, or refuses whatever is asked of it."""

    def __init__(self, repository, there=True, refuses=None, refuses_to_be_made=None, identity=None):
        self.repository = repository
        self.identity = identity or f"id of {repository}"
        self.there = there
        self.refuses = refuses
        self.refuses_to_be_made = refuses_to_be_made
        self.cuts_as = None

    def repository_id(self):
        if self.refuses:
            raise self.refuses
        if not self.there:
            raise RepositoryMissingError("There is none.")
        return self.identity

    def init(self, copy_of=None):
        if self.refuses_to_be_made:
            raise self.refuses_to_be_made
        self.there, self.cuts_as = True, copy_of


def test_one_that_is_there_is_left_as_it_is():
    opened = open_or_make(FakeRestic("a", refuses_to_be_made=RepositoryRefusedError("never")))

    assert (opened.created, opened.repository_id) == (False, "id of a")


def test_one_that_is_missing_is_made_only_where_that_is_wanted():
    missing = FakeRestic("a", there=False)

    with pytest.raises(RepositoryMissingError):
        open_or_make(missing, must_exist=True)
    foretold = open_or_make(missing, make=False)
    assert (foretold.created, foretold.repository_id, missing.there) == (True, None, False)
    made = open_or_make(missing)
    assert (made.created, made.repository_id) == (True, "id of a")


def test_a_rehearsal_makes_a_copy_that_cuts_data_as_the_first_repository_does():
    first, copy = FakeRestic("a", there=False), FakeRestic("b", there=False)

    done = rehearse(first, copy, BOTH)

    assert (done.error, done.changed, copy.cuts_as) == (None, True, first)
    assert done.as_dict()["copy"] == {"repository": "b", "created": True, "repository_id": "id of b"}


@pytest.mark.parametrize("make", [(), (Which.COPY,)])
def test_a_rehearsal_that_may_not_make_the_first_repository_makes_nothing(make):
    first, copy = FakeRestic("a", there=False), FakeRestic("b", there=False)

    done = rehearse(first, copy, make)

    assert (first.there, copy.there, done.error, done.changed) == (False, False, None, True)
    assert [done.as_dict()[which]["repository_id"] for which in ("repository", "copy")] == [None, None]


def test_a_copy_that_is_the_first_repository_under_another_address_is_refused():
    first, alias = FakeRestic("/r", identity="one"), FakeRestic("/linked", identity="one")

    with pytest.raises(
        ConfigurationError, match="backup_copy_repository is /linked, which is the first repository, /r,"
    ):
        open_or_make(alias, copy_of=first)
    done = rehearse(first, alias, BOTH)

    assert (list(done.opened), done.error.code, done.changed) == ([Which.REPOSITORY], "configuration", False)


def test_a_copy_outlives_the_first_repository():
    opened = open_or_make(FakeRestic("b"), copy_of=FakeRestic("a", there=False), must_exist=True)

    assert opened.repository_id == "id of b"


@pytest.mark.parametrize(
    ("first", "copy", "opened", "code"),
    [
        (FakeRestic("a", refuses=WrongPasswordError("no")), FakeRestic("b"), [], "wrong_password"),
        (FakeRestic("a"), FakeRestic("b", refuses=WrongPasswordError("no")), [Which.REPOSITORY], "wrong_password"),
        (
            FakeRestic("a", there=False, refuses_to_be_made=RepositoryRefusedError("no")),
            None,
            [],
            "repository_refused",
        ),
    ],
    ids=["first", "copy", "making"],
)
def test_a_refusal_ends_a_rehearsal_and_says_what_was_opened_before(first, copy, opened, code):
    done = rehearse(first, copy, BOTH)

    assert (list(done.opened), done.error.code) == (opened, code)
    assert done.as_dict()["copy"] is None


def test_what_is_given_is_read_as_the_role_would_write_it(tmp_path, monkeypatch):
    secrets = {
        "password": "correct horse",
        "environment": "# of the store\nAWS_SECRET_ACCESS_KEY=k=e y\n",
        "ssh_private_key": "a key\n",
        "copy_password": "another horse",
        "copy_environment": "",
    }
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    given = parse_given(json.dumps({"config": CONFIG, "secrets": secrets}))

    assert list(tmp_path.iterdir()) == [], "a killed process leaves no file"
    assert given.config.repository == CONFIG["repository"]
    assert given.secrets.password_file.read_text() == "correct horse"
    assert given.copy_secrets.password_file.read_text() == "another horse"
    # An empty file would be a store without credentials; none is the first one's.
    assert given.copy_secrets.environment == given.secrets.environment == {"AWS_SECRET_ACCESS_KEY": "k=e y"}
    assert given.secrets.ssh_key is not None
    assert given.secrets.authority is None
    assert "k=e y" not in repr(given)


@pytest.mark.parametrize(
    "text",
    [
        "correct horse",
        "[]",
        '{"config": {}}',
        '{"config": {}, "secrets": "correct horse"}',
        '{"config": {}, "secrets": {"../correct horse": "x"}}',
        '{"config": {}, "secrets": {"password": ["correct horse"]}}',
        '{"config": {}, "secrets": {"password": "correct horse"}}',
        '{"config": {"host": "web1"}, "secrets": {}}',
        '{"config": {}, "secrets": {"password": "correct horse \\ud800"}}',
        "[" * 100_000,
    ],
)
def test_what_cannot_be_rehearsed_is_refused_without_a_secret(text):
    with pytest.raises(ConfigurationError) as refused:
        parse_given(text)

    assert "correct horse" not in refused.value.message

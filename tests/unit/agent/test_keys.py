"""The passwords that open a repository: added once, removed only when nobody can need them, each step taken again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from scalr_backup.actions.repository.keys import ESCROW_USER, HOST_USER, MOST_KEYS, Keys, possible_users
from scalr_backup.core.errors import (
    ConfigurationError,
    KeyInUseError,
    ResticError,
    TooManyKeysError,
    UnknownKeyError,
    WrongPasswordError,
)
from scalr_backup.core.model import Key, Snapshot
from scalr_backup.core.secrets import parse_password

OLD, NEW = "old password", "new password"


class FakeRepository:
    """A repository: its keys by id, with their passwords and labels, and the hosts that have snapshots in it."""

    def __init__(self, *hosts):
        self.passwords = {"aaaa1111": OLD}
        self.labels = {"aaaa1111": ("root", "web1")}
        # A list of keys says when each was made; here, they are listed in that order.
        self.made = ["aaaa1111"]
        self.hosts = hosts
        self.interfere = lambda: None
        self.locks = 0


class FakeRestic:
    """restic, opened with one password."""

    repository = "s3:there"

    def __init__(self, fake, password):
        self._fake, self._password = fake, password

    def repository_id(self):
        self.list_keys()
        return "id-of-it"

    def list_keys(self):
        mine = next((key for key, password in self._fake.passwords.items() if password == self._password), None)
        if mine is None:
            raise WrongPasswordError("The password does not open it.")
        return [Key(key, *self._fake.labels[key], self._made(key), key == mine) for key in self._fake.passwords]

    def _made(self, key):
        self._fake.made += [one for one in self._fake.passwords if one not in self._fake.made]
        return f"2026-11-22 03:00:{self._fake.made.index(key):02}"

    def add_key(self, password, user, host):
        self.list_keys()
        assert not self._fake.locks, "it would wait for whoever was killed"
        key = f"bbbb{len(self._fake.made):04}"
        self._fake.passwords[key], self._fake.labels[key] = password, (user, host)

    def remove_key(self, key):
        assert self._fake.passwords.get(key) != self._password, "restic refuses the key that it is called with"
        assert not self._fake.locks, "it would wait for whoever was killed"
        self._fake.interfere()
        if key not in self._fake.passwords:
            raise ResticError("no matching ID found")
        del self._fake.passwords[key]

    def unlock(self):
        self._fake.locks, removed = 0, self._fake.locks
        return removed

    @contextmanager
    def with_password(self, password):
        yield FakeRestic(self._fake, password)

    def snapshots(self, host):
        assert host is None, "everybody's"
        now = datetime.now(UTC)
        return [Snapshot("1", now, one, "/a/b.dump", (), 1) for one in ("web1", *self._fake.hosts)]


def keys_of(fake, password=OLD):
    return Keys(FakeRestic(fake, password), "web1", lambda _event: None)


def test_a_change_of_password_step_by_step():
    fake = FakeRepository()
    added = keys_of(fake).add(NEW, HOST_USER, "web1")
    assert added.added
    assert fake.labels[added.key] == (HOST_USER, "web1")
    assert keys_of(fake, NEW).retire(OLD) == ["aaaa1111"]
    assert list(fake.passwords.values()) == [NEW]


def test_each_step_can_be_taken_again():
    fake = FakeRepository()
    first, second = keys_of(fake).add(NEW, HOST_USER, "web1"), keys_of(fake).add(NEW, HOST_USER, "web1")
    assert (first.key, second.added) == (second.key, False)
    keys_of(fake, NEW).retire(OLD)
    with pytest.raises(UnknownKeyError, match="nothing was removed"):
        keys_of(fake, NEW).retire(OLD)


def test_a_new_password_that_opens_already_needs_no_old_one():
    """The host's key was removed after its new one had been added, and before it used it."""
    fake = FakeRepository()
    fake.passwords["aaaa1111"] = NEW
    assert not keys_of(fake).add(NEW, HOST_USER, "web1").added


def test_a_wrong_old_password_is_said():
    with pytest.raises(WrongPasswordError):
        keys_of(FakeRepository(), "neither").add(NEW, HOST_USER, "web1")


def test_every_key_of_a_retired_password_goes():
    """Two hosts may have added the same password at the same moment."""
    fake = FakeRepository()
    fake.passwords |= {"cccc2222": OLD, "dddd3333": NEW}
    fake.labels |= {"cccc2222": (HOST_USER, "web1"), "dddd3333": (HOST_USER, "web1")}
    assert sorted(keys_of(fake, NEW).retire(OLD)) == ["aaaa1111", "cccc2222"]
    assert fake.passwords == {"dddd3333": NEW}


def test_a_key_that_somebody_else_removes_at_the_same_moment_is_gone_too():
    fake = FakeRepository()
    keys_of(fake).add(NEW, HOST_USER, "web1")
    fake.interfere = lambda: fake.passwords.pop("aaaa1111", None)
    assert keys_of(fake, NEW).retire(OLD) == ["aaaa1111"]


def test_the_lock_of_a_call_that_was_killed_is_in_nobodys_way():
    fake = FakeRepository()
    told = []
    fake.locks = 1
    Keys(FakeRestic(fake, OLD), "web1", told.append).add(NEW, HOST_USER, "web1")
    fake.locks = 1
    keys_of(fake, NEW).retire(OLD)
    assert told[0]["message"] == "A stale lock on the repository was removed."


def test_a_key_that_cannot_be_removed_is_an_error(monkeypatch):
    def refuse(_self, _key):
        raise ResticError("read-only store")

    fake = FakeRepository()
    keys_of(fake).add(NEW, HOST_USER, "web1")
    monkeypatch.setattr(FakeRestic, "remove_key", refuse)
    with pytest.raises(ResticError, match="read-only"):
        keys_of(fake, NEW).retire(OLD)


def test_the_password_in_use_is_not_retired():
    fake = FakeRepository()
    with pytest.raises(KeyInUseError, match="web1 itself"):
        keys_of(fake).retire(OLD)
    assert keys_of(fake).retire(OLD, dry_run=True) == ["aaaa1111"], "but it may be asked whether it could be"
    assert fake.passwords


def test_a_key_that_another_host_may_use_stays():
    fake = FakeRepository("web2", "web3")
    keys_of(fake).add(NEW, HOST_USER, "web1")
    for dry_run in (True, False):
        with pytest.raises(KeyInUseError, match="may be in use by web2, web3, which have snapshots"):
            keys_of(fake, NEW).retire(OLD, dry_run=dry_run)
    with pytest.raises(KeyInUseError, match="by web3, which has"):
        keys_of(fake, NEW).retire(OLD, ["web2"])
    assert OLD in fake.passwords.values()
    assert keys_of(fake, NEW).retire(OLD, ["web2", "web3"]) == ["aaaa1111"]


def test_a_host_that_made_its_own_key_does_not_need_the_old_one():
    fake = FakeRepository("web2")
    keys_of(fake).add("another", HOST_USER, "web2")
    keys_of(fake).add(NEW, HOST_USER, "web1")
    assert keys_of(fake, NEW).retire(OLD) == ["aaaa1111"]


@pytest.mark.parametrize(
    ("label", "users"),
    [
        ((HOST_USER, "web2"), []),
        # Whoever ran the first deployment is no owner: init labels its key with what it finds in the container.
        (("root", "web2"), ["web2"]),
        ((ESCROW_USER, "web2"), ["web2"]),
        ((HOST_USER, "web3"), ["web2"]),
    ],
)
def test_who_may_be_using_a_key(label, users):
    old, new = Key("a", "root", "web1", "2026-11-21", True), Key("b", *label, "2026-11-22", False)
    assert possible_users([old, new], old, {"web2"}) == users


def test_a_key_labelled_with_a_host_is_its_only_one():
    one = Key("a", HOST_USER, "web2", "2026-11-22", False)
    assert possible_users([one], one, {"web2"}) == ["web2"]


@pytest.mark.parametrize(
    ("made", "users"), [("2026-11-23", []), ("2026-11-22", ["web2"]), ("2026-11-21", ["web2"]), ("", ["web2"])]
)
def test_a_host_may_have_been_given_a_password_that_is_newer_than_its_own_key(made, users):
    key, own = Key("a", HOST_USER, "web1", "2026-11-22", True), Key("b", HOST_USER, "web2", made, False)
    assert possible_users([key, own], key, {"web2"}) == users
    unknown = replace(key, created="")
    assert possible_users([unknown, own], unknown, {"web2"}) == ["web2"]


def test_a_key_that_two_hosts_share_stays_although_the_other_one_kept_an_older_key_of_its_own():
    """Where a host kept its old password's key, and both were given one password later, whose key one of them has made."""
    fake = FakeRepository("web2")
    keys_of(fake).add("of web2", HOST_USER, "web2")
    keys_of(fake).add("shared", HOST_USER, "web1")
    assert keys_of(fake, "shared").listing().shared_with == ("web2",)
    keys_of(fake, "shared").add(NEW, HOST_USER, "web1")
    with pytest.raises(KeyInUseError, match="by web2, which has snapshots there but no newer key of its own"):
        keys_of(fake, NEW).retire("shared")
    assert keys_of(fake, NEW).retire("shared", ["web2"])


def test_a_key_is_removed_by_the_beginning_of_its_id():
    fake = FakeRepository()
    escrow = keys_of(fake).add("paper", ESCROW_USER, "kit-1").key
    assert keys_of(fake).remove(escrow[:6], dry_run=True) == [escrow]
    assert keys_of(fake).remove(escrow[:6]) == [escrow]
    for unknown in (escrow[:6], "abc", ""):
        with pytest.raises(UnknownKeyError, match=f"begins with '{unknown}'; nothing was removed. Its keys: "):
            keys_of(fake).remove(unknown)


def test_a_key_for_a_safe_stays_where_a_host_that_was_rebuilt_with_it_may_use_it():
    fake = FakeRepository("web2")
    escrow = keys_of(fake).add("paper", ESCROW_USER, "kit-1").key
    with pytest.raises(KeyInUseError, match="may be in use by web2"):
        keys_of(fake).remove(escrow)
    assert keys_of(fake).remove(escrow, ["web2"], dry_run=True) == [escrow]
    keys_of(fake).add("of web2", HOST_USER, "web2")
    assert keys_of(fake).remove(escrow) == [escrow]


def test_a_removal_by_id_keeps_what_is_needed():
    fake = FakeRepository("web2")
    other = keys_of(fake).add("of web2", HOST_USER, "web2").key
    with pytest.raises(KeyInUseError, match="web1 itself"):
        keys_of(fake).remove("aaaa")
    with pytest.raises(KeyInUseError, match="by web2"):
        keys_of(fake).remove(other)
    keys_of(fake).add("another of web2", HOST_USER, "web2")
    with pytest.raises(ConfigurationError, match="2 keys have ids that begin with bbbb"):
        keys_of(fake).remove("bbbb")


def test_more_keys_than_restic_tries_are_refused():
    fake = FakeRepository()
    for number in range(MOST_KEYS - 1):
        keys_of(fake).add(f"password {number}", HOST_USER, f"web{number}")
    with pytest.raises(TooManyKeysError, match="has 20 keys already"):
        keys_of(fake).add(NEW, HOST_USER, "web1")
    assert len(fake.passwords) == MOST_KEYS


def test_a_dry_run_adds_nothing():
    fake = FakeRepository()
    assert keys_of(fake).add(NEW, HOST_USER, "web1", dry_run=True).added
    assert list(fake.passwords.values()) == [OLD]


def test_a_password_that_does_not_open_after_all_is_an_error(monkeypatch):
    monkeypatch.setattr(FakeRestic, "add_key", lambda *_arguments: None)
    with pytest.raises(ResticError, match="does not open it"):
        keys_of(FakeRepository()).add(NEW, HOST_USER, "web1")


@pytest.mark.parametrize("password", ["", " horse", "horse ", "horse\nb", "horse\x85b", "\thorse"])
def test_a_password_that_restic_would_not_read_back_is_refused_and_not_repeated(password):
    with pytest.raises(ConfigurationError) as refused:
        keys_of(FakeRepository()).add(password, HOST_USER, "web1")
    assert "new password" in refused.value.message
    assert "horse" not in refused.value.message


@pytest.mark.parametrize("password", ["", " ", "\r\n"])
def test_a_blank_password_is_none(password):
    """What restic says of it is advice to use none at all."""
    with pytest.raises(ConfigurationError, match="The new password is empty"):
        keys_of(FakeRepository()).add(password, HOST_USER, "web1")
    with pytest.raises(ConfigurationError, match="The password is empty"):
        keys_of(FakeRepository()).retire(password)


def test_the_listing():
    fake = FakeRepository("web2")
    keys_of(fake).add("paper", ESCROW_USER, "kit-1")
    shown = keys_of(fake).listing().as_dict()
    assert (shown["repository"], shown["repository_id"], shown["current"]) == ("s3:there", "id-of-it", "aaaa1111")
    assert [(one["id"], one["user"]) for one in shown["keys"]] == [("aaaa1111", "root"), ("bbbb0001", ESCROW_USER)]
    assert shown["shared_with"] == ["web2"]


def test_a_password_is_read_as_json():
    assert parse_password('{"password": " p"}') == " p"


@pytest.mark.parametrize(
    "text", ["", "horse", '"horse"', '["horse"]', '{"password": 7, "x": "horse"}', "{}", "[" * 100_000]
)
def test_what_is_no_password_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigurationError, match="must be given") as refused:
        parse_password(text)
    assert "horse" not in refused.value.message

# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restore.yml decides and says: the host, the other repository, the plan, the question, and what became of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._restore_choice import restore_answer, restore_choice
from ansible_collections.scalr.backup.plugins.plugin_utils._restore_source import restore_secrets, restore_source
from ansible_collections.scalr.backup.plugins.plugin_utils._restore_words import (
    restore_confirmation,
    restore_objection,
    restore_outcome,
    restore_plan,
)

SKIPPED = {"skipped": True, "changed": False}
UNREACHABLE = {"unreachable": True, "msg": "no route to host"}


def wish(**changes: object) -> dict[str, Any]:
    """What was asked for."""
    asked = {"db": "scalr-foo-db", "undo": "", "target": "", "source": "", "strategy": "beside"}
    return {**asked, "keep_old": False, "safety_snapshot": True, **changes}


@pytest.mark.parametrize(
    ("asked", "password", "repository", "sentence"),
    [
        (wish(), "", "", ""),
        (wish(db="", undo="r"), "", "", ""),
        (wish(strategy="replace"), "sesame", "s3:https://store/web9", ""),
        (
            wish(db=""),
            "",
            "",
            "Set the container to restore, for example -e db=scalr-foo-db.",
        ),
        (wish(strategy="bravely"), "", "", "restore_strategy is bravely, but must be beside or replace."),
        (
            wish(),
            "sesame",
            "",
            "from_password is the password of another repository: set from_repository to its address.",
        ),
    ],
)
def test_an_objection_before_any_host_is_asked(asked, password, repository, sentence):
    assert restore_objection(asked, password, repository) == sentence


def discovered(*names: str) -> dict[str, Any]:
    """The result of the question for the containers of a host."""
    return {"containers": [{"name": name} for name in names], "changed": False}


class TestAnswer:
    def test_of_a_host_that_has_it(self):
        assert restore_answer(discovered("scalr-foo-db", "scalr-bar-db"), SKIPPED, "scalr-foo-db") == {
            "can": 2,
            "names": ["scalr-foo-db", "scalr-bar-db"],
            "silence": "",
            "reason": "",
        }

    @pytest.mark.parametrize("db", ["scalr-foo-db", "scalr-*-db", ""])
    def test_of_a_host_that_does_not_have_it_and_no_glob_is_one(self, db):
        answer = restore_answer(discovered("scalr-bar-db"), SKIPPED, db)

        assert (answer["can"], answer["silence"]) == (0, "")

    def test_of_a_host_whose_containers_have_names_that_are_none(self):
        answers = [{"host": "web1", "answer": restore_answer({"containers": [{"name": 7}]}, SKIPPED, "scalr-foo-db")}]

        assert restore_choice(answers, "scalr-foo-db")["refusal"].endswith("scalr-foo-db: web1 has 7.")

    def test_of_a_host_without_containers(self):
        assert restore_answer(discovered(), SKIPPED, "scalr-foo-db")["names"] == []

    def test_of_a_host_that_can_restore_into_another_one_or_undo(self):
        answer = restore_answer(SKIPPED, {"plan": {"container": "scalr-new-db"}}, "scalr-foo-db")

        assert (answer["can"], answer["silence"], answer["reason"]) == (2, "", "")

    @pytest.mark.parametrize(
        ("code", "can"), [("unknown_database", 0), ("unknown_run", 0), ("unknown_snapshot", 1), ("usage", 1)]
    )
    def test_of_a_host_that_refuses(self, code, can):
        answer = restore_answer(SKIPPED, {"code": code, "msg": "web1 knows no host web9."}, "scalr-foo-db")

        assert (answer["can"], answer["silence"], answer["reason"]) == (can, "", "web1 knows no host web9.")

    @pytest.mark.parametrize(
        ("told", "silence"),
        [
            (UNREACHABLE, "was not reached"),
            ({"msg": "This host has no container."}, "gave no answer (This host has no container.)"),
            ({"failed": True}, "gave no answer (no reason given)"),
            ({"msg": "It died.", "code": None}, "gave no answer (It died.)"),
        ],
    )
    def test_of_a_silent_host(self, told, silence):
        asked, tried = restore_answer(told, SKIPPED, "scalr-foo-db"), restore_answer(SKIPPED, told, "scalr-foo-db")

        assert asked["silence"] == tried["silence"] == silence
        assert asked["can"] == tried["can"] == 0


def host(name: str, can: int = 0, *names: str, silence: str = "", reason: str = "") -> dict[str, Any]:
    """A host, and what it has answered."""
    return {"host": name, "answer": {"can": can, "names": list(names), "silence": silence, "reason": reason}}


class TestChoice:
    def test_of_the_one_host_that_has_it(self):
        hosts = [host("web1", 0, "scalr-bar-db"), host("web2", 2, "scalr-foo-db")]

        assert restore_choice(hosts, "scalr-foo-db") == {"host": "web2", "refusal": "", "warning": ""}

    def test_beside_hosts_that_are_silent(self):
        hosts = [host("aaa", silence="was not reached"), host("bbb", silence="gave no answer (why)")]

        choice = restore_choice([*hosts, host("web2", 2, "scalr-foo-db")], "scalr-foo-db")

        assert choice["host"] == "web2"
        assert choice["warning"] == (
            "WARNING: aaa was not reached; bbb gave no answer (why). If a container scalr-foo-db is there too, it is left unchanged."
        )

    def test_beside_hosts_of_which_no_answer_was_noted(self):
        choice = restore_choice([{"host": "aaa"}, host("web2", 2, "scalr-foo-db")], "scalr-foo-db")

        assert choice["host"] == "web2"
        assert choice["warning"].startswith("WARNING: aaa gave no answer (its error is above). ")

    def test_warns_of_the_container_that_is_restored_into(self):
        hosts = [host("aaa", silence="was not reached"), host("web2", 2)]

        warning = restore_choice(hosts, "scalr-foo-db", target="scalr-new-db")["warning"]

        assert "If a container scalr-new-db is there too" in warning

    def test_where_no_host_has_it(self):
        hosts = [
            host("web1", 0, "scalr-foo-db", "scalr-bar-db"),
            host("web2"),
            host("web3", silence="was not reached"),
            host("web4", silence="gave no answer (Run site.yml.)"),
        ]

        assert restore_choice(hosts, "scalr-nope-db") == {
            "host": "",
            "refusal": (
                "No host has a database container scalr-nope-db: web1 has scalr-foo-db, scalr-bar-db; web2 has none; "
                "web3 was not reached; web4 gave no answer (Run site.yml.)."
            ),
            "warning": "",
        }

    def test_where_there_is_no_host(self):
        assert restore_choice([], "scalr-foo-db")["refusal"].startswith("No host has a database container scalr-foo-db")

    def test_where_several_hosts_have_it(self):
        hosts = [host("web1", 2, "scalr-foo-db", "scalr-bar-db"), host("web2", 2, "scalr-foo-db"), host("web3", 1)]

        choice = restore_choice(hosts, "scalr-foo-db")

        assert choice["host"] == ""
        assert choice["refusal"] == (
            "2 hosts have a database container scalr-foo-db; choose one with --limit: "
            "web1 has scalr-foo-db, scalr-bar-db; web2 has scalr-foo-db; web3 has none."
        )

    def test_where_several_hosts_can_restore_into_it(self):
        refusal = restore_choice([host("web1", 2), host("web2", 2)], "scalr-foo-db", "scalr-new-db")["refusal"]

        assert refusal == (
            "2 hosts can restore into a container scalr-new-db; choose one with --limit: "
            "web1 has scalr-new-db; web2 has scalr-new-db."
        )

    def test_where_several_hosts_know_the_run(self):
        refusal = restore_choice([host("web1", 2), host("web2", 2)], undo="r")["refusal"]

        assert refusal.startswith("2 hosts know a restore r that can be undone; choose one with --limit: ")

    def test_where_no_host_knows_the_run(self):
        refusal = restore_choice([host("web1", 0, reason="No restore r was kept.")], undo="r")["refusal"]

        assert refusal == "No host knows a restore r that can be undone: web1 says: No restore r was kept."

    def test_where_one_host_refuses_it_is_that_one_which_says_so_itself(self):
        hosts = [host("web1", 0, reason="web1 has only scalr-foo-db."), host("web2", 1, reason="There is no room.")]

        assert restore_choice(hosts, "scalr-foo-db", "scalr-new-db")["host"] == "web2"

    def test_where_several_hosts_refuse(self):
        hosts = [host("web1", 1, reason="web1 knows no host web9."), host("web2", 1, reason="web2 knows no host web9.")]

        assert restore_choice(hosts, "scalr-foo-db", "scalr-new-db")["refusal"] == (
            "No host can restore into a container scalr-new-db: web1 says: web1 knows no host web9; "
            "web2 says: web2 knows no host web9."
        )


class Vars(dict[str, Any]):
    """The variables of a host, which notes what is read of them."""

    def __init__(self, **variables: object) -> None:
        super().__init__(variables)
        self.read: list[str] = []

    def __getitem__(self, name: str) -> Any:
        self.read.append(name)
        return super().__getitem__(name)


STORE = "s3:https://store/web9"


def given(**changes: object) -> dict[str, Any]:
    """What is given by hand."""
    nothing = {"host": "", "from_copy": False, "repository": "", "password": "", "environment": {}}
    return {**nothing, **changes}


class TestSource:
    def test_without_another_host(self):
        nothing = {"repository": "", "password_file": ""}

        assert restore_source(given(), {"web1": {"backup_repository": STORE}}, "web1", STORE) == nothing
        assert restore_secrets(given(), {}, "web1", "") == {"password": "", "environment": {}}

    def test_in_the_same_repository_no_secret_is_looked_at(self):
        web9 = Vars(backup_repository=STORE, backup_password="sesame")

        source = restore_source(given(host="web9"), {"web9": web9}, "web1", STORE)
        secrets = restore_secrets(given(host="web9"), {"web9": web9}, "web1", source["repository"])

        assert source == {"repository": "", "password_file": ""}
        assert secrets == {"password": "", "environment": {}}
        assert web9.read == ["backup_repository"]

    def test_in_its_own_repository(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/me")
        web9 = Vars(backup_repository=STORE, backup_environment={"AWS_ACCESS_KEY_ID": "id", "AWS_MAX": 3})

        source = restore_source(given(host="web9"), {"web9": web9}, "web1", "/repository")
        secrets = restore_secrets(given(host="web9"), {"web9": web9}, "web1", STORE, "kept \r\n")

        assert source == {"repository": STORE, "password_file": "/home/me/.config/scalr-backup/web9.password"}
        assert secrets == {"password": "kept", "environment": {"AWS_ACCESS_KEY_ID": "id", "AWS_MAX": "3"}}

    def test_whose_password_the_inventory_knows(self):
        web9 = {"backup_repository": STORE, "backup_password": 1234, "backup_password_directory": "/secret"}

        source = restore_source(given(host="web9"), {"web9": web9}, "web1", "/repository")

        assert source["password_file"] == "/secret/web9.password"
        assert restore_secrets(given(host="web9"), {"web9": web9}, "web1", STORE, "kept")["password"] == "1234"

    def test_that_is_the_second_one(self):
        web9 = {
            "backup_repository": "/repository",
            "backup_password": "first",
            "backup_environment": {"A": "first"},
            "backup_copy_repository": STORE,
            "backup_copy_environment": {"A": "second"},
        }
        copy = given(host="web9", from_copy=True)

        assert restore_source(copy, {"web9": web9}, "web1", "/repository")["repository"] == STORE
        # Its password is that of the first repository, where it has none of its own.
        assert restore_secrets(copy, {"web9": web9}, "web1", STORE) == {
            "password": "first",
            "environment": {"A": "second"},
        }
        own = {**web9, "backup_copy_password": "second", "backup_copy_environment": {}}
        assert restore_secrets(copy, {"web9": own}, "web1", STORE) == {
            "password": "second",
            "environment": {"A": "first"},
        }

    def test_that_is_given_by_hand(self):
        web9 = Vars(backup_repository="/else", backup_password="wrong", backup_environment={"A": "wrong"})
        by_hand = given(host="web9", repository=STORE, password="sesame", environment={"A": "right"})

        source = restore_source(by_hand, {"web9": web9}, "web1", "/repository")

        assert source == {"repository": STORE, "password_file": ""}
        assert restore_secrets(by_hand, {"web9": web9}, "web1", STORE) == {
            "password": "sesame",
            "environment": {"A": "right"},
        }
        assert web9.read == ["backup_repository"]

    @pytest.mark.parametrize("name", ["gone", "web1"])
    def test_of_a_host_that_the_inventory_does_not_know_or_that_is_this_one(self, name):
        web1 = {"backup_repository": STORE, "backup_password": "its own", "backup_environment": {"A": "its own"}}
        by_hand = given(host=name, repository="/there", password="sesame")

        assert restore_source(by_hand, {"web1": web1}, "web1", STORE) == {"repository": "/there", "password_file": ""}
        assert restore_secrets(by_hand, {"web1": web1}, "web1", "/there") == {"password": "sesame", "environment": {}}
        without = given(host=name, repository="/there")
        assert restore_secrets(without, {"web1": web1}, "web1", "/there", "kept")["password"] == ""


def plan(*databases: dict[str, Any], **changes: object) -> dict[str, Any]:
    """The plan of a restore."""
    found = {"container": "scalr-foo-db", "confirm": "scalr-foo-db", "strategy": "beside", "roles": [], "warnings": []}
    return {**found, "databases": list(databases) or [database()], **changes}


def database(**changes: object) -> dict[str, Any]:
    """A database that would be replaced by a snapshot."""
    snapshot = {"short_id": "5f0c8e1b", "time": "2026-11-22T03:00:11.5+00:00", "age_seconds": 11549, "dump_bytes": 2048}
    found = {"database": "foo", "source_database": "foo", "exists": True, "size_bytes": 4096, "sessions": 3}
    return {**found, "snapshot": snapshot, "connected": [], "old_database": None, **changes}


class TestPlan:
    def test_of_a_restore(self):
        shown = restore_plan(plan(), "web1", wish())

        assert shown == {
            "title": "Restore of scalr-foo-db on web1",
            "lines": [
                "Restore of scalr-foo-db on web1. These databases will be replaced:",
                "",
                "DATABASE  SIZE NOW  CONNECTED  SNAPSHOT  MADE                         AGE     DUMP",
                "--------  --------  ---------  --------  --------------------  ----------  -------",
                "foo        4.0 KiB          3  5f0c8e1b  2026-11-22T03:00:11Z  3 h 12 min  2.0 KiB",
                "",
                "The current databases are backed up first.",
                "The replaced databases are dropped once their successors are in place.",
            ],
            "question": "Type the container's name, scalr-foo-db, to replace these databases on web1; anything else aborts",
        }

    def test_of_another_hosts_snapshots_into_another_container_with_what_is_new_there(self):
        new = database(database="new", exists=False, size_bytes=None, sessions=None)
        kept = database(snapshot=None)

        shown = restore_plan(plan(new, kept), "web1", wish(source="web9", target="scalr-new-db"))

        assert shown["title"] == "Restore of scalr-foo-db of web9 into scalr-new-db on web1"
        assert shown["lines"][4].split()[:5] == ["new", "(from", "foo)", "absent", "-"]
        # What has no snapshot stays as it is.
        assert shown["lines"][5] == ""

    def test_says_when_databases_are_only_made(self):
        shown = restore_plan(plan(database(exists=False)), "web1", wish(target="scalr-foo-db"))

        assert shown["lines"][0] == "Restore of scalr-foo-db on web1. These databases will be created:"

    def test_names_who_is_connected(self):
        connected = [
            {"user": "app", "application": "web", "address": "172.17.0.5", "sessions": 3},
            {"user": "me", "application": "", "address": None, "sessions": 1},
        ]

        lines = restore_plan(plan(database(connected=connected)), "web1", wish())["lines"]

        assert lines[6:8] == ["Connected to foo: app with web from 172.17.0.5, 3 sessions", "Connected to foo: me"]

    def test_says_what_happens_beside(self):
        found = plan(roles=["reader", "writer"], warnings=["The volume is nearly full.", "Another."])

        lines = restore_plan(found, "web1", wish(safety_snapshot=False, keep_old=True))["lines"]

        assert lines[6:] == [
            "These roles are missing and will be created: reader, writer.",
            "The current databases are NOT backed up first.",
            "The replaced databases are kept under another name.",
            "WARNING: The volume is nearly full.",
            "WARNING: Another.",
        ]

    def test_that_drops_first(self):
        shown = restore_plan(plan(strategy="replace", confirm="replace scalr-foo-db"), "web1", wish())

        assert shown["lines"][-1] == "The live databases are DROPPED FIRST: if the restore fails, there are none."
        assert shown["question"] == (
            "Type replace scalr-foo-db to drop and restore these databases on web1; anything else aborts"
        )

    def test_of_an_undo(self):
        found = plan(database(snapshot=None, old_database="foo_before_restore_r"))

        shown = restore_plan(found, "web2", wish(db="", undo="r"))

        assert shown["lines"] == [
            "Undo of the restore r in scalr-foo-db on web2. These databases will be replaced:",
            "",
            "DATABASE  SIZE NOW  CONNECTED  PUT BACK",
            "--------  --------  ---------  --------------------",
            "foo        4.0 KiB          3  foo_before_restore_r",
            "",
            "The current databases are kept under another name.",
        ]


@pytest.mark.parametrize(
    ("confirm", "answer", "sentence"),
    [
        ("scalr-foo-db", "", ""),
        (None, " scalr-foo-db\n", ""),
        ("shop", "", "Nothing was restored: confirm is shop, but must be scalr-foo-db."),
        ("", "scalr-foo-db", "Nothing was restored: confirm is empty, but must be scalr-foo-db."),
        (5, "", "Nothing was restored: confirm is 5, but must be scalr-foo-db."),
        (None, "shop", "Nothing was restored: the answer was shop, but must be scalr-foo-db."),
        (
            None,
            "",
            "Nothing was restored: there was no answer. Type scalr-foo-db, or pass "
            "-e confirm=scalr-foo-db where there is no terminal.",
        ),
    ],
)
def test_a_confirmation(confirm, answer, sentence):
    assert restore_confirmation("scalr-foo-db", confirm, answer) == sentence


def test_a_confirmation_of_two_words_is_given_so_that_a_shell_and_ansible_leave_it_whole():
    sentence = restore_confirmation("replace scalr-foo-db")

    assert """Type replace scalr-foo-db, or pass -e '{"confirm": "replace scalr-foo-db"}' where""" in sentence


def restored(**changes: object) -> dict[str, Any]:
    """What became of one database."""
    done = {"database": "foo", "ok": True, "error": None, "snapshot_id": "5f0c8e1b4c7d", "duration_seconds": 8.9}
    done |= {"safety_snapshot_id": "0d2f6a9be411", "old_database": None, "verified": {"tables": 7, "rows": 1234}}
    return {**done, **changes}


class TestOutcome:
    def test_of_a_restore(self):
        assert restore_outcome({"databases": [restored()], "run": "r"}, "Restore of scalr-foo-db on web1") == [
            "Restore of scalr-foo-db on web1:",
            "",
            "DATABASE  RESULT    FROM      BEFORE    OLD ONE  TABLES  ROWS   TIME",
            "--------  --------  --------  --------  -------  ------  ----  -----",
            "foo       restored  5f0c8e1b  0d2f6a9b  -             7  1234  8.9 s",
        ]

    def test_of_one_that_failed(self):
        error = {"code": "verification_failed", "message": "foo has 3 rows too few."}
        failed = restored(ok=False, error=error, safety_snapshot_id=None, verified=None, kept_database="foo_new")

        lines = restore_outcome({"databases": [failed], "run": "r"}, "t")

        assert "foo has 3 rows too few." in lines[4]
        assert lines[5:] == ["", "The restored copy of foo is kept as foo_new for inspection."]

    def test_of_one_that_can_be_swapped_back(self):
        result = {"databases": [restored(old_database="foo_old")], "run": "r", "roles_created": ["reader", "writer"]}

        assert restore_outcome(result, "t")[5:] == [
            "",
            "Roles created: reader, writer.",
            "To swap back the replaced databases: ansible-playbook scalr.backup.restore -e undo=r",
        ]

    def test_of_an_undo(self):
        lines = restore_outcome({"databases": [restored(snapshot_id=None)], "run": "r"}, "t", "r")

        assert "put back" in lines[4]

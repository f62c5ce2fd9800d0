# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass records of itself when it cannot even begin."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup.dump import Dumped, Dumper
from scalr_backup.actions.backup.producer import Report
from scalr_backup.actions.backup.repository_side import (
    RepositoryAtStart,
    RepositorySide,
    current,
    require_no_other_agent,
)
from scalr_backup.actions.backup.result import PassRequest, PassResult
from scalr_backup.actions.backup.run import Pass
from scalr_backup.actions.backup.saved_roles import SavedRoles, read_roles
from scalr_backup.actions.backup.server_facts import ServerFacts, server_facts
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.errors import (
    ContainerGoneError,
    InterruptedRunError,
    PostgresError,
    RepositoryUnreachableError,
    TwoHostsError,
    UnknownDatabaseError,
    WrongPasswordError,
)
from scalr_backup.core.model import (
    Cluster,
    Container,
    Credentials,
    Database,
    DatabaseBackup,
    Failure,
    RepositorySize,
    Saved,
    Snapshot,
    Volume,
)
from scalr_backup.core.progress import nobody
from scalr_backup.core.row_order import OrderPlan
from scalr_backup.tools.docker.exec_stream import ExecResult
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.restic.repository import RetentionGroup
from scalr_backup.tools.state import State


def ago(**duration):
    return (datetime.now(UTC) - timedelta(**duration)).isoformat()


YESTERDAY = ago(hours=25)


def a_pass_that_meets(error, state):
    def fail():
        raise error

    restic = SimpleNamespace(require_version=fail, repository="/repository")
    return Pass(
        Tools(
            SimpleNamespace(host="h", repository="/repository", timezone="UTC"),
            None,
            restic,
            state,
            nobody,
            threading.Event(),
        )
    )


@pytest.mark.parametrize(
    ("error", "code"), [(WrongPasswordError("no key"), "wrong_password"), (ValueError("nobody foresaw"), "internal")]
)
def test_a_pass_that_fails_as_a_whole_is_recorded(tmp_path, error, code):
    state = State(tmp_path)
    with pytest.raises(type(error)):
        a_pass_that_meets(error, state).run(PassRequest())
    assert state.read()["last_pass"]["error"]["code"] == code
    assert state.owes_prune("prune", "/repository"), "it may have saved what no snapshot needs"


def test_a_question_about_an_unknown_database_is_not(tmp_path):
    state = State(tmp_path)
    with pytest.raises(UnknownDatabaseError):
        a_pass_that_meets(UnknownDatabaseError("not here"), state).run(PassRequest())
    assert "last_pass" not in state.read()


class Door(Postgres):
    """A server that lets nobody in, or only into some of its databases."""

    def __init__(self, answers, home=None):
        super().__init__(None, "scalr-roles-db", Credentials("app", None, home=home), "look")
        self._answers = answers

    def query(self, database, sql):
        if isinstance(self._answers.get(database), list):
            return self._answers[database]
        raise PostgresError(f"scalr-roles-db/{database}: {self._answers[database]}")


@pytest.mark.parametrize("rows", [[], [False]])
def test_where_there_is_no_database_postgres_template1_is_stood_in_whatever_the_words(rows):
    assert Door({"postgres": "FATAL: Datenbank gibt es nicht", "template1": rows})._home == "template1"


@pytest.mark.parametrize("template1", [[True], 'FATAL: role "app" does not exist'])
def test_whoever_is_not_let_in_for_another_reason_is_told_that_reason(template1):
    with pytest.raises(PostgresError, match='postgres: FATAL: role "app" does not exist'):
        Door({"postgres": 'FATAL: role "app" does not exist', "template1": template1})._home  # noqa: B018


@pytest.mark.parametrize(
    ("answers", "home"),
    [
        ({"app": [True]}, "app"),
        ({"app": "FATAL: gone", "postgres": []}, "postgres"),
        ({"app": "FATAL: half dropped", "postgres": "FATAL: gone", "template1": [False]}, "template1"),
    ],
)
def test_where_the_database_that_is_told_is_gone_another_one_is_stood_in(answers, home):
    assert Door(answers, "app")._home == home


def test_a_database_that_is_told_and_there_is_the_only_one_that_is_stood_in():
    with pytest.raises(PostgresError, match="app: FATAL: not you"):
        Door({"app": "FATAL: not you", "postgres": [True], "template1": [True]}, "app")._home  # noqa: B018


class Asked(Dumper):
    """A dump that fails with a code where names are to be converted."""

    def __init__(self, sqlstate):
        super().__init__(COUNTING, None, None, nobody, "r", None)
        self.sqlstate, self.asked = sqlstate, []

    def _dump(self, _cluster, _database, _tags, *, sparing, raw, wish=None):
        self.asked.append((sparing, raw))
        if not raw:
            raise PostgresError("no", self.sqlstate)
        return "dumped"


COUNTING = SimpleNamespace(row_counts=True, lock_wait_seconds=60, row_order="off")
PLAIN = Report(bytes=10, head_bytes=3)
DESCRIPTION = {
    "database": "shop", "oid": 16384, "owner": "app", "encoding": "UTF8", "collate": "C", "ctype": "C", "size_bytes": 8_000_000,
    "largest_indexes": [], "server_version": "17.6", "server_version_num": 170006, "extensions": [], "public_schema": True,
    "settings": [],
}  # fmt: skip


@pytest.mark.parametrize("sparing", [False, True])
def test_names_are_taken_as_they_are_only_where_they_have_no_place_in_utf8(sparing):
    """A restore compares them with names that it has asked for in the same way."""
    odd, few = Asked("22P05"), Asked("53300")
    assert odd.dump(None, "shop", (), sparing=sparing) == "dumped"
    assert odd.asked == [(sparing, False), (sparing, True)]
    with pytest.raises(PostgresError):
        few.dump(None, "shop", (), sparing=sparing)
    assert few.asked == [(sparing, False)]
    with pytest.raises(PostgresError):
        few.dump_by_itself(None, "shop", ())
    assert few.asked[1:] == [(False, False), (True, False)]


class TestCounts:
    """A dump is whole whether its rows could be counted or not; that they could not is said wherever it matters."""

    def test_that_fail_are_told_and_cost_no_dump(self):
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        failed, counted = Future(), Future()
        failed.set_exception(PostgresError("could not read block 7", "XX002"))
        counted.set_result({"t": 3})
        assert dumper._counts(failed, None, OrderPlan(), PLAIN) == (None, "could not read block 7")
        assert dumper._counts(counted, None, OrderPlan(), PLAIN) == ({"t": 3}, None)
        off = Dumper(SimpleNamespace(row_counts=False), None, None, nobody, "r", None)
        assert off._counts(None, None, OrderPlan(), PLAIN) == (None, None)

    def test_of_a_sparing_dump_are_made_when_it_is_saved(self):
        exporting = SimpleNamespace(query=lambda *_sql: [["public", "t", 3]])
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(None, exporting, OrderPlan(), PLAIN) == ({'"public"."t"': 3}, None)

    @pytest.mark.parametrize("sqlstate", [None, "53300", "53200", "55P03", "57P01"])
    def test_that_had_no_connection_or_lock_are_made_in_the_exporting_session(self, sqlstate):
        failed = Future()
        failed.set_exception(PostgresError("zu viele Verbindungen", sqlstate))
        exporting = SimpleNamespace(query=lambda *_sql: [["public", "t", 3]])
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(failed, exporting, OrderPlan(), PLAIN) == ({'"public"."t"': 3}, None)

    def test_that_fail_there_too_are_told(self):
        def query(*_sql):
            raise PostgresError("still none")

        failed = Future()
        failed.set_exception(PostgresError("none", "53200"))
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(failed, SimpleNamespace(query=query), OrderPlan(), PLAIN) == (None, "still none")

    def test_of_a_run_that_is_told_to_stop_end_it(self):
        stopped = Future()
        stopped.set_exception(InterruptedRunError("told to stop"))
        with pytest.raises(InterruptedRunError):
            Dumper(COUNTING, None, None, nobody, "r", None)._counts(stopped, None, OrderPlan(), PLAIN)

    @pytest.mark.parametrize("is_small", [False, True], ids=["large", "small"])
    def test_are_made_in_a_session_that_did_not_export_the_snapshot_or_after_the_dump(self, monkeypatch, is_small):  # noqa: C901
        """What fails in the session that exported it ends the snapshot under pg_dump; once that has ended, it harms nothing."""
        monkeypatch.setattr("scalr_backup.actions.backup.dump.survey", lambda _session: ([], []))
        sessions, happened = [], []

        class Session:
            def __init__(self):
                self.asked = []

            def query(self, sql, *_most):
                self.asked.append(sql)
                if "pg_relation_filenode" in sql:
                    return []
                if "pg_export_snapshot" in sql:
                    return ["00000003-1"]
                if "SET TRANSACTION SNAPSHOT '00000003-1'" in sql or (
                    is_small and "'database'" not in sql and happened
                ):
                    happened.append("counted")
                    raise PostgresError("cannot access temporary or unlogged relations during recovery", "0A000")
                described = {**DESCRIPTION, "size_bytes": 8_000_000 if is_small else 8_000_000_000}
                return [described] if "'database'" in sql else [170000]

        @contextmanager
        def session(*_arguments, **_options):
            sessions.append(Session())
            yield sessions[-1]

        class Found(Dumper):
            def _plan(self, *_arguments):
                return OrderPlan()

            def _job(self, *_arguments):
                return None

            def _survey(self, *_arguments):
                return []

            def _left_out(self, *_arguments):
                return []

            def _save(self, *_arguments):
                happened.append("saved")
                return Saved("aa", 10, 10, 5), Report(10, 3)

        server = SimpleNamespace(session=session, while_waiting=lambda _check: SimpleNamespace(session=session))
        discovery = SimpleNamespace(postgres=lambda *_: server)
        cluster = SimpleNamespace(container=SimpleNamespace(name="c", labels={}), credentials=None)
        dumped = Found(COUNTING, discovery, None, nobody, "r").dump(cluster, "shop", [])
        assert dumped.count_error == "cannot access temporary or unlogged relations during recovery"
        assert len(sessions) == (1 if is_small else 2)
        if is_small:
            assert happened == ["saved", "counted"]
        else:
            assert not any("count(*)" in sql for sql in sessions[0].asked)

    def test_that_failed_are_a_warning_of_the_pass_and_on_record(self, tmp_path, monkeypatch):
        monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", lambda *_: [])
        state = State(tmp_path)
        one = Dumped(Saved("aa", 10, 10, 5), {}, None, 1.0, "could not read block 7")
        cluster = Cluster(
            Container("c" * 64, "scalr-shop-db", "postgres:17", "sha256:aa", "running", "ok"),
            Credentials("app", None), "17.6", (Database("shop", 10, "app", "UTF8"),),
        )  # fmt: skip
        config = SimpleNamespace(host="h", repository="/repository", parallel=1, start_wait_seconds=0, timezone="UTC")
        a_pass = Pass(Tools(config, None, None, state, nobody, threading.Event()))
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        result = PassResult("r", "nightly", "h", now, now)
        a_pass._dump_all(SimpleNamespace(dump=lambda *_, **__: one), PassRequest(), result, [cluster])
        [warning] = result.warnings
        assert warning.startswith("scalr-shop-db/shop is backed up, but its rows could not be counted")
        assert "could not read block 7" in warning
        a_pass._record(result)
        assert state.known_databases()["scalr-shop-db/shop"]["count_error"] == "could not read block 7"


class TestAnErrorThatNobodyForesaw:
    """It is the failure of the database that it happens to: the others are saved, and so is the manifest."""

    def cluster(self, name, *databases):
        return Cluster(
            Container("c" * 64, name, "postgres:17", "sha256:aa", "running", "ok"),
            Credentials("app", None), "17.6", tuple(Database(one, 10, "app", "UTF8") for one in databases),
        )  # fmt: skip

    def the_pass(self, tmp_path, **tools):
        config = SimpleNamespace(
            host="h", repository="/repository", parallel=2, start_wait_seconds=0, lock_wait_seconds=60, timezone="UTC"
        )
        return Pass(
            Tools(config, tools.get("discovery"), tools.get("restic"), State(tmp_path), nobody, threading.Event())
        )

    def result(self):
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        return PassResult("r", "nightly", "h", now, now)

    def test_is_that_databases_failure(self, tmp_path, monkeypatch):
        monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", lambda *_: [])

        def dump(cluster, database, tags, **_options):
            if database == "odd":
                raise OSError(36, "File name too long")
            return Dumped(Saved("aa", 10, 10, 5), {}, {}, 1.0)

        a_pass, result = self.the_pass(tmp_path), self.result()
        dumped = a_pass._dump_all(
            SimpleNamespace(dump=dump), PassRequest(), result, [self.cluster("scalr-shop-db", "odd", "shop")]
        )
        assert set(dumped) == {("scalr-shop-db", "shop")}
        assert [(one.database, one.ok) for one in result.databases] == [("odd", False), ("shop", True)]
        assert result.databases[0].error.code == "internal"
        assert "File name too long" in result.databases[0].error.message
        assert result.exit_code == 3
        a_pass._record(result)
        assert a_pass._state.known_databases()["scalr-shop-db/odd"]["error"]["code"] == "internal"

    def test_a_container_with_the_longest_name_is_dumped(self, tmp_path, monkeypatch):
        monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", lambda *_: [])
        result, name = self.result(), "scalr-" + "x" * 240 + "-db"
        one = Dumped(Saved("aa", 10, 10, 5), {}, {}, 1.0)
        self.the_pass(tmp_path)._dump_all(
            SimpleNamespace(dump=lambda *_, **__: one), PassRequest(), result, [self.cluster(name, "shop")]
        )
        assert [one.ok for one in result.databases] == [True]

    def test_in_the_look_at_one_cluster_costs_the_manifest_nothing_of_the_others(self, tmp_path):
        saved = []

        def backup_file(path, tags, file):
            saved.append(json.loads(Path(file).read_bytes()))
            return Saved("bb", 1, 1, 1)

        def postgres(container, credentials, application, *, seconds):
            def fail(*_, **__):
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

            good = container.name == "scalr-good-db"
            return SimpleNamespace(
                container=container.name, globals_sql=(lambda **_: ROLES) if good else fail,
                readable_settings=(lambda _names: {"data_directory": "/data"}) if good else fail, volume=fail,
                may_read_passwords=lambda: True, kept_open=nullcontext,
            )  # fmt: skip

        a_pass = self.the_pass(
            tmp_path, restic=SimpleNamespace(backup_file=backup_file), discovery=SimpleNamespace(postgres=postgres)
        )
        result, clusters = self.result(), [self.cluster("scalr-odd-db", "a"), self.cluster("scalr-good-db", "b")]
        dumped = {
            (cluster.container.name, cluster.databases[0].name): Dumped(
                Saved("aa", 10, 10, 5), {"database": cluster.databases[0].name}, {}, 1.0
            )
            for cluster in clusters
        }
        a_pass._save_manifest(PassRequest(), result, clusters, dumped)
        assert result.error is None
        assert [cluster["globals"] for cluster in saved[0]["clusters"]] == [None, ROLES]
        assert [cluster["databases"][0]["database"] for cluster in saved[0]["clusters"]] == ["a", "b"]
        assert result.roles["scalr-odd-db"].code == "roles_not_saved"


class TestAnotherAgentOfTheSameName:
    """Two inventories may give two hosts one name; a manifest tells whose it is."""

    NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)

    def refuse(self, tmp_path, manifests, last_pass):
        state = State(tmp_path)
        own = state.agent_id()
        snapshots = [
            Snapshot(
                "aa", self.NOW + timedelta(hours=hours), "h", "/manifest.json",
                tuple(f"agent={own if who == 'own' else who}" for who in [who] if who), 1,
            )
            for who, hours in manifests
        ]  # fmt: skip
        require_no_other_agent("h", "/repository", own, last_pass, snapshots)

    def test_that_has_saved_since_our_last_pass_is_refused(self, tmp_path):
        with pytest.raises(TwoHostsError, match="Another agent backed up under the name h into /repository"):
            self.refuse(tmp_path, [("own", 0), ("stranger", 1)], {"started": self.NOW.isoformat()})

    @pytest.mark.parametrize("manifests", [[("own", 1)], [("stranger", -1)], [(None, 1)], []])
    def test_that_is_ourselves_or_silent_or_of_an_earlier_version_is_nobody(self, tmp_path, manifests):
        self.refuse(tmp_path, manifests, {"started": self.NOW.isoformat()})

    def test_is_taken_over_from_by_a_host_that_was_made_anew(self, tmp_path):
        self.refuse(tmp_path, [("stranger", 1)], None)


ROLES = "CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN PASSWORD 'x';\n"


class TestRoles:
    """A manifest without roles is a failure: a restore into a new container would make them without passwords."""

    FAILURE = Failure("roles_not_saved", "The roles of c were not saved.")

    def read(self, *said, may_read_passwords=True):
        answers, asked = list(said), []

        def globals_sql(*, passwords=True):
            asked.append(passwords)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        postgres = SimpleNamespace(
            container="c", globals_sql=globals_sql, may_read_passwords=lambda: may_read_passwords
        )
        return read_roles(postgres), asked

    def test_are_saved_as_they_are(self):
        assert self.read(ROLES) == (SavedRoles(ROLES), [True])

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ((PostgresError("c: it ended."),), "c: it ended."),
            ((ContainerGoneError("c is gone."),), "c is gone."),
            (("",), "wrote none"),
            (("SET x = 1;",), "wrote none"),
            (("CREATE ROLE 'a",), "cannot be read"),
        ],
    )
    def test_that_cannot_be_had_are_a_failure(self, said, words):
        saved, _asked = self.read(*said)
        assert saved.script is None
        assert saved.failure.code == "roles_not_saved"
        assert saved.failure.message.startswith("The databases of c were saved, but its roles were not: ")
        assert words in saved.failure.message

    def test_whose_passwords_nobody_may_read_are_saved_without_which_is_told(self):
        saved, asked = self.read(PostgresError("permission denied"), ROLES, may_read_passwords=False)
        assert (saved.script, saved.failure, asked) == (ROLES, None, [True, False])
        assert "without their passwords" in saved.warning
        saved, _asked = self.read(PostgresError("no"), PostgresError("not that either"), may_read_passwords=False)
        assert "not that either" in saved.failure.message

    def result(self, **roles):
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        outcomes = [DatabaseBackup(name, "d", ok=name != "broken") for name in ("a", "b", "broken")]
        return PassResult("r", "manual", "h", now, now, databases=outcomes, roles=roles)

    def test_that_were_not_saved_end_the_pass_as_a_database_does(self):
        whole = self.result(a=None, b=None)
        whole.databases.pop()
        assert whole.exit_code == 0
        whole.roles["b"] = self.FAILURE
        assert whole.exit_code == 3
        assert whole.as_dict()["roles"] == {
            "a": None,
            "b": {"code": "roles_not_saved", "message": self.FAILURE.message},
        }
        assert whole.failure == self.FAILURE

    def test_that_were_not_saved_keep_the_dumps_whose_manifest_has_them(self):
        result = self.result(a=None, b=self.FAILURE)
        assert result.paths(good=True) == {"/a/d.dump"}
        assert result.paths(good=False) == {"/b/d.dump", "/broken/d.dump"}

    def test_are_on_record_until_they_are_saved(self, tmp_path):
        state = State(tmp_path)
        seen = []
        for roles in ({"a": None, "b": self.FAILURE}, {"a": None}, {"b": None}):
            state.record_pass(self.result(**roles).as_dict(), [])
            seen.append({name: entry["ok"] for name, entry in state.read().get("roles", {}).items()})
        assert seen == [{"a": True, "b": False}, {"a": True, "b": False}, {"a": True, "b": True}]


class TestMeasuring:
    """What the repository is measured at when the pass has done its work."""

    TAKEN = datetime(2026, 11, 20, tzinfo=UTC)

    def measure(self, tmp_path, size, locks=("a",)):
        state = State(tmp_path)
        restic = SimpleNamespace(
            repository="/repository", size=size, note_key=lambda: None, room=lambda: (3, 4),
            oldest_lock=lambda ids: self.TAKEN if [*ids] == ["a"] else None,
        )  # fmt: skip
        tools = Tools(SimpleNamespace(host="h", copy_to=None), None, restic, state, nobody, threading.Event())
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        result = PassResult("r", "nightly", "h", now, now)
        RepositorySide(tools, nobody, result, RepositoryAtStart((), tuple(locks), 0)).measure()
        return state.read().get("repository"), result.warnings

    def test_it_is_on_record(self, tmp_path):
        recorded, warnings = self.measure(tmp_path, lambda: RepositorySize(5, 9, 2))
        assert recorded.pop("time") == recorded.pop("sized")
        assert recorded == {
            "repository": "/repository", "size_bytes": 5, "uncompressed_bytes": 9, "snapshots": 2,
            "locks": 1, "oldest_lock": self.TAKEN.isoformat(), "free_bytes": 3, "total_bytes": 4,
        }  # fmt: skip
        assert warnings == []

    @pytest.mark.parametrize(
        ("changes", "again"),
        [
            ({}, False),
            ({"sized": ago(hours=21)}, True),
            ({"sized": ago(hours=-1)}, True),
            ({"repository": "/other"}, True),
        ],
    )
    def test_sizes_are_measured_once_a_day_and_locks_each_time(self, tmp_path, changes, again):
        known = {"time": ago(hours=1), "sized": ago(hours=1), "repository": "/repository", "size_bytes": 1, "locks": 7}
        State(tmp_path).put(repository={**known, **changes})
        recorded, _warnings = self.measure(tmp_path, lambda: RepositorySize(5, 9, 2), locks=())
        assert recorded["size_bytes"] == (5 if again else 1)
        assert (recorded["locks"], recorded["oldest_lock"]) == (0, None)
        assert (recorded["sized"] == recorded["time"]) == again

    @pytest.mark.parametrize(
        ("known", "sizes"),
        [
            ({"time": YESTERDAY, "size_bytes": 1}, {"sized": YESTERDAY, "size_bytes": 1}),
            (
                {"time": ago(hours=1), "sized": YESTERDAY, "repository": "/repository", "size_bytes": 1},
                {"sized": YESTERDAY, "size_bytes": 1},
            ),
            ({"time": ago(hours=1), "sized": ago(hours=1), "repository": "/other", "size_bytes": 1}, {}),
        ],
        ids=["of an earlier release", "of yesterday", "of another repository"],
    )
    def test_sizes_that_cannot_be_measured_are_a_warning_and_room_and_locks_are_on_record(self, tmp_path, known, sizes):
        """The room is what a repository runs out of, and the larger it is the longer takes its size."""
        State(tmp_path).put(repository=known)

        def fail():
            raise RepositoryUnreachableError("it did not answer.")

        recorded, warnings = self.measure(tmp_path, fail)
        assert recorded.pop("time") > ago(hours=1)
        assert recorded == {
            **sizes, "repository": "/repository", "locks": 1, "oldest_lock": self.TAKEN.isoformat(), "free_bytes": 3,
            "total_bytes": 4,
        }  # fmt: skip
        assert warnings == ["The repository was not measured: it did not answer."]


class TestCurrentSnapshots:
    """What there is when the dumps are done, of what was listed before them and what the policy has seen since."""

    @staticmethod
    def snapshot(name, *tags, hours=0):
        return Snapshot(name, datetime(2026, 11, 22, hours, tzinfo=UTC), "h", "/shop/shop.dump", tags, 1)

    def test_of_the_reasons_that_were_asked_for_the_policy_has_the_newer_word(self):
        kept, gone, new = (
            self.snapshot("kept", "nightly"), self.snapshot("gone", "nightly", hours=1), self.snapshot("new", "nightly", hours=3)
        )  # fmt: skip
        manual = self.snapshot("manual", "manual", hours=2)
        plans = {"nightly": [RetentionGroup("/shop/shop.dump", (new,), (kept,))]}
        assert current([kept, gone, manual], plans) == [kept, manual, new]

    def test_where_the_policy_was_not_asked_what_was_listed_counts(self):
        listed = [self.snapshot("a", "nightly"), self.snapshot("b", "manual", hours=1)]
        assert current(listed, {}) == listed


class TestServerFacts:
    """What a manifest has of a server: asked for in one session."""

    def facts(self, answer):
        asked = []

        def readable_settings(names):
            asked.append([*names])
            return answer(names)

        return server_facts(SimpleNamespace(readable_settings=readable_settings)), asked

    def test_all_that_may_be_read_in_one_look(self):
        known = {"shared_preload_libraries": "pg_cron", "data_directory": "/d", "max_connections": "100"}
        facts, asked = self.facts(lambda names: {name: known[name] for name in names if name in known})
        assert (facts.libraries, facts.directory) == ("pg_cron", "/d")
        assert "data_directory" not in facts.shared
        assert len(asked) == 1

    def test_what_may_not_be_read_is_missing_and_a_look_that_fails_is_all(self):
        assert self.facts(lambda _names: {})[0] == ServerFacts(None, None, {})

        def fail(_names):
            raise PostgresError("no")

        assert self.facts(fail)[0] == ServerFacts()


class TestVolumes:
    """How much room the servers have."""

    def test_they_are_what_df_says(self):
        said = "Filesystem 1024-blocks Used Available Capacity Mounted on\n//nas/a b 9 4 5 45% /pg data\n--\n"
        docker = SimpleNamespace(run=lambda *_arguments, **_options: ExecResult(0, said.encode(), ""))
        postgres = Postgres(docker, "c", Credentials("postgres", None, "postgres"), "a")
        assert postgres.volume("/pg data") == Volume("/pg data", 5 * 1024, 9 * 1024)

    def test_one_that_df_does_not_know_is_none(self):
        docker = SimpleNamespace(run=lambda *_arguments, **_options: ExecResult(0, b"--\n", ""))
        postgres = Postgres(docker, "c", Credentials("postgres", None, "postgres"), "a")
        assert postgres.volume("/pg data") is None

    def test_the_newest_is_on_record_and_none_of_one_that_tells_no_more(self, tmp_path):
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        state = State(tmp_path)
        for volumes in ({"a": Volume("/d", 1, 9), "b": Volume("/d", 2, 9)}, {"a": Volume("/d", 3, 9), "b": None}, {}):
            result = PassResult("r", "manual", "h", now, now, volumes=volumes)
            state.record_pass(result.as_dict(), [])
        assert state.read().get("volumes", {}) == {"a": {"directory": "/d", "free_bytes": 3, "total_bytes": 9}}

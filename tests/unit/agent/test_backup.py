# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass records of itself when it cannot even begin."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup.dump import Dumped, Dumper
from scalr_backup.actions.backup.producer import Report
from scalr_backup.actions.backup.result import PassRequest, PassResult
from scalr_backup.actions.backup.run import Pass
from scalr_backup.actions.backup.saved_roles import SavedRoles, read_roles
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
from scalr_backup.tools.docker.exec_stream import ExecResult
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.state import State


def a_pass_that_meets(error, state):
    def fail():
        raise error

    restic = SimpleNamespace(require_version=fail)
    return Pass(Tools(SimpleNamespace(host="h"), None, restic, state, nobody, threading.Event()))


@pytest.mark.parametrize(
    ("error", "code"), [(WrongPasswordError("no key"), "wrong_password"), (ValueError("nobody foresaw"), "internal")]
)
def test_a_pass_that_fails_as_a_whole_is_recorded(tmp_path, error, code):
    state = State(tmp_path)
    with pytest.raises(type(error)):
        a_pass_that_meets(error, state).run(PassRequest())
    assert state.read()["last_pass"]["error"]["code"] == code


def test_a_question_about_an_unknown_database_is_not(tmp_path):
    state = State(tmp_path)
    with pytest.raises(UnknownDatabaseError):
        a_pass_that_meets(UnknownDatabaseError("not here"), state).run(PassRequest())
    assert "last_pass" not in state.read()


class Door(Postgres):
    """A server that lets nobody in, or only into some of its databases."""

    def __init__(self, answers):
        super().__init__(None, "scalr-roles-db", Credentials("app", None), "look")
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


class Asked(Dumper):
    """A dump that fails with a code where names are to be converted."""

    def __init__(self, sqlstate):
        super().__init__(COUNTING, None, None, nobody, "r", None)
        self.sqlstate, self.asked = sqlstate, []

    def _dump(self, _cluster, _database, _tags, *, sparing, raw):
        self.asked.append((sparing, raw))
        if not raw:
            raise PostgresError("no", self.sqlstate)
        return "dumped"


COUNTING = SimpleNamespace(row_counts=True)


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
        assert dumper._counts(failed, None) == (None, "could not read block 7")
        assert dumper._counts(counted, None) == ({"t": 3}, None)
        off = Dumper(SimpleNamespace(row_counts=False), None, None, nobody, "r", None)
        assert off._counts(None, None) == (None, None)

    def test_of_a_sparing_dump_are_made_when_it_is_saved(self):
        exporting = SimpleNamespace(query=lambda _sql: [["public", "t", 3]])
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(None, exporting) == ({'"public"."t"': 3}, None)

    @pytest.mark.parametrize("sqlstate", [None, "53300", "53200", "55P03", "57P01"])
    def test_that_had_no_connection_or_lock_are_made_in_the_exporting_session(self, sqlstate):
        failed = Future()
        failed.set_exception(PostgresError("zu viele Verbindungen", sqlstate))
        exporting = SimpleNamespace(query=lambda _sql: [["public", "t", 3]])
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(failed, exporting) == ({'"public"."t"': 3}, None)

    def test_that_fail_there_too_are_told(self):
        def query(_sql):
            raise PostgresError("still none")

        failed = Future()
        failed.set_exception(PostgresError("none", "53200"))
        dumper = Dumper(COUNTING, None, None, nobody, "r", None)
        assert dumper._counts(failed, SimpleNamespace(query=query)) == (None, "still none")

    def test_of_a_run_that_is_told_to_stop_end_it(self):
        stopped = Future()
        stopped.set_exception(InterruptedRunError("told to stop"))
        with pytest.raises(InterruptedRunError):
            Dumper(COUNTING, None, None, nobody, "r", None)._counts(stopped, None)

    def test_are_made_in_a_session_that_did_not_export_the_snapshot(self, monkeypatch):
        """What fails in the session that exported it ends the snapshot under pg_dump."""
        monkeypatch.setattr("scalr_backup.actions.backup.dump.survey", lambda _session: ([], []))
        sessions = []

        class Session:
            def __init__(self):
                self.asked = []

            def query(self, sql):
                self.asked.append(sql)
                if "pg_export_snapshot" in sql:
                    return ["00000003-1"]
                if "SET TRANSACTION SNAPSHOT '00000003-1'" in sql:
                    raise PostgresError("cannot access temporary or unlogged relations during recovery", "0A000")
                return [{"database": "shop", "encoding": "UTF8"}] if "'database'" in sql else [170000]

        @contextmanager
        def session(*_arguments, **_options):
            sessions.append(Session())
            yield sessions[-1]

        class Found(Dumper):
            def _job(self, *_arguments):
                return None

            def _survey(self, *_arguments):
                return []

            def _left_out(self, *_arguments):
                return []

            def _save(self, *_arguments):
                return Saved("aa", 10, 10, 5), Report(10, 3)

        discovery = SimpleNamespace(postgres=lambda *_: SimpleNamespace(session=session))
        cluster = SimpleNamespace(container=SimpleNamespace(name="c"), credentials=None)
        dumped = Found(SimpleNamespace(row_counts=True), discovery, None, nobody, "r").dump(cluster, "shop", [])
        assert dumped.count_error == "cannot access temporary or unlogged relations during recovery"
        assert len(sessions) == 2
        assert not any("count(*)" in sql for sql in sessions[0].asked)

    def test_that_failed_are_a_warning_of_the_pass_and_on_record(self, tmp_path, monkeypatch):
        monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", lambda *_: [])
        state = State(tmp_path)
        one = Dumped(Saved("aa", 10, 10, 5), {}, None, 1.0, "could not read block 7")
        cluster = Cluster(
            Container("c" * 64, "scalr-shop-db", "postgres:17", "sha256:aa", "running", "ok"),
            Credentials("app", None), "17.6", (Database("shop", 10, "app", "UTF8"),),
        )  # fmt: skip
        config = SimpleNamespace(host="h", parallel=1, start_wait_seconds=0)
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
        config = SimpleNamespace(host="h", parallel=2, start_wait_seconds=0)
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

        def postgres(container, credentials, application):
            def fail(*_, **__):
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

            good = container.name == "scalr-good-db"
            return SimpleNamespace(
                container=container.name, globals_sql=(lambda **_: ROLES) if good else fail,
                settings=(lambda *_: ["", "/data"]) if good else fail, volume=fail, may_read_passwords=lambda: True,
                readable_settings=fail,
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
        restic = SimpleNamespace(repository="/repository")
        config = SimpleNamespace(host="h", copy_to=None)
        Pass(Tools(config, None, restic, state, nobody, threading.Event()))._refuse_another_agent(last_pass, snapshots)

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

    def measure(self, tmp_path, **restic):
        state = State(tmp_path)
        tools = Tools(
            SimpleNamespace(host="h", copy_to=None), None, SimpleNamespace(**restic), state, nobody, threading.Event()
        )
        now = datetime(2026, 11, 22, 3, tzinfo=UTC)
        result = PassResult("r", "nightly", "h", now, now)
        Pass(tools)._measure(result)
        return state.read().get("repository"), result.warnings

    def test_it_is_on_record(self, tmp_path):
        taken = datetime(2026, 11, 20, tzinfo=UTC)
        recorded, warnings = self.measure(
            tmp_path, size=lambda: RepositorySize(5, 9, 2), locks=lambda: ["a"], room=lambda: (3, 4),
            oldest_lock=lambda ids: taken if ids == ["a"] else None,
        )  # fmt: skip
        assert datetime.fromisoformat(recorded.pop("time")).tzinfo is not None
        assert recorded == {
            "size_bytes": 5, "uncompressed_bytes": 9, "snapshots": 2, "locks": 1, "oldest_lock": taken.isoformat(),
            "free_bytes": 3, "total_bytes": 4,
        }  # fmt: skip
        assert warnings == []

    def test_one_that_cannot_be_measured_is_a_warning_and_keeps_what_was_known(self, tmp_path):
        known = {"time": "2026-11-22T03:00:00+00:00", "size_bytes": 1}
        State(tmp_path).put(repository=known)

        def fail():
            raise RepositoryUnreachableError("it did not answer.")

        recorded, warnings = self.measure(tmp_path, size=fail)
        assert recorded == known
        assert warnings == ["The repository was not measured: it did not answer."]


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

# SPDX-License-Identifier: GPL-3.0-or-later
"""What extensions need of a restore, and how a database comes back from the moment under another name."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from scalr_backup.actions.drill.plan import DrillSubject, throwaway
from scalr_backup.actions.restore.extensions import (
    cared_for,
    creations_at_home,
    looks_at_the_name,
    require_home,
    window_warnings,
)
from scalr_backup.actions.restore.plan import require_room
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.actions.restore.warnings import slot_warnings, unknown_room_warnings, unrehearsed_warnings
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.errors import (
    MissingExtensionError,
    PostgresError,
    RestoreError,
    RoomUnknownError,
)
from scalr_backup.core.extensions import NEEDS, settings_of_a_drill
from scalr_backup.core.model import Credentials, Snapshot, dump_path
from scalr_backup.core.room import Claim
from scalr_backup.tools.docker.exec_stream import ExecResult
from scalr_backup.tools.docker.throwaway import Image
from scalr_backup.tools.postgres.cluster import Postgres

NEW = "scalr_restore_20261122t030000z_3f9a_1"
CREATE_CRON = 'CREATE EXTENSION IF NOT EXISTS "pg_cron" WITH SCHEMA "pg_catalog"'


def head(*extensions):
    entries = [SimpleNamespace(desc="EXTENSION", tag=one, defn=f"{CREATE_CRON};\n") for one in extensions]
    return SimpleNamespace(entries=entries, extensions=extensions)


# -- what they need ----------------------------------------------------------------------------------------


class Notes:
    """A server that notes what it is asked to do."""

    def __init__(self):
        self.done = []

    def set_until_full(self, _new, settings):
        self.done.append(f"set {', '.join(settings)}")
        return tuple(settings)

    def reset(self, _new, names):
        self.done.append(f"reset {', '.join(names)}")

    def call_of_extension(self, _new, extension, function):
        self.done.append(f"{extension}.{function}")


def test_timescaledb_knows_that_it_is_restored_and_when_that_is_over():
    server = Notes()
    with cared_for(server, NEW, head("timescaledb"), lambda _statements: server.done.append("window")):
        server.done.append("filled")
    assert server.done == [
        "set timescaledb.restoring", "filled", "timescaledb.timescaledb_post_restore", "reset timescaledb.restoring",
    ]  # fmt: skip


def test_a_database_that_was_not_filled_is_not_called_full():
    server = Notes()
    with suppress(RestoreError), cared_for(server, NEW, head("timescaledb"), lambda _statements: None):
        raise RestoreError("no luck")
    assert server.done == ["set timescaledb.restoring"]


def test_what_fails_while_the_database_is_filled_is_not_laid_to_its_extensions():
    with pytest.raises(PostgresError, match=r"^the disk is full$"), cared_for(Notes(), NEW, head(), lambda _: None):
        raise PostgresError("the disk is full")


def test_an_extension_that_looks_at_the_name_is_created_under_it_and_others_are_not():
    ran = []
    with cared_for(Notes(), NEW, head("hstore", "pg_cron"), ran.extend):
        assert ran == [CREATE_CRON]
    assert creations_at_home(head("hstore")) == []
    assert len(creations_at_home(head("tied"), ["tied"])) == 1


def test_of_what_creates_an_extension_its_name_and_its_schema_alone_are_taken():
    told = replaced(head("pg_cron"), 'CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA "a ""b";\n')
    assert creations_at_home(told) == ['CREATE EXTENSION IF NOT EXISTS "pg_cron" WITH SCHEMA "a ""b"']
    for text in (
        "CREATE EXTENSION pg_cron;\n\\! id\n",
        "CREATE EXTENSION pg_cron; ALTER ROLE app SUPERUSER;",
        "CREATE EXTENSION pg_cron CASCADE;",
        "CREATE EXTENSION pg_cron",
        "DROP EXTENSION pg_cron;",
        "",
    ):
        assert creations_at_home(replaced(head("pg_cron"), text)) == []


def replaced(head_, defn):
    """The same head with another text that creates its one extension."""
    return SimpleNamespace(
        extensions=head_.extensions, entries=[SimpleNamespace(desc="EXTENSION", tag="pg_cron", defn=defn)]
    )


class Refuses:
    """A server that refuses an extension, with this code."""

    def __init__(self, sqlstate):
        self.sqlstate = sqlstate
        self.asked = []

    def alter(self, new, statements):
        self.asked.append((new, *statements))
        if self.sqlstate:
            raise PostgresError("refused", self.sqlstate)


@pytest.mark.parametrize(
    ("desc", "words", "sqlstate", "found"),
    [
        ("EXTENSION", "ERROR:  can only create extension in database shop", "P0001", "tied"),
        ("EXTENSION", "FEHLER:  nur in der Datenbank \u00bbshop\u00ab", "0A000", "tied"),
        ("EXTENSION", "ERROR:  could not open extension control file", "58P01", None),
        ("EXTENSION", "ERROR:  not in workshop", "P0001", None),
        ("TABLE", "ERROR:  shop", "P0001", None),
        # It names the database, and is of something else: no rights, no file, or over by now.
        ("EXTENSION", "ERROR:  permission denied for database shop", "42501", None),
        ("EXTENSION", 'ERROR:  could not open "/shop/x.control"', "58P01", None),
        ("EXTENSION", "ERROR:  shop", None, None),
    ],
)
def test_what_is_not_known_is_recognized_by_an_error_that_names_the_database(desc, words, sqlstate, found):
    entry = SimpleNamespace(desc=desc, tag="tied", defn="CREATE EXTENSION tied;\n")
    server = Refuses(sqlstate)
    assert looks_at_the_name((Trouble(entry, words),), "shop", server, NEW) == found
    for asked in server.asked:
        assert asked == (NEW, "BEGIN", 'CREATE EXTENSION IF NOT EXISTS "tied"', "ROLLBACK"), "a look leaves nothing"


def test_an_extension_that_is_called_as_the_database_is_not_recognized_by_its_own_name():
    entry = SimpleNamespace(desc="EXTENSION", tag="postgis", defn="CREATE EXTENSION postgis;\n")
    trouble = Trouble(entry, 'ERROR:  could not create extension "postgis"')
    assert looks_at_the_name((trouble,), "postgis", Refuses("P0001"), NEW) is None


def test_a_database_of_another_name_than_the_extension_wants_is_refused_beforehand():
    known = {"cron.database_name": "shop"}
    require_home(known, "scalr-shop-db", "shop", ["pg_cron"])
    require_home({}, "scalr-shop-db", "other", ["pg_cron"])
    require_home(known, "scalr-shop-db", "other", ["hstore"])
    with pytest.raises(MissingExtensionError, match=r"only in the database shop .*would be called other"):
        require_home(known, "scalr-shop-db", "other", ["pg_cron"])


def test_whose_sessions_end_twice_is_told_beforehand():
    [warning] = window_warnings({"shop": ("pg_cron", "hstore"), "blog": ("hstore", "postgis", "timescaledb")})
    assert warning.startswith("pg_cron can be created only in a database named shop")


def test_of_an_extension_that_nobody_knows_it_is_told_that_the_sessions_may_end_twice():
    [warning] = window_warnings({"shop": ("homemade", "hstore")})
    assert warning.startswith("It is unknown whether homemade can be created in a database not named shop.")
    assert window_warnings({"shop": ()}) == []


# -- a drill's server --------------------------------------------------------------------------------------


def arguments(extensions, **settings):
    described = {"extensions": [{"name": one, "version": "1"} for one in extensions]}
    snapshot = Snapshot("ab" * 32, datetime(2026, 11, 22, tzinfo=UTC), "h", dump_path("c", "shop"), ("c", "run=r"), 1)
    subject = DrillSubject(snapshot, described, {"settings": settings} if settings else {}, alone=True)
    return throwaway(subject, Image("i", (), (), ("/data",), {}), "n", "secret", {}).arguments


def test_a_drills_server_is_set_as_its_source_was():
    words = arguments([], session_preload_libraries="anon", **{"cron.database_name": "other"})
    assert "session_preload_libraries=anon" in words
    assert "cron.database_name=other" in words


def test_of_a_manifest_only_known_settings_are_taken():
    known = {"archive_command": "rm -rf /", "session_preload_libraries": "a\nb", "TimeZone": "x" * 5000}
    assert settings_of_a_drill(known, [], "shop") == {}
    assert not any("archive_command" in word for word in arguments([], **known))


def test_a_manifest_that_notes_no_settings_has_the_extension_in_its_own_database():
    assert "cron.database_name=shop" in arguments(["pg_cron"])
    assert not any("cron" in word for word in arguments(["hstore"]))


def test_everything_that_an_extension_needs_has_a_name_that_sql_takes():
    for needs in NEEDS.values():
        for name in (*needs.while_filling, *needs.after, *needs.settings, *([needs.home] if needs.home else [])):
            assert name.replace("_", "").replace(".", "").isalnum()


# -- what may not be read ----------------------------------------------------------------------------------


def test_a_server_that_hides_its_directory_is_found_by_its_processes_or_else_not_judged():
    known = {
        "directory": None, "limit_bytes": 1, "kept_bytes": 0, "kept_for_slots": -1, "sort_bytes": 64, "checksums": False,
        "archive_fails": None, "slots": [], "tablespaces": {"fast": 16500},
    }  # fmt: skip
    said = []

    def run(_container, argv, *_arguments, **_options):
        said.append(argv)
        return ExecResult(0, places, "")

    def server():
        postgres = Postgres(
            SimpleNamespace(run=run), "c", Credentials("app"), "scalr-backup r", facts={("c", "home"): "postgres"}
        )
        postgres.query = lambda *_arguments: [dict(known)]
        return postgres

    places = b""
    survey = server().room()
    assert "pg_read_all_settings TO app" in survey.unknown
    [warning] = unknown_room_warnings(survey)
    assert "was not checked" in warning
    require_room([SimpleNamespace(claim=Claim(10**15))], survey, RestoreRequest("c"))
    places = b"/bitnami/postgresql/data\n/bitnami/postgresql/data\n"
    with suppress(RoomUnknownError):
        server().room()
    assert "/bitnami/postgresql/data/pg_wal" in said[-1]


# -- replication slots -------------------------------------------------------------------------------------

SLOTS = (
    {"name": "busy", "plugin": "pgoutput", "active": True, "consumer": "app debezium from 10.0.0.7"},
    {"name": "quiet", "plugin": "wal2json", "active": False, "consumer": None},
)


@pytest.mark.parametrize("keep", [True, False])
def test_a_plan_names_the_slots_and_who_reads_them(keep):
    plans = [
        SimpleNamespace(database="shop", live=SimpleNamespace(slots=SLOTS)),
        SimpleNamespace(database="blog", live=SimpleNamespace(slots=())),
        SimpleNamespace(database="gone", live=None),
    ]
    [warning] = slot_warnings(RestoreRequest("c", keep_old=keep), plans)
    assert "busy (pgoutput, read by app debezium from 10.0.0.7), quiet (wal2json, not in use)" in warning
    assert ("stay with" in warning) is keep
    assert ("keep_old=true" in warning) is not keep


def dropping(codes):
    """A cluster whose drops fail with these codes first; what it was asked to do."""
    done = []
    postgres = Postgres(None, "c", Credentials("postgres"), "scalr-backup r", facts={("c", "home"): "postgres"})

    class Dropping(type(postgres)):
        def query(self, *_arguments):
            return []

        def unstoppable(self, application=None):
            return self

        def execute(self, _database, *_statements):
            done.append("drop")
            if codes:
                raise PostgresError("database is used by an active logical replication slot", codes.pop(0))

        def end_sessions(self, _database):
            done.append("end")

    postgres.__class__ = Dropping
    return postgres, done


def test_a_database_whose_slot_is_read_is_dropped_once_its_reader_is_ended():
    postgres, done = dropping(["55006", "55006"])
    postgres.drop_database("shop")
    assert done == ["drop", "end", "drop", "end", "drop"]


def test_a_drop_that_is_refused_for_another_reason_is_not_tried_again():
    postgres, done = dropping(["42501"])
    with pytest.raises(PostgresError):
        postgres.drop_database("shop")
    assert done == ["drop"]


# -- dropping the live database first ----------------------------------------------------------------------


def test_a_snapshot_that_no_drill_has_restored_is_told_where_the_live_one_is_dropped_first():
    snapshot = Snapshot("ab" * 32, datetime(2026, 11, 22, tzinfo=UTC), "h", dump_path("c", "shop"), ("c", "run=r"), 1)
    plans = [SimpleNamespace(database="shop", snapshot=snapshot, exists=True)]
    replaces, beside = SimpleNamespace(strategy="replace"), SimpleNamespace(strategy="beside")
    passed = {"c/shop": {"ok": True, "snapshot_id": snapshot.id}}
    failed = {"c/shop": {"ok": False, "snapshot_id": snapshot.id}}
    assert unrehearsed_warnings(beside, plans, {}) == []
    assert unrehearsed_warnings(replaces, plans, passed) == []
    for drills in ({}, failed):
        [warning] = unrehearsed_warnings(replaces, plans, drills)
        assert "drill it first" in warning

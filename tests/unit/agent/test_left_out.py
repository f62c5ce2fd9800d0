# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that pg_dump leaves out, and databases that it cannot dump: named wherever somebody relies on the backup."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup.dump import Dumper
from scalr_backup.actions.backup.manifest import parse_manifest
from scalr_backup.core.errors import DumpError, PostgresError
from scalr_backup.core.left_out import MOST_COUNTED, MOST_RELATIONS, lacks, lost_with, relation_name
from scalr_backup.core.model import Cluster, Container, Credentials, Database
from scalr_backup.core.progress import nobody
from scalr_backup.tools.postgres import left_out
from scalr_backup.tools.postgres.cluster import Postgres

QUEUE = {
    "schema": "pgmq", "name": "q_orders", "why": "extension", "extension": "pgmq", "oid": 17000, "condition": None,
    "readable": True,
}  # fmt: skip
FILTERED = {**QUEUE, "schema": "topology", "name": "layer", "why": "extension_filter", "condition": "WHERE id > 9"}
FOREIGN = {**QUEUE, "schema": "public", "name": "Prices", "why": "foreign_table", "extension": None, "oid": None}
HIDDEN = {**QUEUE, "name": "secret", "readable": False}


class Server:
    """A server whose counts are what it is told; one that is an exception ends the session.

    *unplanned* are the tables of which it plans no query.
    """

    container = "scalr-shop-db"

    def __init__(self, *counts, unplanned=()):
        self.counts = list(counts)
        self.unplanned = unplanned
        self.asked = []

    @contextmanager
    def session(self, database, **_):
        yield self

    def query(self, sql):
        if not sql.startswith("SELECT pg_catalog.convert_from("):
            return []
        statements = [bytes.fromhex(one).decode() for one in re.findall(r"decode\('([0-9a-f]*)'", sql)]
        if statements[0].startswith("LOCK TABLE ONLY"):
            assert "pg_depend" in statements[1]
            return [not any(name in statements[0] for name in self.unplanned)]
        self.asked.append(sql)
        count = self.counts.pop(0)
        if isinstance(count, Exception):
            raise count
        return [count]


def record(relation="pgmq.q_orders", why="extension", extension="pgmq", rows=500):
    return {"relation": relation, "why": why, "extension": extension, "rows": rows}


class TestRows:
    def test_are_counted_where_they_lie_here_and_the_largest_comes_first(self):
        found = left_out.left_out_rows(Server(3, 500), "shop", [QUEUE, FILTERED, FOREIGN])
        assert found == [
            record(), record("topology.layer", "extension_filter", rows=3),
            record('public."Prices"', "foreign_table", None, None),
        ]  # fmt: skip

    def test_that_are_none_are_not_left_out(self):
        assert left_out.left_out_rows(Server(0), "shop", [QUEUE]) == []

    def test_that_cannot_be_counted_are_named_all_the_same(self):
        server = Server(7, PostgresError("canceling statement due to statement timeout"))
        found = left_out.left_out_rows(server, "shop", [QUEUE, FILTERED, {**QUEUE, "name": "q_later"}, HIDDEN])
        assert {one["relation"]: one["rows"] for one in found} == {
            "pgmq.q_orders": None, "topology.layer": None, "pgmq.q_later": 7, "pgmq.secret": None,
        }  # fmt: skip
        assert len(server.asked) == 2

    def test_of_a_table_on_which_somebodys_code_may_hang_are_not_counted(self):
        server = Server(3, unplanned=("q_orders",))
        found = left_out.left_out_rows(server, "shop", [FILTERED, QUEUE])
        assert {one["relation"]: one["rows"] for one in found} == {"pgmq.q_orders": None, "topology.layer": 3}
        assert len(server.asked) == 1

    def test_that_an_extension_makes_anew_are_nobodys_loss(self):
        stat = {**QUEUE, "schema": "_timescaledb_internal", "name": "bgw_job_stat", "extension": "timescaledb"}
        assert left_out.left_out_rows(None, "shop", [stat]) == []

    def test_of_nothing_to_count_cost_no_session(self):
        assert left_out.left_out_rows(None, "shop", [FOREIGN])[0]["rows"] is None
        assert left_out.left_out_rows(None, "shop", []) == []

    def test_that_an_extension_has_put_there_itself_do_not_count(self):
        sql = left_out.count_sql(FILTERED)
        assert 'FROM ONLY "topology"."layer" WHERE NOT xmin::text = ANY (ARRAY(' in sql
        assert 'EXCEPT ALL (SELECT ctid FROM ONLY "topology"."layer" WHERE id > 9\n)' in sql
        assert f"LIMIT {MOST_COUNTED + 1}" in sql

    def test_cost_a_good_dump_nothing_whatever_goes_wrong(self, monkeypatch):
        def fail(*_):
            raise KeyError("oid")

        monkeypatch.setattr("scalr_backup.actions.backup.dump.left_out_rows", fail)
        found = Dumper(None, None, None, nobody, "r")._left_out(SimpleNamespace(container="c"), "shop", [QUEUE])
        assert found == [record(rows=None)]

    def test_that_row_security_hides_end_a_dump_before_it_begins_with_the_way_out(self):
        session = SimpleNamespace(query=lambda _: [[[], [["public", "orders"]]]])
        cluster = SimpleNamespace(container=SimpleNamespace(name="scalr-shop-db"), credentials=Credentials("app"))
        with pytest.raises(DumpError, match=r"rows of public\.orders from app.*ALTER ROLE \"app\" BYPASSRLS"):
            Dumper(None, None, None, nobody, "r")._survey(session, cluster, "shop")


class TestSentence:
    def test_names_relations_amounts_and_reasons(self):
        said = lacks("The backup of a/b", [record(), record("public.far", "foreign_table", None, None)])
        assert said == (
            "The backup of a/b lacks rows that pg_dump leaves out, so no restore brings them back: pgmq.q_orders (500 rows, "
            "part of the extension pgmq), public.far (a foreign table, whose rows lie elsewhere)."
        )

    def test_tells_before_a_live_database_is_replaced_what_is_gone_with_it(self):
        said = lost_with("shop", [record(), record("public.far", "foreign_table", None, None)])
        assert said == (
            "Replacing shop loses rows that not even a safety snapshot has, because pg_dump leaves them out: pgmq.q_orders "
            "(500 rows, part of the extension pgmq); keep_old=true keeps them."
        )
        assert lost_with("shop", [record("public.far", "foreign_table", None, None)]) is None

    def test_is_bounded(self):
        said = lacks("It", [record(f"t{number}", rows=MOST_COUNTED + 1) for number in range(200)])
        assert said.endswith("and 195 more.")
        assert "more than 1,000,000 rows" in said

    def test_knows_reasons_of_later_releases_by_their_codes(self):
        assert "(1 row, something_new)" in lacks("It", [record(why="something_new", rows=1)])

    def test_quotes_names_only_where_it_must(self):
        assert relation_name("public", "orders_2") == "public.orders_2"
        assert relation_name("public", 'O"x') == 'public."O""x"'


class TestManifest:
    def content(self, **facts):
        database = {"database": "shop", "snapshot_id": "aa", **facts.pop("database", {})}
        cluster = {"container": "c", "databases": [database], **facts}
        return json.dumps({"manifest_version": 1, "run": "r", "clusters": [cluster]}).encode()

    def test_holds_what_is_left_out(self):
        gone = [{"database": "frozen", "why": "it does not allow connections"}]
        [cluster] = parse_manifest(self.content(left_out=gone, database={"left_out": [record()]}), "r")
        assert cluster["left_out"] == gone
        assert cluster["databases"][0]["left_out"] == [record()]

    @pytest.mark.parametrize(
        "facts",
        [
            {"left_out": [{"database": 1, "why": "x"}]},
            {"left_out": "x"},
            {"database": {"left_out": [{**record(), "rows": "many"}]}},
            {"database": {"left_out": [{"why": "x"}]}},
            {"database": {"left_out": {}, "row_counts": []}},
        ],
    )
    def test_that_says_it_otherwise_is_none(self, facts):
        with pytest.raises(ValueError, match=r"."):
            parse_manifest(self.content(**facts), "r")


def row(name, **facts):
    known = {"is_template": False, "allows_connections": True, "is_valid": True, **facts}
    return {"name": name, "owner": "o", "encoding": "UTF8", "size_bytes": 1, **known}


class Listed(Postgres):
    """A cluster with these databases, some of them empty; a name in *closed* lets nobody in."""

    def __init__(self, *rows, empty=(), closed=()):
        super().__init__(
            None, "scalr-shop-db", Credentials("app"), "look", facts={("scalr-shop-db", "home"): "postgres"}
        )
        self._rows, self._empty, self._closed = rows, empty, closed

    def query(self, database, sql):
        if "FROM pg_database\n" in sql:
            return list(self._rows)
        if database in self._closed:
            raise PostgresError(f"{database}: no entry in pg_hba.conf")
        return [database in self._empty]

    def found(self):
        databases, out = self.databases()
        return [one.name for one in databases], {one.name: one.why for one in out}


class TestDatabases:
    TEMPLATE1 = row("template1", is_template=True)

    def test_templates_are_saved_and_an_empty_template1_is_not(self):
        rows = row("postgres"), row("shop"), self.TEMPLATE1, row("template_gis", is_template=True)
        assert Listed(*rows, empty={"postgres", "template1"}).found() == (["shop", "template_gis"], {})
        assert Listed(*rows, empty={"postgres"}).found() == (["shop", "template1", "template_gis"], {})

    def test_a_template_alone_makes_nobody_skip_postgres(self):
        rows = row("postgres"), row("template_gis", is_template=True)
        assert Listed(*rows, empty={"postgres"}).found()[0] == ["postgres", "template_gis"]

    def test_what_cannot_be_dumped_is_left_out_with_the_reason(self):
        rows = row("shop"), row("frozen", allows_connections=False), row("torn", is_valid=False)
        saved, out = Listed(*rows).found()
        assert saved == ["shop"]
        assert "does not allow connections" in out["frozen"]
        assert "interrupted DROP DATABASE" in out["torn"]

    def test_what_a_restore_keeps_or_works_at_is_nobodys_business(self):
        rows = (
            row("shop"),
            row("shop_before_restore_20261122t030000z-3f9a", allows_connections=False),
            row("scalr_restore_20261122t030000z_3f9a_1", allows_connections=False),
        )
        assert Listed(*rows).found() == (["shop"], {})

    def test_a_template1_that_lets_nobody_in_costs_the_others_nothing(self):
        saved, out = Listed(row("shop"), self.TEMPLATE1, closed={"template1"}).found()
        assert saved == ["shop"]
        assert "cannot be inspected: template1: no entry" in out["template1"]


def test_a_kept_copy_that_is_a_template_is_dropped_by_a_command_that_works():
    name = "template1_before_restore_20261122t030000z-3f9a"
    cluster = Cluster(
        Container("c" * 64, "scalr-shop-db", "postgres:17", "1", "running", "ok"), Credentials("app"), "17.6", (),
        kept=(Database(name, 1, "o", "UTF8", is_template=True), Database(name.replace("template1", "shop"), 1, "o", "UTF8")),
    )  # fmt: skip
    template, ordinary = (one["command"] for one in cluster.kept_as_dicts())
    assert template == (
        "docker exec scalr-shop-db psql --username=app --dbname=postgres "
        f"'--command=ALTER DATABASE \"{name}\" IS_TEMPLATE false' '--command=DROP DATABASE \"{name}\"'"
    )
    assert " dropdb " in ordinary


def test_foreign_tables_do_not_crowd_out_those_whose_rows_are_lost():
    """They have no pages of their own, and there may be hundreds."""
    order = re.search(r"ORDER BY (.*?) LIMIT (\d+)", left_out._CANDIDATES)
    assert order[1] == "c.relkind = 'f', c.relpages DESC, n.nspname, c.relname"
    assert int(order[2]) == MOST_RELATIONS
    many = [{"relation": f"q.t{n}", "why": "extension", "extension": "pgmq", "rows": 1} for n in range(MOST_RELATIONS)]
    assert f"and at least {MOST_RELATIONS - 5} more" in lacks("The backup", many)
    assert "and 1 more" in lacks("The backup", many[:6])

# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that no restore can make again: what is found out of them, what mends them, and what a restore does without."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore.lenience import Lenience, LoosenedError, in_words
from scalr_backup.actions.restore.request import RestoreRequest, in_order
from scalr_backup.actions.restore.result import DatabaseRestore, RestoreResult
from scalr_backup.actions.restore.run import Restore
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.archive.head import Section
from scalr_backup.core.archive.mending import as_not_valid, is_unreachable, mend
from scalr_backup.core.archive.trouble import Trouble, troubles
from scalr_backup.core.errors import PostgresError, UnrestorableError, UsageError
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import nobody


def entry(number, desc, tag, defn=None, namespace="public", tableoid=0, dependencies=()):
    return SimpleNamespace(
        dump_id=number, desc=desc, tag=tag, defn=defn, namespace=namespace, tableoid=tableoid, oid=number,
        dependencies=dependencies, section=Section.NONE, owner="app", copy_stmt=None,
    )  # fmt: skip


def archive(*entries, is_known=True, server_version="17.6"):
    return SimpleNamespace(entries=entries, is_known=is_known, server_version=server_version)


KEY = entry(
    1,
    "FK CONSTRAINT",
    "orders orders_fk",
    'ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT orders_fk FOREIGN KEY (c) REFERENCES public."Cust"(id);\n',
)
TOKENS = entry(
    2,
    "TABLE",
    "tokens",
    'CREATE TABLE public.tokens (\n    id integer,\n    expires timestamp,\n    CONSTRAINT "fresh one" CHECK ((expires > now())),\n'
    "    CONSTRAINT pos CHECK ((id > 0)) NO INHERIT\n);\n",
)
TOKEN_ROWS, ROWS, OTHER_ROWS = (
    entry(3, "TABLE DATA", "tokens"),
    entry(4, "TABLE DATA", "prices"),
    entry(5, "TABLE DATA", "tokens", namespace="old"),
)
GEN, HELPER = entry(6, "FUNCTION", "gen(integer)"), entry(7, "FUNCTION", "helper(integer)")
VIEW = entry(8, "MATERIALIZED VIEW DATA", "mv", "REFRESH MATERIALIZED VIEW public.mv;\n")
POLICY = entry(9, "ROW SECURITY", "orders", "ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;\n")
INDEX = entry(10, "INDEX", "orders_idx", "CREATE INDEX orders_idx ON public.orders USING btree (public.f(n));\n")
HEAD = archive(GEN, HELPER, TOKENS, OTHER_ROWS, TOKEN_ROWS, ROWS, KEY, VIEW, POLICY, INDEX)

NO_TOKENS = (
    'pg_restore: error: COPY failed for table "tokens": ERROR:  new row for relation "tokens" violates check constraint '
    '"fresh one"\nDETAIL:  Failing row contains (1, 2026-11-29).\nCONTEXT:  COPY tokens, line 1: "1"\n'
)
NO_PRICES = (
    'pg_restore: error: COPY failed for table "prices": ERROR:  function helper(integer) does not exist\n'
    "QUERY:  helper($1)\nCONTEXT:  PL/pgSQL function public.gen(integer) line 1 at RETURN\n"
)
DANGLES = Trouble(KEY, 'ERROR:  insert or update on table "orders" violates foreign key constraint "orders_fk"', "x")
STALE = Trouble(VIEW, 'ERROR:  relation "prices" does not exist', 'CONTEXT:  SQL function "gen" during inlining\n')
EXPOSED = Trouble(POLICY, "ERROR:  no", "x")
SLOW = Trouble(INDEX, "ERROR:  function f(integer) does not exist", "x")


class Server:
    """A server that notes what it is asked to change, and refuses what it is told to."""

    def __init__(self, refuses=(), sqlstate="42P01"):
        self.refuses, self.sqlstate, self.done = refuses, sqlstate, []

    def alter(self, _new, statements):
        for statement in statements:
            self.done.append(statement)
            if any(word in statement for word in self.refuses):
                raise PostgresError("no", self.sqlstate)


# -- what is found out -------------------------------------------------------------------------------------


def test_rows_that_cannot_be_loaded_are_named_by_their_table():
    found = troubles(NO_PRICES + NO_TOKENS + "pg_restore: warning: errors ignored on restore: 2", HEAD)
    assert [one.entry for one in found] == [ROWS, TOKEN_ROWS], "of two tables of that name, the one with the condition"
    assert "2026-11-29" not in found[1].sentence


@pytest.mark.parametrize(
    ("trouble", "sql"),
    [
        (
            DANGLES,
            "ALTER TABLE public.orders DROP CONSTRAINT orders_fk, ADD CONSTRAINT orders_fk FOREIGN KEY (c) REFERENCES "
            'public."Cust"(id) NOT VALID;',
        ),
        (
            troubles(NO_TOKENS, HEAD)[0],
            'ALTER TABLE "public"."tokens" DROP CONSTRAINT "fresh one", ADD CONSTRAINT "fresh one" CHECK ((expires > now())) '
            "NOT VALID;",
        ),
        (
            troubles(NO_PRICES, HEAD)[0],
            'ALTER FUNCTION "public"."gen"(integer) SET search_path = pg_catalog, "public";',
        ),
        (STALE, 'ALTER FUNCTION "public"."gen"(integer) SET search_path = pg_catalog, "public";'),
        (SLOW, None),
    ],
)
def test_the_sql_that_mends_it_is_told(trouble, sql):
    assert mend(trouble, HEAD) == sql


def test_only_a_foreign_key_can_be_made_without_looking_at_rows():
    assert as_not_valid(KEY) == (
        'ALTER TABLE public.orders ADD CONSTRAINT orders_fk FOREIGN KEY (c) REFERENCES public."Cust"(id) NOT VALID'
    )
    assert as_not_valid(INDEX) is None


@pytest.mark.parametrize(
    ("sqlstate", "is_it"), [("08001", True), ("08006", True), ("HV00N", True), ("42P01", False), (None, False)]
)
def test_a_connection_that_cannot_be_made_is_known_by_its_code(sqlstate, is_it):
    assert is_unreachable(sqlstate) is is_it


# -- what becomes of it ------------------------------------------------------------------------------------


def test_a_restore_stops_and_tells_what_mends_it_and_the_other_way_on():
    with pytest.raises(UnrestorableError) as caught:
        Lenience("shop", skip=False).judge_finished([DANGLES, SLOW], HEAD, Server(), "new")
    assert "2 objects of shop cannot be restored: FK CONSTRAINT public.orders orders_fk: ERROR" in caught.value.message
    assert "DROP CONSTRAINT orders_fk, ADD CONSTRAINT" in caught.value.message
    assert caught.value.message.endswith("To restore without it, use on_error=skip.")
    assert [one["outcome"] for one in caught.value.objects] == ["failed", "failed"]
    assert caught.value.code == "restore_failed"


def test_a_restore_that_may_go_on_makes_what_it_can_in_another_way_and_lists_all():
    lenience, server = Lenience("shop", skip=True), Server()
    lenience.judge_finished([DANGLES, STALE, SLOW], HEAD, server, "new")
    assert [one["outcome"] for one in lenience.objects] == ["not_valid", "mended", "left_out"]
    assert server.done[0].endswith("NOT VALID")
    assert server.done[1:] == [
        'ALTER FUNCTION "public"."gen"(integer) SET search_path = pg_catalog, "public"',
        "REFRESH MATERIALIZED VIEW public.mv",
        'ALTER FUNCTION "public"."gen"(integer) RESET search_path',
    ]
    assert "NOT VALID" in in_words(lenience.objects[0])
    assert "left out" in in_words(lenience.objects[2])


def test_what_cannot_be_made_in_another_way_either_is_left_out():
    lenience = Lenience("shop", skip=True)
    lenience.judge_finished([DANGLES], HEAD, Server(refuses=["NOT VALID"]), "new")
    assert [one["outcome"] for one in lenience.objects] == ["left_out"]


def test_who_may_see_which_rows_is_never_left_out():
    with pytest.raises(UnrestorableError) as caught:
        Lenience("shop", skip=True).judge_finished([DANGLES, EXPOSED], HEAD, Server(), "new")
    assert "ROW SECURITY" in caught.value.message


def test_rows_are_loaded_without_the_condition_that_they_violate_and_never_left_out():
    lenience = Lenience("shop", skip=True)
    with pytest.raises(LoosenedError):
        lenience.judge_loaded(troubles(NO_TOKENS + NO_PRICES, HEAD), HEAD, Server(), "new")
    lenience.begin()
    assert lenience.before == [
        'ALTER TABLE "public"."tokens" DROP CONSTRAINT IF EXISTS "fresh one"',
        'ALTER FUNCTION "public"."gen"(integer) SET search_path = pg_catalog, "public"',
    ]
    assert lenience.after == [
        'ALTER TABLE "public"."tokens" ADD CONSTRAINT "fresh one" CHECK ((expires > now())) NOT VALID',
        'ALTER FUNCTION "public"."gen"(integer) RESET search_path',
    ]
    assert [one["outcome"] for one in lenience.objects] == ["not_valid", "mended"]
    # What was loosened, and is in the way once more, is not loosened for ever.
    with pytest.raises(UnrestorableError):
        lenience.judge_loaded(troubles(NO_TOKENS, HEAD), HEAD, Server(), "new")


@pytest.mark.parametrize("skip", [True, False])
def test_rows_that_nothing_helps_stop_every_restore(skip):
    [trouble] = troubles(NO_PRICES.replace("public.gen(integer)", "elsewhere()"), HEAD)
    with pytest.raises(UnrestorableError) as caught:
        Lenience("shop", skip=skip).judge_loaded([trouble], HEAD, Server(), "new")
    assert "on_error=skip" not in caught.value.message


def test_a_drill_is_not_red_for_what_lies_in_another_database():
    lenience = Lenience("shop", skip=False, alone=True)
    lenience.judge_finished([STALE], HEAD, Server(refuses=["REFRESH"], sqlstate="08001"), "new")
    assert [one["outcome"] for one in lenience.objects] == ["unreachable"]
    assert "a drill has only this one" in in_words(lenience.objects[0])
    with pytest.raises(UnrestorableError):
        lenience.judge_finished([STALE], HEAD, Server(refuses=["REFRESH"]), "new")


def test_a_restore_beside_others_is_red_for_it():
    with pytest.raises(UnrestorableError):
        Lenience("shop", skip=False).judge_finished([STALE], HEAD, Server(refuses=["REFRESH"], sqlstate="08001"), "new")


def test_only_two_words_are_known():
    assert RestoreRequest("c").on_error == "stop"
    with pytest.raises(UsageError, match="on_error"):
        RestoreRequest("c", on_error="ignore")


# -- databases that need each other ------------------------------------------------------------------------


def plan(name, reaches_out=False, exists=True):
    return SimpleNamespace(database=name, reaches_out=reaches_out, exists=exists)


def test_those_that_read_from_others_come_after_them():
    assert [one.database for one in in_order([plan("a", True), plan("b"), plan("c", True), plan("d")])] == [
        "b",
        "d",
        "a",
        "c",
    ]


def outcome(name, ok=False, objects=True):
    failure = None if ok else Failure("restore_failed", "cannot reach another")
    lost = [{"object": "mv", "cause": "", "mend": None, "outcome": "failed"}]
    return DatabaseRestore(name, "ab", ok, objects=lost if objects and not ok else [], error=failure)


def again(monkeypatch, outcomes, plans, comes_back, *, throwaway=False):
    """What is tried once more, each with whether it goes on alone; what the result is then, and what is made at the end."""
    restore = Restore(Tools(None, None, None, None, nobody, threading.Event()))
    tried, server = [], Server()

    def attempt(flight):
        tried.append((flight.plan.database, flight.alone))
        done = outcome(flight.plan.database, ok=flight.alone or comes_back(flight.plan.database, tried))
        if flight.alone:
            done.unreachable = ["REFRESH MATERIALIZED VIEW mv"]
            done.objects = [{"object": "mv", "cause": "", "mend": None, "outcome": "unreachable"}]
            result.warnings.append(in_words(done.objects[0]))
        return done

    def take_off(_result, one, _number, *, alone):
        return SimpleNamespace(plan=one, outcome=DatabaseRestore(one.database, "ab"), alone=alone)

    monkeypatch.setattr(restore, "_restore", attempt)
    monkeypatch.setattr(restore, "_take_off", take_off)
    monkeypatch.setattr(restore, "_postgres", lambda *_arguments: server)
    request = SimpleNamespace(into="c", throwaway=throwaway)
    result = RestoreResult("r", SimpleNamespace(databases=plans, request=request, cluster=None), list(outcomes))
    restore._again(result, result.plan)
    return tried, result, server.done


def test_databases_that_need_others_come_back_whatever_the_order(monkeypatch):
    plans = [plan("a", True), plan("b", True), plan("c")]
    outcomes = [outcome("a"), outcome("b"), outcome("c", ok=True)]
    # The first needs the second, which needs the third.
    tried, result, made = again(monkeypatch, outcomes, plans, lambda name, tried: name == "b" or ("b", False) in tried)
    assert tried == [("a", False), ("b", False), ("a", False)]
    assert all(one.ok for one in result.databases)
    assert made == []


def test_databases_that_need_each_other_come_back_and_get_what_they_read_at_the_end(monkeypatch):
    plans = [plan("a", True), plan("b", True)]
    tried, result, made = again(monkeypatch, [outcome("a"), outcome("b")], plans, lambda *_arguments: False)
    assert tried == [("a", True), ("b", True)]
    assert all(one.ok and not one.objects for one in result.databases)
    assert made == ["REFRESH MATERIALIZED VIEW mv"] * 2
    assert result.warnings == []


@pytest.mark.parametrize("dropped_first", [False, True])
def test_a_database_that_reads_from_itself_comes_back_where_it_is_not(monkeypatch, dropped_first):
    failed = outcome("a")
    failed.dropped_first = dropped_first
    plans = [plan("a", True, exists=dropped_first)]
    tried, result, made = again(monkeypatch, [failed], plans, lambda *_arguments: False)
    assert tried == [("a", True)]
    assert made == ["REFRESH MATERIALIZED VIEW mv"]
    assert all(one.ok and not one.objects for one in result.databases)


def test_what_cannot_be_made_at_the_end_either_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        Server, "alter", lambda *_arguments: (_ for _ in ()).throw(PostgresError("nobody there", "08001"))
    )
    _tried, result, _made = again(
        monkeypatch, [outcome("a"), outcome("b", ok=True)], [plan("a", True), plan("b")], lambda *_arguments: False
    )
    [failed] = [one for one in result.databases if not one.ok]
    assert failed.error.code == "restore_incomplete"
    assert "restored and live, but objects that read from other databases" in failed.error.message


def test_a_throwaway_server_has_no_other_database_and_that_is_no_failure(monkeypatch):
    monkeypatch.setattr(
        Server, "alter", lambda *_arguments: (_ for _ in ()).throw(PostgresError("nobody there", "08001"))
    )
    _tried, result, _made = again(
        monkeypatch, [outcome("a")], [plan("a", True, exists=False)], lambda *_arguments: False, throwaway=True
    )
    assert [(one.ok, [lost["outcome"] for lost in one.objects]) for one in result.databases] == [
        (True, ["unreachable"])
    ]


@pytest.mark.parametrize(
    ("outcomes", "plans"),
    [
        # It reads from nowhere; its archive is what failed; there is no other, and it finds itself as it was.
        ([outcome("a"), outcome("b", ok=True)], [plan("a"), plan("b")]),
        ([outcome("a", objects=False), outcome("b", ok=True)], [plan("a", True), plan("b")]),
        ([outcome("a")], [plan("a", True)]),
    ],
)
def test_what_others_cannot_help_is_not_tried_again(monkeypatch, outcomes, plans):
    tried, _result, _made = again(monkeypatch, outcomes, plans, lambda *_arguments: True)
    assert tried == []


def test_trying_again_ends_when_nothing_more_comes_back(monkeypatch):
    plans = [plan("a", True), plan("b")]
    tried, _result, _made = again(monkeypatch, [outcome("a"), outcome("b", ok=True)], plans, lambda *_arguments: False)
    assert tried == [("a", False), ("a", True)]

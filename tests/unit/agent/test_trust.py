# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose code a restore runs, and who gains by it: told before it begins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore import trust
from scalr_backup.core.archive.authors import authors
from scalr_backup.core.grammar import Membership, Setting
from scalr_backup.core.roles import Globals, MissingRoles, Role
from scalr_backup.tools.postgres.cluster import RolesOnTarget


def entry(desc, owner, defn=""):
    return SimpleNamespace(desc=desc, owner=owner, defn=defn)


def head(*entries, known=True):
    return SimpleNamespace(is_known=known, entries=entries, settings=(), unknown_properties=())


def table(*lines):
    """A table as pg_dump writes it, of the role ``tenant``."""
    return entry("TABLE", "tenant", "CREATE TABLE public.t (\n    " + ",\n    ".join(lines) + "\n);\n")


@pytest.mark.parametrize(
    "line",
    [
        "id integer DEFAULT public.evil() NOT NULL",
        "price numeric(10,2)",
        "CONSTRAINT positive CHECK ((price > (0)::numeric))",
        "CONSTRAINT known CHECK (((state)::text = ANY ((ARRAY['new'::character varying(9), 'evil('::character varying])::text[])))",
        "CONSTRAINT kind CHECK ((kind = ANY (ARRAY['a'::public.kind, 'b'::public.kind])))",
        'CONSTRAINT short CHECK ((char_length("Odd (name") <= 50) AND ("left"(name, 3) <> \'x\\\'::text))',
        "CONSTRAINT dated CHECK ((since <= now()) AND (EXTRACT(year FROM since) > (2000)::numeric))",
        "full_name text GENERATED ALWAYS AS (((first || ' '::text) || COALESCE(last, ''::text))) STORED",
        "words tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, body)) STORED",
        '"CHECK (evil())" text',
    ],
)
def test_what_every_table_has_is_nobodys_code(line):
    assert authors(head(table(line), entry("FUNCTION", "other"))) == frozenset()


@pytest.mark.parametrize(
    "line",
    [
        "CONSTRAINT c CHECK (public.evil(id))",
        'CONSTRAINT c CHECK (((id > 0) AND "Odd"."Evil ("(id)))',
        "CONSTRAINT c CHECK (public.length(name) > 0)",
        "CONSTRAINT c CHECK ((name OPERATOR(public.=) 'x'::public.citext))",
        "CONSTRAINT c CHECK ((lo_export(1, '/tmp/x'::text) = 1))",
        "CONSTRAINT c CHECK ((query_to_xml('SELECT evil()'::text, true, true, ''::text) IS NOT NULL))",
        "CONSTRAINT c CHECK ((name <> 'a\\'::text) AND evil('b'::text))",
        "CONSTRAINT c CHECK ((name <> E'a\\'b'::text) AND evil('b'::text))",
        "x integer GENERATED ALWAYS AS (public.evil(id)) STORED",
        "x integer GENERATED ALWAYS AS (public.evil(id))",
        "id integer\n)\nPARTITION BY RANGE (public.evil(id)",
    ],
)
def test_whoever_has_a_condition_that_calls_something_is_named_with_whoever_it_may_call(line):
    found = head(table(line), entry("FUNCTION", "other"), entry("VIEW", "third"))
    assert authors(found) == {"tenant", "other"}


def test_domains_casts_and_conditions_that_stand_apart_count():
    domain = entry("DOMAIN", "tenant", "CREATE DOMAIN public.d AS text\n\tCONSTRAINT c CHECK (public.evil(VALUE));\n")
    check = entry("CHECK CONSTRAINT", "tenant", "ALTER TABLE public.t\n    ADD CONSTRAINT c CHECK (public.evil(id));\n")
    for one in (domain, check):
        assert authors(head(one)) == {"tenant"}
    kind = entry(
        "TYPE", "x", "CREATE TYPE public.r AS RANGE (\n    subtype = integer,\n    canonical = public.evil\n);\n"
    )
    conversion = entry("CONVERSION", "x", "CREATE CONVERSION public.c FOR 'LATIN1' TO 'UTF8' FROM public.evil;\n")
    quoted = entry("CONVERSION", "x", "CREATE CONVERSION public.c FOR 'LATIN1' TO 'UTF8' FROM \"a b\".evil;\n")
    for one in (kind, conversion, quoted):
        assert authors(head(one, entry("FUNCTION", "other"))) == {"other"}
    for one in (
        entry("CONVERSION", "x", "CREATE CONVERSION public.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;\n"),
        entry("CAST", "", "CREATE CAST (public.a AS integer) WITH FUNCTION pg_catalog.int4(text);\n"),
    ):
        assert authors(head(one, entry("FUNCTION", "other"))) == set()
    assert (
        authors(head(entry("TYPE", "x", "CREATE TYPE public.e AS ENUM (\n    'a'\n);"), entry("FUNCTION", "o")))
        == set()
    )
    cast = entry("CAST", "", "CREATE CAST (public.a AS integer) WITH FUNCTION public.evil(public.a) AS IMPLICIT;\n")
    assert authors(head(cast, entry("FUNCTION", "other"))) == {"other"}
    assert (
        authors(head(entry("CAST", "", "CREATE CAST (public.a AS b) WITHOUT FUNCTION;"), entry("FUNCTION", "o")))
        == set()
    )


def test_of_an_unknown_format_whoever_could_have_code_has():
    found = head(entry("TABLE", "tenant", None), entry("FUNCTION", "other", None), entry("VIEW", "third"), known=False)
    assert authors(found) == {"tenant", "other"}


def test_superusers_and_who_restores_gain_nothing_and_are_not_named():
    code = table("CONSTRAINT c CHECK (public.evil(id))")
    functions = [entry("FUNCTION", one) for one in ("boss", "maker", "new_boss", "other")]
    target = RolesOnTarget(frozenset(), True, frozenset({"boss"}), "maker")
    missing = MissingRoles((Role("new_boss", superuser=True), Role("tenant")))
    owners = trust.code_of([head(code, *functions)], target, missing)
    assert owners == ("other", "tenant")
    [warning] = trust.code_warnings(owners, target)
    assert "as maker: other, tenant." in warning
    [warning] = trust.code_warnings(owners, RolesOnTarget(frozenset(), True, frozenset({"boss"}), "boss"))
    assert "as boss, a superuser: other, tenant." in warning
    assert list(trust.code_warnings((), target)) == []


def test_roles_that_may_do_anything_are_named():
    groups = ("pg_execute_server_program", "boss", "postgres", "readers")
    memberships = tuple(Membership(group, "app") for group in groups)
    target = RolesOnTarget(frozenset(), True, frozenset({"postgres"}), "postgres")
    superusers, members = trust.superuser_warnings(MissingRoles((Role("boss", superuser=True),), memberships), target)
    assert superusers.endswith("superusers: boss.")
    assert members.endswith(": app of boss, app of pg_execute_server_program, app of postgres.")
    assert list(trust.superuser_warnings(MissingRoles((Role("app"),), (Membership("app", "x"),)), target)) == []


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("session_preload_libraries", True),
        ("local_preload_libraries", True),
        ("dynamic_library_path", True),
        ("jit_provider", True),
        ("archive_command", True),
        ("extension_control_path", True),
        ("plperl.on_init", True),
        ("plperl.on_plperlu_init", True),
        ("pltcl.start_proc", True),
        ("pljava.classpath", True),
        ("Session_Preload_Libraries", True),
        ("search_path", False),
        ("work_mem", False),
        ("my.library", False),
    ],
)
def test_settings_that_name_code_are_named(name, loads):
    setting = Setting(name, ("x",))
    one = SimpleNamespace(settings=(SimpleNamespace(setting=setting),))
    role = Role("app", settings=(setting,))
    told = list(trust.setting_warnings([SimpleNamespace(database="shop")], [one], MissingRoles((role,))))
    assert len(told) == (2 if loads else 0)
    assert all(name in sentence for sentence in told)


def test_what_is_left_out_is_said():
    one = SimpleNamespace(unknown_properties=("DATABASE PROPERTIES shop (entry 7): it ends too early",))
    [told] = trust.unknown_property_warnings([SimpleNamespace(database="shop")], [one])
    assert "DATABASE PROPERTIES shop (entry 7)" in told
    assert "more" not in told
    many = SimpleNamespace(unknown_properties=tuple(f"COMMENT shop (entry {number}): x" for number in range(2000)))
    [told] = trust.unknown_property_warnings([SimpleNamespace(database="shop")], [many])
    assert "(entry 9): x, and 1,990 more." in told
    [told] = trust.unknown_statement_warnings(Globals({}, (), ("DROP ROLE", "DROP ROLE", "SELECT")))
    assert told.endswith("not run: DROP ROLE, SELECT.")
    assert list(trust.unknown_statement_warnings(Globals())) == []

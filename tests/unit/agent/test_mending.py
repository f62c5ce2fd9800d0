# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of rows, where it is defined, and what a restore never does without: by pg_dump's own statements."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore.lenience import Lenience, LoosenedError
from scalr_backup.core.archive.checks import violated_check
from scalr_backup.core.archive.mending import as_not_valid, is_unreachable, may_be_left_out, mend, needed, paths
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.errors import PostgresError, UnrestorableError
from scalr_backup.tools.postgres.failures import reporter_of


def entry(number, desc, tag, defn=None, namespace="public", dependencies=()):
    return SimpleNamespace(
        dump_id=number,
        desc=desc,
        tag=tag,
        defn=defn,
        namespace=namespace,
        tableoid=0,
        oid=number,
        dependencies=dependencies,
    )


def archive(*entries, is_known=True, server_version="17.6"):
    return SimpleNamespace(entries=entries, is_known=is_known, server_version=server_version)


def table(number, tag, *lines, after=""):
    body = ",\n".join(f"    {line}" for line in ("expires timestamp with time zone", *lines))
    return entry(number, "TABLE", tag, f"CREATE TABLE public.{tag} (\n{body}\n){after};\n")


def attached(number, parent, child):
    defn = f"ALTER TABLE ONLY public.{parent} ATTACH PARTITION public.{child} FOR VALUES IN (1);\n"
    return entry(number, "TABLE ATTACH", child, defn)


def unloaded(tag, words):
    return Trouble(entry(900, "TABLE DATA", tag), words, words)


def violates(tag, name):
    return unloaded(tag, f'ERROR:  new row for relation "{tag}" violates check constraint "{name}"')


def no_statement(_new, _statements):
    raise AssertionError("nothing is to be changed")


NOBODY = SimpleNamespace(alter=no_statement)
FRESH = "CONSTRAINT fresh CHECK ((expires > now()))"
ADD_FRESH = 'ADD CONSTRAINT "fresh" CHECK ((expires > now())) NOT VALID'
DROP_FRESH = 'DROP CONSTRAINT IF EXISTS "fresh"'


# -- conditions --------------------------------------------------------------------------------------------


def test_what_a_partition_has_of_its_partitioned_table_is_dropped_and_brought_back_there():
    root = table(1, "parted", FRESH, after="\nPARTITION BY LIST (id)")
    middle = table(2, "parted_1", FRESH, after="\nPARTITION BY LIST (id)")
    leaf = table(3, "parted_1_a", FRESH, "CONSTRAINT own CHECK ((expires > now()))")
    head = archive(root, middle, leaf, attached(4, "parted", "parted_1"), attached(5, "parted_1", "parted_1_a"))
    check = violated_check(violates("parted_1_a", "fresh"), head)
    assert check.drops[0] == f'ALTER TABLE "public"."parted" {DROP_FRESH}'
    assert check.adds == (f'ALTER TABLE "public"."parted" {ADD_FRESH}',)
    own = violated_check(violates("parted_1_a", "own"), head)
    assert own.drops == ('ALTER TABLE "public"."parted_1_a" DROP CONSTRAINT IF EXISTS "own"',)


def test_what_a_table_inherits_is_dropped_where_it_comes_from_first():
    parent = table(1, "parent", FRESH, "CONSTRAINT mine CHECK ((expires > now())) NO INHERIT")
    child = table(2, "child", FRESH, after='\nINHERITS (public.parent, "Other".mixin)')
    other = table(3, "child_2", after="\nINHERITS (public.parent)")
    head = archive(parent, child, other)
    check = violated_check(violates("child", "fresh"), head)
    assert check.drops == (f'ALTER TABLE "public"."parent" {DROP_FRESH}', f'ALTER TABLE "public"."child" {DROP_FRESH}')
    assert check.adds == (f'ALTER TABLE "public"."child" {ADD_FRESH}', f'ALTER TABLE "public"."parent" {ADD_FRESH}')
    assert violated_check(violates("child_2", "fresh"), head).adds == (f'ALTER TABLE "public"."parent" {ADD_FRESH}',)
    [own] = violated_check(violates("parent", "mine"), head).adds
    assert own.endswith("NO INHERIT NOT VALID")


def test_a_condition_of_a_domain_is_the_domains_or_its_bases():
    future = entry(
        1, "DOMAIN", "future",
        "CREATE DOMAIN public.future AS timestamp with time zone\n\tCONSTRAINT future_check CHECK ((VALUE > now()));\n",
    )  # fmt: skip
    soon = entry(2, "DOMAIN", "Soon", 'CREATE DOMAIN public."Soon" AS public.future;\n')
    head = archive(future, soon, table(3, "t"))
    for named in ("public.future", 'public."Soon"'):
        words = f'ERROR:  value for domain {named} violates check constraint "future_check"'
        check = violated_check(unloaded("t", words), head)
        assert check.drops == ('ALTER DOMAIN public.future DROP CONSTRAINT IF EXISTS "future_check"',)
        assert check.adds == (
            'ALTER DOMAIN public.future ADD CONSTRAINT "future_check" CHECK ((VALUE > now())) NOT VALID',
        )


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("t", 'ERROR:  new row for relation "t" violates check constraint "fresh"'),
        ("t", "FEHLER:  neue Zeile für Relation »t« verletzt Check-Constraint »fresh«"),
        ("t", "ERREUR:  la nouvelle ligne de la relation « t » viole la contrainte de vérification « fresh »"),
        ("fresh", 'ERROR:  new row for relation "fresh" violates check constraint "fresh"'),
        # A condition may be called like the table, or like a word of the sentence.
        ("other", 'ERROR:  new row for relation "other" violates check constraint "fresh"'),
    ],
)
def test_a_condition_is_found_by_its_name_in_any_language(tag, words):
    head = archive(table(1, tag, "CONSTRAINT other CHECK (true)", "CONSTRAINT violates CHECK (true)", FRESH))
    assert violated_check(unloaded(tag, words), head).adds == (f'ALTER TABLE "public"."{tag}" {ADD_FRESH}',)


def test_a_condition_may_go_on_over_lines_and_hold_parentheses_in_quotes():
    rest = "CHECK (\nCASE\n    WHEN (id > 0) THEN (expires > now())\n    ELSE (x <> ')'::text)\nEND)"
    head = archive(table(1, "t", f'CONSTRAINT "so (so" {rest}', FRESH))
    [add] = violated_check(violates("t", "so (so"), head).adds
    assert add == f'ALTER TABLE "public"."t" ADD CONSTRAINT "so (so" {rest} NOT VALID'


def test_each_condition_of_a_table_is_loosened_and_none_twice():
    head = archive(table(1, "two", "CONSTRAINT a CHECK (false)", "CONSTRAINT b CHECK (false)"))
    lenience = Lenience("shop", skip=True)
    for name in ("a", "b"):
        with pytest.raises(LoosenedError):
            lenience.judge_loaded([violates("two", name)], head, NOBODY, "new")
    assert [one.partition(" IF EXISTS ")[2] for one in lenience.before] == ['"a"', '"b"']
    assert [one["outcome"] for one in lenience.objects] == ["not_valid", "not_valid"]
    with pytest.raises(UnrestorableError):
        lenience.judge_loaded([violates("two", "a")], head, NOBODY, "new")


def test_what_several_partitions_have_in_common_is_loosened_once_and_told_of_each():
    head = archive(
        table(1, "parted", FRESH, after="\nPARTITION BY LIST (id)"), table(2, "p1", FRESH), table(3, "p2", FRESH),
        attached(4, "parted", "p1"), attached(5, "parted", "p2"),
    )  # fmt: skip
    lenience = Lenience("shop", skip=True)
    with pytest.raises(LoosenedError):
        lenience.judge_loaded([violates("p1", "fresh"), violates("p2", "fresh")], head, NOBODY, "new")
    assert lenience.after == [f'ALTER TABLE "public"."parted" {ADD_FRESH}']
    assert len(lenience.objects) == 2


# -- keys and functions ------------------------------------------------------------------------------------


KEY = entry(
    7, "FK CONSTRAINT", "parts parts_fk",
    "ALTER TABLE public.parts\n    ADD CONSTRAINT parts_fk FOREIGN KEY (c) REFERENCES public.customers(id);\n",
)  # fmt: skip
CHECK = entry(
    8, "CHECK CONSTRAINT", "parts ok", "ALTER TABLE public.parts\n    ADD CONSTRAINT ok CHECK (public.ok(p.*));\n"
)


@pytest.mark.parametrize(("version", "is_told"), [("17.6 (Debian)", False), ("18.1", True), ("9" * 5000, True)])
def test_no_sql_is_told_that_the_server_refuses(version, is_told):
    head = archive(table(1, "parts", after="\nPARTITION BY LIST (id)"), server_version=version)
    assert (mend(Trouble(KEY, "ERROR:  no"), head) is not None) is is_told
    assert mend(Trouble(KEY, "ERROR:  no"), archive(table(1, "parts"))) is not None


def test_a_check_that_is_made_after_the_data_can_be_not_valid_too():
    assert as_not_valid(CHECK) == "ALTER TABLE public.parts ADD CONSTRAINT ok CHECK (public.ok(p.*)) NOT VALID"


def test_the_name_of_a_function_is_quoted_and_its_arguments_are_not():
    rate = entry(
        1, "FUNCTION", "Rate(integer, numeric)", 'CREATE FUNCTION public."Rate"(n integer, x numeric) RETURNS int\n'
    )
    context = (
        'ERROR:  function base() does not exist\nCONTEXT:  PL/pgSQL function public."Rate"(integer,numeric) line 1'
    )
    [path] = paths(
        Trouble(entry(2, "TABLE DATA", "t"), "ERROR:  function base() does not exist", context), archive(rate)
    )
    assert path.set_path == 'ALTER FUNCTION "public"."Rate"(integer, numeric) SET search_path = pg_catalog, "public"'
    odd = entry(1, "FUNCTION", "a(b(integer)", 'CREATE FUNCTION public."a(b"(n integer) RETURNS integer\n')
    [path] = paths(Trouble(entry(2, "TABLE DATA", "t"), "ERROR:  no", 'SQL function "a(b" statement 1'), archive(odd))
    assert path.function == '"public"."a(b"(integer)'


def test_a_search_path_that_a_function_has_by_itself_is_not_taken_away():
    own = (
        "CREATE FUNCTION public.f() RETURNS int\n    LANGUAGE plpgsql\n    SET search_path TO 'shop'\n    AS $$ x $$;\n"
    )
    inside = (
        "CREATE FUNCTION public.f() RETURNS int\n    LANGUAGE plpgsql\n    AS $$\n    SET search_path TO shop $$;\n"
    )
    said = 'CONTEXT:  SQL function "f" statement 1'
    for defn, found in ((own, 0), (inside, 1)):
        head = archive(entry(1, "FUNCTION", "f()", defn))
        assert len(paths(Trouble(entry(2, "TABLE DATA", "t"), "ERROR:  no", said), head)) == found


def test_a_function_gets_its_search_path_back_where_it_did_not_help():
    view = entry(2, "MATERIALIZED VIEW DATA", "mv", "REFRESH MATERIALIZED VIEW public.mv;\n")
    done = []

    def alter(_new, statements):
        done.extend(statements)
        if "REFRESH MATERIALIZED VIEW public.mv" in statements:
            raise PostgresError("no", "42P01")

    lenience = Lenience("shop", skip=True)
    trouble = Trouble(view, "ERROR:  no", 'CONTEXT:  SQL function "f" statement 1')
    lenience.judge_finished([trouble], archive(entry(1, "FUNCTION", "f()")), SimpleNamespace(alter=alter), "new")
    assert [one["outcome"] for one in lenience.objects] == ["left_out"]
    assert done[-1].endswith("RESET search_path")


# -- what is never left out --------------------------------------------------------------------------------


LABEL = entry(3, "SECURITY LABEL", "VIEW late", "SECURITY LABEL FOR anon ON VIEW …;\n", dependencies=(1,))
TAKEN = entry(4, "ACL", "FUNCTION peek()", "REVOKE ALL ON FUNCTION public.peek() FROM PUBLIC;\n", dependencies=(2,))
GIVEN = entry(5, "ACL", "TABLE t", "GRANT SELECT ON TABLE public.t TO app;\n", dependencies=(9,))
LATE, PEEK = entry(1, "VIEW", "late"), entry(2, "FUNCTION", "peek()")


@pytest.mark.parametrize(
    "lost",
    [entry(1, "POLICY", "orders tenant"), entry(1, "ROW SECURITY", "orders"), LABEL, TAKEN],
    ids=["policy", "row_security", "label", "privileges"],
)
def test_who_may_see_what_is_never_left_out(lost):
    assert not may_be_left_out(lost)
    with pytest.raises(UnrestorableError) as caught:
        Lenience("shop", skip=True).judge_finished([Trouble(lost, "ERROR:  no")], archive(), NOBODY, "new")
    assert lost.tag in caught.value.message
    with pytest.raises(UnrestorableError) as caught:
        Lenience("shop", skip=False).judge_finished([Trouble(lost, "ERROR:  no")], archive(), NOBODY, "new")
    assert "on_error=skip" not in caught.value.message


def test_what_belongs_to_something_that_is_left_out_is_left_out_with_it():
    lenience = Lenience("shop", skip=True)
    found = [Trouble(one, "ERROR:  no") for one in (LATE, PEEK, LABEL, GIVEN)]
    lenience.judge_loaded(found, archive(), NOBODY, "new")
    lenience.judge_finished([Trouble(TAKEN, "ERROR:  no")], archive(), NOBODY, "new")
    assert [one["outcome"] for one in lenience.objects] == ["left_out"] * 5


def test_where_no_dependencies_are_known_it_is_known_by_its_name():
    label, other = (entry(3, "SECURITY LABEL", tag) for tag in ("VIEW late", "TABLE too late"))
    found = [Trouble(one, "ERROR:  no") for one in (LATE, label, other)]
    assert [one.entry for one in needed(found)] == [other]


# -- what lies somewhere else ------------------------------------------------------------------------------


def said(reporter, state="42P01"):
    return (
        f'psql:<stdin>:1: ERROR:  {state}: relation "own" does not exist\nKONTEXT:  entfernter SQL-Befehl: SELECT n FROM own\n'
        f"ORT:  {reporter}, connection.c:796\n"
    )


@pytest.mark.parametrize(
    ("reporter", "state", "is_it"),
    [
        ("pgfdw_report_error", "42P01", True),
        ("dblink_res_error", "42501", True),
        ("dblink_res_error", "3F000", True),
        ("pgfdw_report_error", "22012", False),
        ("parserOpenTable", "42P01", False),
        ("connect_pg_server", "08001", True),
    ],
)
def test_what_another_database_lacks_is_told_apart_from_what_this_one_lacks(reporter, state, is_it):
    assert reporter_of(said(reporter, state)) == reporter
    assert is_unreachable(state, reporter_of(said(reporter, state))) is is_it


def test_who_reports_is_not_taken_from_anything_but_the_last_word_on_an_error():
    text = said("parserOpenTable").replace("KONTEXT:", "DETAIL:  pgfdw_report_error, connection.c:1\nKONTEXT:")
    assert reporter_of(text) == "parserOpenTable"
    assert reporter_of("psql: error: connection failed") is None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles out of what the pg_dumpall of PostgreSQL 15, 17 and 18 really wrote, and out of pg_dump's real texts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, Section, TocEntry
from scalr_backup.core.roles import (
    Globals,
    GlobalsError,
    Membership,
    MissingRoles,
    Role,
    missing_roles,
    named_roles,
    needed_roles,
    parse_globals,
)
from scalr_backup.core.sql import quote_identifier

# cluster.sql beside them says what these clusters held.
SCRIPTS = {version: (Path(__file__).parent / f"globals/postgres-{version}.sql").read_text() for version in (15, 17, 18)}
NAMES = [
    "-- no comment",
    "Größe ; \"q\" 'x'",
    "\\restrict",
    "a\nb",
    "app",
    "granter",
    "md5",
    "plain",
    "postgres",
    "reader",
    "select",
]


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> str:
    return SCRIPTS[request.param]


@pytest.fixture
def cluster(script: str) -> Globals:
    return parse_globals(script)


def head_of(*entries: TocEntry) -> ArchiveHead:
    now = datetime(2026, 12, 31)  # noqa: DTZ001
    return ArchiveHead((1, 16, 0), "none", now, "shop", "17.6", "17.6", entries, 4711)


def entry(desc: str, defn: str | None = None, owner: str = "") -> TocEntry:
    return TocEntry(
        dump_id=1,
        had_dumper=False,
        tableoid=0,
        oid=0,
        tag="t",
        desc=desc,
        section=Section.PRE_DATA,
        defn=defn,
        drop_stmt=None,
        copy_stmt=None,
        namespace="public",
        tablespace=None,
        tableam=None,
        relkind="",
        owner=owner,
        dependencies=(),
        data_position=None,
    )


def name_in(desc: str, defn: str) -> set[str]:
    return set(named_roles(head_of(entry(desc, defn))))


def simple(*roles: str, members: str = "") -> Globals:
    """A cluster of these roles; *members* reads like ``group>member group>member``."""
    pairs = [pair.split(">") for pair in members.split()]
    return parse_globals(
        "".join(f"CREATE ROLE {name};\nALTER ROLE {name} WITH NOLOGIN;\n" for name in roles)
        + "".join(f"GRANT {group} TO {member} GRANTED BY postgres;\n" for group, member in pairs)
    )


class TestWhatPgDumpallWrites:
    def test_every_role_and_nothing_that_only_looks_like_one(self, cluster: Globals) -> None:
        assert list(cluster.roles) == NAMES
        assert cluster.not_understood == ()

    def test_each_role_is_made_and_then_gets_its_attributes_and_its_password(self, cluster: Globals) -> None:
        for name, role in cluster.roles.items():
            create, attributes, *password = role.definition
            assert role.name == name
            assert create.startswith("CREATE ROLE ")
            assert attributes.startswith("ALTER ROLE ")
            assert " WITH " in attributes
            # Attributes may be refused and logged: no password is among them.
            assert "PASSWORD" not in attributes
            assert [" WITH PASSWORD '" in one for one in password] in ([], [True])

    def test_attributes(self, cluster: Globals) -> None:
        (create, alter, password) = cluster.roles["app"].definition
        assert create == 'CREATE ROLE "app";'
        assert alter == (
            "ALTER ROLE \"app\" WITH INHERIT CREATEDB LOGIN CONNECTION LIMIT 7 VALID UNTIL '2030-01-02 03:04:05+00';"
        )
        assert password.startswith('ALTER ROLE "app" WITH PASSWORD \'SCRAM-SHA-256$4096:')
        assert password.endswith("';")

    def test_only_a_superuser_needs_a_superuser(self, cluster: Globals) -> None:
        # A user with CREATEROLE may make roles, and may not say NOSUPERUSER.
        for role in cluster.roles.values():
            assert ("SUPERUSER" in "".join(role.definition)) is role.superuser

    def test_who_is_a_superuser_and_who_logs_in(self, cluster: Globals) -> None:
        assert [name for name, role in cluster.roles.items() if role.superuser] == ["postgres"]
        assert [name for name, role in cluster.roles.items() if role.login] == ["app", "postgres"]

    def test_names_with_anything_in_them(self, cluster: Globals) -> None:
        assert cluster.roles["a\nb"].definition[0] == 'CREATE ROLE "a\nb";'
        assert cluster.roles["Größe ; \"q\" 'x'"].properties == ('COMMENT ON ROLE "Größe ; ""q"" \'x\'" IS \'ä\';',)

    def test_properties(self, cluster: Globals) -> None:
        role = cluster.roles["app"]
        assert role.properties == (
            "COMMENT ON ROLE \"app\" IS E'line one;\nCREATE ROLE evil;\n-- it''s \"quoted\" \\\\ back';",
            "ALTER ROLE \"app\" SET \"search_path\" TO 'shop', 'A b', 'public';",
            "ALTER ROLE \"app\" SET \"application_name\" TO E'a;b\n''c''\\\\d';",
            'ALTER ROLE "app" SET "my.setting" TO \'GRANT "x" TO y;\';',
            'GRANT ALTER SYSTEM ON PARAMETER "my.setting" TO "app" WITH GRANT OPTION;',
        )
        assert role.statements == role.definition + role.properties

    def test_privileges_on_parameters_whoever_granted_them(self, cluster: Globals) -> None:
        assert cluster.roles["reader"].properties == (
            'GRANT SET ON PARAMETER "log_statement" TO "reader";',
            'GRANT ALTER SYSTEM ON PARAMETER "my.setting" TO "reader";',
        )

    def test_memberships_of_15(self) -> None:
        memberships = parse_globals(SCRIPTS[15]).memberships
        assert [(one.role, one.member, one.grantor, one.admin) for one in memberships] == [
            ("app", "a\nb", "postgres", False),
            ("pg_read_all_data", "reader", "postgres", False),
            ("plain", "a\nb", "granter", False),
            ("plain", "granter", "postgres", True),
            ("plain", "select", "granter", False),
            ("reader", "Größe ; \"q\" 'x'", "postgres", True),
            ("reader", "app", "postgres", False),
        ]
        assert memberships[3].statement == 'GRANT "plain" TO "granter" WITH ADMIN OPTION GRANTED BY "postgres";'
        assert memberships[3].without_grantor == 'GRANT "plain" TO "granter" WITH ADMIN OPTION;'

    @pytest.mark.parametrize("version", [17, 18])
    def test_memberships_since_16(self, version: int) -> None:
        memberships = parse_globals(SCRIPTS[version]).memberships
        assert len(memberships) == 8
        last = memberships[-1]
        assert (last.role, last.member, last.admin) == ("reader", "md5", True)
        assert last.statement == (
            'GRANT "reader" TO "md5" WITH ADMIN OPTION, INHERIT FALSE, SET FALSE GRANTED BY "postgres";'
        )
        assert last.without_grantor == 'GRANT "reader" TO "md5" WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;'

    def test_passwords_are_in_the_statements_and_in_no_repr(self, cluster: Globals) -> None:
        missing = missing_roles(cluster, [], cluster.roles)
        assert "SCRAM-SHA-256$" in "".join(cluster.roles["app"].statements)
        for shown in (repr(cluster), repr(missing), str(cluster.roles["app"])):
            assert "SCRAM" not in shown
            assert "md5185" not in shown
        assert "name='app'" in repr(cluster)


class TestWhatElseAServerMayWrite:
    def test_nothing(self) -> None:
        assert parse_globals("") == Globals()

    def test_a_security_label(self) -> None:
        script = "CREATE ROLE app;\nSECURITY LABEL FOR dummy ON ROLE app IS 'a;b';\n"
        assert parse_globals(script).roles["app"].properties == (
            'SECURITY LABEL FOR "dummy" ON ROLE "app" IS \'a;b\';',
        )

    def test_tablespaces_are_left_out(self) -> None:
        script = (
            "CREATE TABLESPACE t OWNER app LOCATION '/x';\n"
            "ALTER TABLESPACE t SET (random_page_cost=1.1);\n"
            "REVOKE ALL ON TABLESPACE t FROM app;\n"
            "SET SESSION AUTHORIZATION app;\n"
            "GRANT ALL ON TABLESPACE t TO app WITH GRANT OPTION;\n"
            "RESET SESSION AUTHORIZATION;\n"
            "COMMENT ON TABLESPACE t IS 'x';\n"
            "SECURITY LABEL FOR dummy ON TABLESPACE t IS 'x';\n"
        )
        assert parse_globals(script) == Globals()

    def test_a_membership_whose_grantor_is_gone(self) -> None:
        (membership,) = parse_globals('GRANT a TO "B c" WITH ADMIN OPTION;').memberships
        assert membership == Membership("a", "B c", ("ADMIN OPTION",))
        assert membership.admin
        assert membership.statement == membership.without_grantor == 'GRANT "a" TO "B c" WITH ADMIN OPTION;'

    def test_a_name_that_reads_like_a_grantor(self) -> None:
        script = 'GRANT a TO "x GRANTED BY y" GRANTED BY " GRANTED BY y";'
        (membership,) = parse_globals(script).memberships
        assert membership.grantor == " GRANTED BY y"
        assert membership.without_grantor == 'GRANT "a" TO "x GRANTED BY y";'

    @pytest.mark.parametrize(
        ("statement", "beginning"),
        [
            ("DROP ROLE app;", "DROP ROLE"),
            ("ALTER ROLE app RENAME TO b;", "ALTER ROLE"),
            ("ALTER ROLE nobody WITH SUPERUSER PASSWORD 'hash';", "ALTER ROLE"),
            ("ALTER ROLE nobody SET x TO 'y';", "ALTER ROLE"),
            ("ALTER ROLE app IN DATABASE d SET x TO 'y';", "ALTER ROLE"),
            ("CREATE ROLE app;", "CREATE ROLE"),
            ("CREATE ROLE b SUPERUSER;", "CREATE ROLE"),
            ("GRANT ALL ON TABLE t TO app;", "GRANT ALL"),
            ("GRANT postgres TO app WITH SET TRUE, SUPERUSER TRUE;", "GRANT"),
            ("GRANT SET ON PARAMETER x TO nobody;", "GRANT SET"),
            ("GRANT ALL ON PARAMETER x TO app CASCADE;", "GRANT ALL"),
            ("COMMENT ON ROLE app IS 'x' 'y';", "COMMENT ON"),
            ("COMMENT ON DATABASE app IS 'x';", "COMMENT ON"),
            ("ALTER ROLE app SET x TO y;", "ALTER ROLE"),
            ("ALTER ROLE app SET x TO 'y' \0;", "ALTER ROLE"),
            ("COMMENT ON ROLE app IS 'half a \ud83d';", "COMMENT ON"),
            ('CREATE ROLE "half a \ud83d";', "CREATE ROLE"),
            ("ALTER ROLE app WITH PASSWORD hash;", "ALTER ROLE"),
            ("ALTER ROLE app WITH LOGIN :x;", "ALTER ROLE"),
            ("ALTER ROLE app WITH CONNECTION LIMIT 1e3;", "ALTER ROLE"),
            ("SELECT 1;", "SELECT"),
            ("select 1;", "a statement without a keyword"),
        ],
    )
    def test_what_is_not_known_is_told_and_never_run(self, statement: str, beginning: str) -> None:
        found = parse_globals(f"CREATE ROLE app;\n{statement}\n")
        assert found.roles == {"app": Role("app", ('CREATE ROLE "app";',))}
        assert found.memberships == ()
        assert found.not_understood == (beginning,)

    def test_an_attribute_that_only_a_newer_server_knows_costs_no_other(self) -> None:
        found = parse_globals("CREATE ROLE app;\nALTER ROLE app WITH LOGIN NEWFANGLED CREATEDB;\n")
        assert found.roles["app"].definition == ('CREATE ROLE "app";', 'ALTER ROLE "app" WITH LOGIN CREATEDB;')
        assert found.not_understood == ("ALTER ROLE NEWFANGLED",)

    @pytest.mark.parametrize("script", ["ALTER ROLE a WITH PASSWORD 'hash", 'CREATE ROLE "hash', "CREATE ROLE hash"])
    def test_a_script_that_ends_too_early(self, script: str) -> None:
        with pytest.raises(GlobalsError, match=r"^The roles of the backed-up cluster cannot be read: .*\.$") as raised:
            parse_globals(script)
        assert "hash" not in raised.value.message
        assert raised.value.__cause__ is None

    @given(st.data())
    def test_no_beginning_of_a_script_makes_other_roles(self, data: st.DataObject) -> None:
        script = SCRIPTS[17]
        whole = parse_globals(script)
        try:
            part = parse_globals(script[: data.draw(st.integers(0, len(script)))])
        except GlobalsError:
            return
        assert list(part.roles) == list(whole.roles)[: len(part.roles)]
        for name, role in part.roles.items():
            assert whole.roles[name].statements[: len(role.statements)] == role.statements

    @given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
    def test_any_name(self, name: str) -> None:
        quoted = quote_identifier(name)
        found = parse_globals(f"CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH LOGIN;\nGRANT {quoted} TO x;\n")
        assert found.roles[name].login
        assert [(one.role, one.member) for one in found.memberships] == [(name, "x")]


class TestNamedRoles:
    """The texts are those of the archives of PostgreSQL 15, 17 and 18."""

    def test_owners(self) -> None:
        assert named_roles(head_of(entry("TABLE", owner="app"), entry("EXTENSION"))) == {"app"}

    @pytest.mark.parametrize(
        ("defn", "names"),
        [
            ("GRANT CONNECT ON DATABASE shop TO granter;\n", {"granter"}),
            ('GRANT ALL ON FOREIGN SERVER s TO "\\restrict";\n', {"\\restrict"}),
            ('GRANT ALL ON TABLE public.t TO "a\nb";\nGRANT ALL ON TABLE public.t TO PUBLIC;\n', {"a\nb"}),
            ("REVOKE ALL ON TABLE public.t FROM app;\n", {"app"}),
            ('GRANT SELECT(id),UPDATE("TO") ON TABLE public.t TO reader WITH GRANT OPTION;\n', {"reader"}),
            (
                "SET SESSION AUTHORIZATION reader;\n"
                'GRANT SELECT(id) ON TABLE public."x TO y" TO "select";\n'
                "RESET SESSION AUTHORIZATION;\n",
                {"reader", "select"},
            ),
            ("GRANT ALL ON FUNCTION public.f(a integer, b text) TO pg_monitor;\n", {"pg_monitor"}),
        ],
    )
    def test_privileges(self, defn: str, names: set[str]) -> None:
        assert name_in("ACL", defn) == names

    @pytest.mark.parametrize(
        ("defn", "names"),
        [
            (
                'ALTER DEFAULT PRIVILEGES FOR ROLE granter IN SCHEMA public GRANT SELECT ON TABLES  TO "G ; ""q""";\n',
                {"granter", 'G ; "q"'},
            ),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE plain REVOKE ALL ON FUNCTIONS FROM PUBLIC;\n", {"plain"}),
        ],
    )
    def test_default_privileges(self, defn: str, names: set[str]) -> None:
        assert name_in("DEFAULT ACL", defn) == names

    @pytest.mark.parametrize(
        ("defn", "names"),
        [
            (
                'CREATE POLICY p ON public.t FOR SELECT TO "-- no comment", md5, c USING (((EXTRACT(year FROM at) >'
                " (5)::numeric) AND (who = SUBSTRING(CURRENT_USER FROM 2)) AND (who <> 'TO nobody'::text)));\n",
                {"-- no comment", "md5", "c"},
            ),
            (
                "CREATE POLICY \"q TO x\" ON public.t USING (true) WITH CHECK ((TRIM(BOTH FROM who) = 'x'::text));\n",
                set(),
            ),
            ("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;\n", set()),
        ],
    )
    def test_policies(self, defn: str, names: set[str]) -> None:
        assert name_in("POLICY", defn) == names

    def test_settings_of_a_role_in_the_database(self) -> None:
        defn = (
            "ALTER DATABASE shop SET search_path TO 'ROLE', 'evil';\n"
            "ALTER ROLE \"select\" IN DATABASE shop SET work_mem TO '9MB';\n"
            "ALTER ROLE md5 IN DATABASE shop SET search_path TO 'TO', 'ALTER ROLE app';\n"
        )
        assert name_in("DATABASE PROPERTIES", defn) == {"select", "md5"}

    def test_user_mappings(self) -> None:
        mapping = "CREATE USER MAPPING FOR {} SERVER s OPTIONS (\n    password 'FOR evil',\n    \"user\" 'u'\n);\n"
        assert name_in("USER MAPPING", mapping.format("app")) == {"app"}
        assert name_in("USER MAPPING", mapping.format("public")) == set()

    def test_no_other_text_is_read(self) -> None:
        assert name_in("FUNCTION", "CREATE FUNCTION f() AS $$ it's TO app $$;\n") == set()
        assert name_in("COMMENT", "COMMENT ON TABLE t IS 'TO app';\n") == set()

    def test_a_text_that_pg_dump_does_not_write(self) -> None:
        with pytest.raises(ArchiveError, match=r"roles that USER MAPPING public\.t \(entry 1\) names cannot") as raised:
            name_in("USER MAPPING", "CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'hush")
        assert "hush" not in str(raised.value)
        assert raised.value.offset == 4711


class TestNeededRoles:
    def test_what_belongs_together_however_indirectly(self) -> None:
        source = simple("a", "b", "c", "d", "e", "f", members="a>b b>c d>b e>f")
        assert needed_roles(source, head_of(entry("TABLE", owner="b"))) == {"a", "b", "c", "d"}

    def test_in_a_circle_of_names(self) -> None:
        assert needed_roles(simple("a", "b", members="a>b b>a"), head_of(entry("TABLE", owner="a"))) == {"a", "b"}

    def test_postgresqls_own_roles_connect_nobody(self) -> None:
        source = simple("a", "b", members="pg_monitor>a pg_monitor>b")
        assert needed_roles(source, head_of(entry("TABLE", owner="a"))) == {"a"}
        owned = head_of(entry("SCHEMA", owner="pg_database_owner"), entry("TABLE", owner="pg_monitor"))
        assert needed_roles(source, owned) == {"pg_database_owner", "pg_monitor"}

    def test_without_a_record_of_the_roles(self) -> None:
        assert needed_roles(Globals(), head_of(entry("TABLE", owner="a"))) == {"a"}

    def test_of_a_real_cluster(self, cluster: Globals) -> None:
        needed = needed_roles(cluster, head_of(entry("TABLE", owner="plain")))
        assert {"plain", "granter", "select", "a\nb", "app", "reader"} <= needed
        assert not needed & {"postgres", "pg_read_all_data", "-- no comment", "\\restrict"}


class TestMissingRoles:
    def test_none(self, cluster: Globals) -> None:
        assert missing_roles(cluster, cluster.roles, cluster.roles) == MissingRoles()

    def test_into_an_empty_cluster(self, cluster: Globals) -> None:
        missing = missing_roles(cluster, ["postgres", "pg_read_all_data"], cluster.roles)
        assert missing.names == tuple(name for name in NAMES if name != "postgres")
        assert len(missing.memberships) == len(cluster.memberships)
        assert missing.unknown == ()

    def test_each_grantor_gets_his_right_before_he_uses_it(self, cluster: Globals) -> None:
        memberships = missing_roles(cluster, ["postgres", "pg_read_all_data"], cluster.roles).memberships
        of_plain = [one.member for one in memberships if one.role == "plain"]
        assert of_plain[0] == "granter"
        assert sorted(of_plain[1:]) == ["a\nb", "select"]

    def test_only_what_is_wanted_and_not_there(self) -> None:
        source = simple("a", "b", "c")
        assert missing_roles(source, ["a"], ["a", "c"]).names == ("c",)

    def test_memberships_of_new_roles_only_and_of_both_sides_that_are_there(self) -> None:
        source = simple("a", "b", "c", "d", members="a>b a>c c>d pg_monitor>c pg_gone>c")
        missing = missing_roles(source, ["a", "b", "pg_monitor"], ["c"])
        assert [(one.role, one.member) for one in missing.memberships] == [("a", "c"), ("pg_monitor", "c")]

    def test_nobody_can_make_these(self) -> None:
        missing = missing_roles(simple("a"), ["pg_monitor"], ["z", "a", "pg_monitor", "pg_new", "b"])
        assert missing.names == ("a",)
        assert missing.unknown == ("b", "pg_new", "z")

    def test_grantors_in_a_circle(self) -> None:
        source = parse_globals(
            "CREATE ROLE r;\nCREATE ROLE a;\nCREATE ROLE b;\n"
            "GRANT r TO a WITH ADMIN OPTION GRANTED BY b;\nGRANT r TO b WITH ADMIN OPTION GRANTED BY a;\n"
        )
        assert missing_roles(source, [], source.roles).memberships == source.memberships

# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of a PostgreSQL that is newer than the agent: it is saved on every other proof, and restored by pg_restore."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup import producer
from scalr_backup.actions.backup.outlet import Outlet
from scalr_backup.actions.restore.extensions import creations_at_home
from scalr_backup.actions.restore.lenience import Lenience, LoosenedError
from scalr_backup.core.archive.head import ArchiveError, UnknownFormatError
from scalr_backup.core.archive.listing import parse_listing, wanted_of_script, with_statements
from scalr_backup.core.archive.mending import as_not_valid
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.errors import (
    DockerUnreachableError,
    DumpError,
    PostgresError,
    UnreadableArchiveError,
    UnrestorableError,
)
from scalr_backup.core.roles import named_roles
from scalr_backup.tools.docker.exec_stream import STDOUT

NEWER = b"PGDMP" + bytes((1, 17, 0, 4, 8, 1)) + b"what nobody knows yet"


def integer(value):
    return struct.pack("<BI", 0, value)


class Dump:
    """pg_dump's exec: its output in pieces, and its exit code."""

    def __init__(self, *pieces, exit_code=0):
        self.pieces = pieces
        self.exit_code = exit_code

    def frames(self, _waiting=None):
        for piece in self.pieces:
            yield STDOUT, piece

    def wait(self):
        return self.exit_code

    def how_it_ended(self, _said):
        return f"pg_dump ended with exit code {self.exit_code}"


class Look:
    """The container's own pg_restore, which reads it all or complains."""

    def __init__(self, verdict=True):
        self.verdict = verdict
        self.fed = b""

    def feed(self, data):
        self.fed += data

    def close(self):
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def produce(dump, look):
    read_end, write_end = os.pipe()
    try:
        return producer.produce(dump, Outlet(write_end), lambda: look)
    finally:
        os.close(write_end)
        os.close(read_end)


class TestADump:
    def test_of_an_unknown_version_is_whole_when_pg_dump_and_pg_restore_say_so(self):
        look = Look()
        report = produce(Dump(NEWER[:7], NEWER[7:], b"rows"), look)
        assert look.fed == NEWER + b"rows"
        assert (report.bytes, report.head_bytes, report.error) == (len(NEWER) + 4, 0, None)
        assert "version is 1.17.0" in report.unchecked

    def test_that_pg_restore_cannot_read_to_its_end_is_not(self):
        with pytest.raises(DumpError, match="unexpected end of file"):
            produce(Dump(NEWER), Look(UnreadableArchiveError("unexpected end of file")))

    def test_whose_pg_dump_failed_is_not(self):
        with pytest.raises(DumpError, match="exit code 1"):
            produce(Dump(NEWER, exit_code=1), Look())

    def test_where_there_is_no_pg_restore_is_saved_and_that_is_said(self):
        assert "no pg_restore" in produce(Dump(NEWER), Look(verdict=False)).unchecked

    def test_where_pg_restore_cannot_be_started_is_saved_and_that_is_said(self):
        def refuse():
            raise DockerUnreachableError("no exec")

        read_end, write_end = os.pipe()
        report = producer.produce(Dump(NEWER), Outlet(write_end), refuse)
        os.close(write_end)
        os.close(read_end)
        assert "cannot check it either: no exec" in report.unchecked

    @pytest.mark.parametrize("data", [b"--\n-- PostgreSQL database dump\n", b"PGDMP\x01\x10\x00\x04\x08\x01\x00"])
    def test_that_is_no_archive_or_ends_early_in_a_known_format_is_no_backup(self, data):
        with pytest.raises(DumpError):
            produce(Dump(data), Look())

    def test_of_a_known_format_is_read_by_nobody_else(self):
        reader = ArchiveReader()
        with pytest.raises(UnknownFormatError):
            reader.feed(NEWER)
        assert reader.buffered == NEWER


LISTING = """;
; Archive created at 2026-11-29 06:04:39 UTC
;     dbname: shop
;     Dump Version: 1.17-0
;     Dumped from database version: 19.0 (Debian 19.0-1)
;     Dumped by pg_dump version: 19.0 (Debian 19.0-1)
;
3358; 1262 16386 DATABASE - shop app
3359; 0 0 COMMENT - DATABASE shop app
3360; 0 0 DATABASE PROPERTIES - shop app
215; 1259 16388 TABLE public t of many words app
3362; 0 0 ACL public TABLE t app
3: 3079 16385 no entry at all
2; 3079 16385 EXTENSION - pgcrypto 
3399; 0 0 COMMENT - EXTENSION pgcrypto 
3349; 0 16388 TABLE DATA public t app
3364; 0 0 SEQUENCE SET public t_id_seq app
3365; 9999 1 PROPERTY GRAPH public g other
3204; 2606 16395 CONSTRAINT public t t_pkey app
3269; 2606 16967 FK CONSTRAINT public B F k app
3270; 2606 16968 FK CONSTRAINT public parts parts_fk app
3414; 0 16955 MATERIALIZED VIEW DATA public mv app
3415; 0 0 SECURITY LABEL public TABLE t app
"""  # noqa: W291 (an extension has no owner)
SCRIPT = r"""
\restrict xyz
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
-- Name: shop; Type: DATABASE; Schema: -; Owner: app
CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';
ALTER DATABASE shop OWNER TO "the owner";
\connect shop
COMMENT ON DATABASE shop IS 'it''s; a \ comment
-- ALTER DATABASE shop OWNER TO x;';
ALTER DATABASE shop SET work_mem TO '8MB';
ALTER ROLE app IN DATABASE shop SET search_path TO 'x';
GRANT CONNECT ON DATABASE shop TO reader;
SELECT pg_catalog.setval('public."It''s"', 1000, true);
GRANT SELECT ON TABLE public.t TO "my role";
CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA public;
ALTER TABLE ONLY public."B"
    ADD CONSTRAINT "F k" FOREIGN KEY (a) REFERENCES public.a(id);
ALTER TABLE public.parts
    ADD CONSTRAINT parts_fk FOREIGN KEY (a) REFERENCES public.a(id);
REFRESH MATERIALIZED VIEW public.mv;
"""


class TestAListing:
    def test_says_what_a_restore_has_to_know(self):
        head = parse_listing(LISTING)
        assert not head.is_known
        assert (head.dbname, head.server_version) == ("shop", "19.0 (Debian 19.0-1)")
        assert head.extensions == ("pgcrypto",)
        assert head.owners == {"app", "other"}
        assert {"PROPERTY GRAPH", "TABLE DATA", "CONSTRAINT"} <= {entry.desc for entry in head.entries}
        assert wanted_of_script(head) == (3358, 3359, 3360, 3362, 2, 3364, 3269, 3270, 3414)
        assert head.post_data.count == 0

    def test_and_a_script_of_the_databases_own_statements_do_the_rest(self):
        head = with_statements(parse_listing(LISTING), SCRIPT)
        assert head.definition.create("neu") == (
            "CREATE DATABASE \"neu\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';"
        )
        assert head.database_entry.owner == "the owner"
        assert head.sequence_values == {'"public"."It\'s"': (1000, True)}
        assert {"my role", "reader", "app", "the owner"} <= named_roles(head)
        properties = "".join(head.database_properties("neu"))
        assert 'COMMENT ON DATABASE "neu"' in properties
        assert 'ALTER DATABASE "neu" SET "work_mem"' in properties
        assert 'IN DATABASE "neu" SET "search_path"' in properties
        assert 'GRANT CONNECT ON DATABASE "neu" TO "reader"' in properties
        assert "public.t" not in properties

    def test_has_the_statements_that_a_restore_runs_by_itself(self):
        head = with_statements(parse_listing(LISTING), SCRIPT)
        known = {entry.dump_id: entry for entry in head.entries}
        assert creations_at_home(head, ["pgcrypto"]) == [
            'CREATE EXTENSION IF NOT EXISTS "pgcrypto" WITH SCHEMA "public"'
        ]
        assert as_not_valid(known[3269]).startswith('ALTER TABLE public."B" ADD CONSTRAINT "F k" FOREIGN KEY')
        assert as_not_valid(known[3270]).startswith("ALTER TABLE public.parts ADD CONSTRAINT parts_fk FOREIGN KEY")
        assert known[3414].defn == "REFRESH MATERIALIZED VIEW public.mv;\n"
        # What is said of an object has its number as well, and no statement.
        assert {known[number].desc for number in (3362, 3399, 3415)} == {"ACL", "COMMENT", "SECURITY LABEL"}

    def test_without_a_statement_nothing_is_created_before_the_rest(self):
        assert creations_at_home(parse_listing(LISTING), ["pgcrypto"]) == []

    def test_what_could_not_be_made_of_it_is_judged_as_of_any_other_archive(self):
        head = with_statements(parse_listing(LISTING), SCRIPT)
        done = []

        def alter(_new, statements):
            done.extend(statements)
            if any("REFRESH" in statement for statement in statements):
                raise PostgresError("nobody there", "08001")

        server = SimpleNamespace(alter=alter)
        key, view = (Trouble(one, "ERROR:  no") for one in head.entries if one.dump_id in {3269, 3414})
        drilled = Lenience("shop", skip=False, alone=True)
        assert drilled.goes_on(head)
        drilled.judge_loaded([view], head, server, "new")
        assert [one["outcome"] for one in drilled.objects] == ["unreachable"]
        with pytest.raises(UnrestorableError):
            drilled.judge_loaded([key, view], head, server, "new")
        restored = Lenience("shop", skip=True)
        restored.judge_loaded([key], head, server, "new")
        assert [one["outcome"] for one in restored.objects] == ["not_valid"]
        assert done[-1].endswith("NOT VALID")
        assert not Lenience("shop", skip=False).goes_on(head)

    def test_rows_that_a_search_path_lets_load_are_loaded_and_others_stop_the_restore(self):
        function = "3300; 1255 16387 FUNCTION public rate(integer) app\n"
        head = with_statements(parse_listing(LISTING + function), SCRIPT)
        [rows] = [one for one in head.entries if one.desc == "TABLE DATA"]
        lenience = Lenience("shop", skip=True)
        said = "CONTEXT:  PL/pgSQL function public.rate(integer) line 1"
        with pytest.raises(LoosenedError):
            lenience.judge_loaded([Trouble(rows, "ERROR:  no", said)], head, None, "new")
        assert lenience.before == ['ALTER FUNCTION "public"."rate"(integer) SET search_path = pg_catalog, "public"']
        with pytest.raises(UnrestorableError):
            lenience.judge_loaded([Trouble(rows, "ERROR:  no", "x")], head, None, "new")

    @pytest.mark.parametrize("text", ["", "; nothing\n"])
    def test_of_nothing_is_no_archive(self, text):
        with pytest.raises(ArchiveError, match="lists nothing"):
            parse_listing(text)

    def test_whose_script_cannot_be_read_is_an_error(self):
        with pytest.raises(ArchiveError, match="cannot be read"):
            with_statements(parse_listing(LISTING), "COMMENT ON DATABASE shop IS 'open")

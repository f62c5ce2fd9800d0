# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of one exported snapshot, made beside each other: a genuine one and an ordered one; and restores of their archives."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scalr_backup.actions.backup.order import choose
from scalr_backup.actions.backup.ordered import plan_bytes
from scalr_backup.actions.backup.producer import DumpJob, Report, argv
from scalr_backup.core.model import Credentials
from scalr_backup.core.row_order import OrderedTable, OrderPlan, OrderWish
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.queries import join_exported_snapshot

from tests.support.containers import DatabaseContainer, docker

# What the agent asks pg_dump for, beside the snapshot and the tables whose rows it reads itself.
_GENUINE = ("--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=30000")
# What pg_dump sets before it reads rows (setup_connection in pg_dump.c).
_AS_PG_DUMP = (
    "SET search_path = ''; SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; "
    "SET row_security = off; SET statement_timeout = 0; SET synchronize_seqscans = off; "
    "SET quote_all_identifiers = off;\n"
)


@dataclass
class Snapshot:
    """The state of a database at one moment, which many sessions can look at."""

    database: DatabaseContainer
    name: str
    exported: str
    encoding: str

    def genuine_dump(self, *options: str) -> bytes:
        """What pg_dump itself writes."""
        argv = [
            "pg_dump", *_GENUINE, f"--encoding={self.encoding}", f"--snapshot={self.exported}",
            f"--username={self.database.user}", *options, f"--dbname={quoted(self.name)}",
        ]  # fmt: skip
        return in_bytes(self.database, argv)

    def rows_in_order(self, tables: Sequence[OrderedTable]) -> list[list[bytes]]:
        """The lines of each table as COPY writes them, sorted by the server."""
        mark = f"end of rows {secrets.token_hex(8)}"
        begin = (
            f"{_AS_PG_DUMP}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{self.exported}';\n"
            "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;\n"
        )
        copies = (
            f"COPY (SELECT {_identifiers(table.columns)} FROM ONLY {_identifiers([table.namespace])}.{_identifiers([table.name])} "
            f"ORDER BY {_order(table)}) TO STDOUT;\n\\echo {mark}\n"
            for table in tables
        )
        argv = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", self.database.user, "-d", quoted(self.name)]
        encoding = "utf-8" if self.encoding in {"UTF8", "SQL_ASCII"} else self.encoding.lower()
        sql = "".join([begin, *copies]).encode(encoding)
        printed = in_bytes(self.database, argv, sql, {"PGCLIENTENCODING": self.encoding})
        return [rows.split(b"\n")[:-1] for rows in printed.split(f"{mark}\n".encode())[:-1]]


def _order(table: OrderedTable) -> str:
    direction = " DESC" if table.descending else ""
    return ", ".join(_identifiers([name]) + direction for name in table.key)


def _identifiers(names: Sequence[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


@contextmanager
def snapshot_of(database: DatabaseContainer, name: str = "postgres") -> Iterator[Snapshot]:
    """Hold a transaction open that has exported its snapshot."""
    argv = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", database.user, "-d", quoted(name)]
    begin = (
        # Whatever a database sets: what holds a snapshot waits as long as it takes.
        "SELECT set_config(name, '0', false) FROM pg_settings WHERE name ~ '_timeout$' AND context = 'user' \\g /dev/null\n"
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot(); "
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database();\n"
    )
    with subprocess.Popen(
        ["docker", "exec", "-i", database.name, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(begin)
        session.stdin.flush()
        exported, encoding = session.stdout.readline().strip(), session.stdout.readline().strip()
        assert exported, "no snapshot was exported"
        try:
            yield Snapshot(database, name, exported, encoding)
        finally:
            session.stdin.close()
            session.wait(timeout=30)


def in_bytes(
    database: DatabaseContainer, argv: Sequence[str], stdin: bytes = b"", environment: dict[str, str] | None = None
) -> bytes:
    """What a program in a container prints, which has to succeed."""
    variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
    done = subprocess.run(
        ["docker", "exec", "-i", *variables, database.name, *argv],
        input=stdin,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stderr.decode(errors='replace')[-2000:]}"
    return done.stdout


def listed(database: DatabaseContainer, archive: bytes) -> list[str]:
    """What ``pg_restore --list`` says of an archive, without ids and when it was made."""
    lines = in_bytes(database, ["pg_restore", "--list"], archive).decode(errors="surrogateescape").split("\n")
    return [
        line.partition("; ")[2] if line[:1].isdigit() else line for line in lines if "Archive created at" not in line
    ]


def quoted(name: str) -> str:
    """A connection string."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


@contextmanager
def new_database(database: DatabaseContainer, like: str) -> Iterator[str]:
    """An empty database with the encoding and locale of another, for as long as it is looked at."""
    name = f"restored_{secrets.token_hex(4)}"
    provider = (
        ""
        if major(database) < 15
        else (
            "|| CASE datlocprovider WHEN 'c' THEN '' WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', "
            f"to_jsonb(d) ->> '{'daticulocale' if major(database) < 17 else 'datlocale'}') "
            "ELSE format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', to_jsonb(d) ->> 'datlocale') END"
        )
    )
    made = database.sql(
        f"SELECT format('CREATE DATABASE {name} TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L', "
        f"pg_encoding_to_char(encoding), datcollate, datctype) {provider} FROM pg_database AS d "
        f"WHERE datname = '{like.replace(chr(39), chr(39) * 2)}'"
    )
    database.sql(made)
    try:
        yield name
    finally:
        database.sql(f"DROP DATABASE {name} WITH (FORCE)")


def major(database: DatabaseContainer) -> int:
    """The server's major version, by its image's name."""
    return int(database.image.rpartition(":")[2])


def restore(database: DatabaseContainer, archive: bytes, into: str, *options: str) -> None:
    """Let the container's own pg_restore restore an archive from a pipe."""
    argv = ["pg_restore", "--exit-on-error", "--username", database.user, *options, f"--dbname={quoted(into)}"]
    in_bytes(database, argv, archive)


@contextmanager
def as_file(database: DatabaseContainer, archive: bytes) -> Iterator[str]:
    """An archive as a file in a container; its path."""
    path = f"/tmp/{secrets.token_hex(4)}.dump"
    in_bytes(database, ["sh", "-c", f"cat > {path}"], archive)
    try:
        yield path
    finally:
        docker("exec", database.name, "rm", "-f", path)


def restore_from_file(database: DatabaseContainer, archive: bytes, into: str, *options: str) -> None:
    """The same from a file, as parallel jobs need it."""
    with as_file(database, archive) as path:
        argv = [
            "pg_restore",
            "--exit-on-error",
            "--username",
            database.user,
            *options,
            f"--dbname={quoted(into)}",
            path,
        ]
        in_bytes(database, argv)


def plan_of(snapshot: Snapshot, wish: OrderWish) -> OrderPlan:
    """What the agent chooses for a database as the snapshot shows it."""
    with postgres_of(snapshot.database).session(snapshot.name) as session:
        join_exported_snapshot(session, snapshot.exported)
        return choose(session, wish)


def credentials_of(database: DatabaseContainer) -> Credentials:
    """How the agent gets in."""
    return Credentials(database.user, database.environment.get("POSTGRES_PASSWORD"))


def postgres_of(database: DatabaseContainer) -> Postgres:
    """A container's server as the agent sees it."""
    return Postgres(DockerHost(), database.name, credentials_of(database), f"scalr-backup test {secrets.token_hex(4)}")


@dataclass(frozen=True)
class Produced:
    """What the agent's producer printed for a plan, and what it reported; *peak_bytes* is its memory at its largest."""

    exit_code: int
    archive: bytes
    bytes: int
    peak_bytes: int
    report: Report | None
    application: str

    @property
    def ordered(self) -> set[str]:
        """The tables whose rows are in order, without their schemas."""
        records = self.report.ordered if self.report else ()
        return {one["relation"].rpartition('"."')[2].removesuffix('"') for one in records}

    @property
    def why_plain(self) -> str:
        """All that it says of what is not in order that should have been."""
        report = self.report
        return (
            "; ".join([report.plain or "", *(why for _table, why in report.left_in_heap)]).strip("; ") if report else ""
        )

    @property
    def error(self) -> str:
        """Why it failed; nothing of one that was killed."""
        return (self.report.error if self.report else None) or ""


def ordered_dump(
    snapshot: Snapshot,
    plan: OrderPlan,
    *,
    keep: bool = True,
    most_bytes: int | None = None,
    silence_seconds: float = 60,
    lock_wait_seconds: int = 30,
) -> Produced:
    """Run the agent's producer on this machine, as restic runs it; what it prints is kept, or only counted."""
    application = f"scalr-backup test {secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as directory:
        job = DumpJob(
            container=snapshot.database.name,
            called="",
            database=snapshot.name,
            exported_snapshot=snapshot.exported,
            encoding=snapshot.encoding,
            application=application,
            credentials=credentials_of(snapshot.database),
            report=f"{directory}/report",
            lock_wait_seconds=lock_wait_seconds,
            silence_seconds=silence_seconds,
            most_bytes=most_bytes,
            plan=f"{directory}/plan",
        )
        Path(job.plan).write_bytes(plan_bytes(plan.ordered))
        with subprocess.Popen(argv(), env=job.to_environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            archive, count, peak = bytearray(), 0, 0
            while piece := process.stdout.read1(1 << 20):
                count += len(piece)
                peak = peak_of(process.pid) or peak
                if keep:
                    archive += piece
            exit_code = process.wait(timeout=60)
        return Produced(exit_code, bytes(archive), count, peak, Report.read(Path(job.report)), application)


def peak_of(process: int) -> int:
    """The most memory that a process has had in use so far, in bytes; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

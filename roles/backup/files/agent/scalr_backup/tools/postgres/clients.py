# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's client programs in the container of a server: their arguments, exit codes and quirks.

The container's own psql, pg_dump and pg_restore always fit its server: a client that is older than the server
refuses to dump it (PostgreSQL documentation, pg_dump, "Notes").
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence

from scalr_backup.core.archive.parser import HEAD_LIMIT
from scalr_backup.core.discretion import words_of
from scalr_backup.core.errors import DamagedRelationsError, PostgresError, UnreadableArchiveError
from scalr_backup.core.spoken import FLAGS, MOST_OF_TABLES
from scalr_backup.core.sql import connection_string, quote_identifier
from scalr_backup.core.text import decoded, encoded
from scalr_backup.tools.docker.exec_stream import ExecResult, ExecStream
from scalr_backup.tools.postgres.failures import explain_failure
from scalr_backup.tools.postgres.session import PSQL, VERBOSE, WITHOUT_CONVERSION, WORK_SECONDS, PostgresServer

# The restored database's own settings and event triggers stand in the way of neither.
_AMCHECK_OPTIONS = (
    "-c default_transaction_read_only=off -c session_replication_role=replica -c lock_timeout=0 "
    "-c client_min_messages=warning"
)
# A script that is kept, and one of an operator's, is in UTF8.
_IN_UTF8 = {"PGCLIENTENCODING": "UTF8"}
# A statement of an operator's SQL has an hour, whatever else is set, and all of them together what work has.
_READ_ONLY_OPTIONS = (
    "-c default_transaction_read_only=on -c statement_timeout=3600000 -c lock_timeout=0 -c client_min_messages=warning"
)
_FRUGAL_OPTIONS = "-c max_parallel_maintenance_workers=0 -c max_parallel_workers_per_gather=0"
_STOP_AT_FIRST = "--exit-on-error"
# The archive's head, which holds no row, for the pg_restore that needs a file: in the container's memory.
_HEAD_PREFIX = "/dev/shm/scalr_backup_"  # noqa: S108 (a tmpfs of the container's own)
_PUT_HEAD = 'umask 077; nproc 2>/dev/null || echo 1; cat > "$1" || { rm -f "$1"; exit 1; }'
# pg_amcheck's exit code for damage; any other than 0 means that it could not look.
_DAMAGED = 2
# More jobs than this compete for the disk rather than share the work.
MOST_JOBS = 8
_MOST_DIGITS = 6


def rows_left_out(schema: str, table: str) -> str:
    """The option of a pg_dump that leaves one table's rows out: a pattern in which quotes take its meaning from all else.

    PostgreSQL documentation, psql, "Patterns".
    """
    return f"--exclude-table-data={quote_identifier(schema)}.{quote_identifier(table)}"


class Clients(PostgresServer):
    """The client programs beside a server, on behalf of one run."""

    def globals_sql(self, *, passwords: bool = True) -> str:
        """Roles and tablespaces as ``pg_dumpall --globals-only`` writes them, with the hashes of *passwords* or without.

        Raises PostgresError.
        """
        home = connection_string(self._home)
        argv = ["pg_dumpall", "--globals-only", "--no-password", f"--database={home}"]
        if not passwords:
            argv.append("--no-role-passwords")
        options = {"PGOPTIONS": f"{self._without_limits} -c lock_timeout={self._patience.lock_seconds * 1000}"}
        # Names of roles are bytes of no known encoding where the databases are.
        encoding = {} if self._home_encoding in WITHOUT_CONVERSION else _IN_UTF8
        environment = self.environment() | options | encoding
        result = self._run(argv, environment, silence_seconds=self._patience.lock_seconds + 300.0)
        if result.exit_code != 0:
            raise PostgresError(self._docker.how_it_ended(self.container, argv[0], result))
        return decoded(result.stdout)

    def dump_argv(
        self, database: str, exported_snapshot: str, encoding: str, rows_left_out_of: Iterable[tuple[str, str]] = ()
    ) -> list[str]:
        """The pg_dump of a backup: custom format, uncompressed so that restic can deduplicate and compress.

        In the database's own *encoding*, nothing has to be converted, and bytes that have no meaning in it go through too. Of
        some tables, each by its schema and name, it leaves the rows out.
        """
        return [
            "pg_dump",
            "--format=custom",
            "--compress=0",
            f"--encoding={encoding}",
            "--no-password",
            f"--lock-wait-timeout={self._patience.lock_seconds * 1000}",
            f"--snapshot={exported_snapshot}",
            *(rows_left_out(schema, table) for schema, table in rows_left_out_of),
            f"--dbname={connection_string(database)}",
        ]

    def start_restore(
        self,
        database: str,
        silence_seconds: float,
        *,
        tablespaces: bool = True,
        sections: Sequence[str] = ("pre-data", "data"),
        go_on: bool = False,
    ) -> ExecStream:
        """Start a pg_restore that makes *database*'s objects and fills them from its standard input.

        It is verbose, since only then does it tell which entry of the archive an error belongs to. It stops at the first
        error unless it is to *go on*, and says at its end how many there were. Indexes, keys and the like come afterwards,
        see ``start_post_data``.
        """
        argv = [
            *self._restore_argv(database, tablespaces),
            *(f"--section={section}" for section in sections),
            "--verbose",
        ]
        if go_on:
            argv.remove(_STOP_AT_FIRST)
        return self._docker.start_exec(
            self.container,
            argv,
            self._restore_environment(),
            stdin=True,
            silence_seconds=silence_seconds,
            outlives=True,
        )

    def put_head(self, name: str, head: bytes) -> tuple[str | None, int]:
        """Put an archive's head into the container's memory.

        Returns its path and the number of jobs that the container's processors are good for; no path where there is
        no room.
        """
        path, said = self._put_into_memory(name, head)
        processors = int(re.sub(rb"\D", b"", said.split(b"\n")[0])[:_MOST_DIGITS] or 1)
        return path, min(processors, MOST_JOBS)

    def put_list(self, name: str, dump_ids: Iterable[int]) -> str | None:
        """Put a list of an archive's entries beside its head, as ``pg_restore --use-list`` reads it.

        Of each line, the number alone counts. Returns its path; none where there is no room.
        """
        path, _said = self._put_into_memory(name, b"".join(b"%d;\n" % dump_id for dump_id in dump_ids))
        return path

    def _put_into_memory(self, name: str, content: bytes) -> tuple[str | None, bytes]:
        path = f"{_HEAD_PREFIX}{name}"
        result = self._run(["sh", "-c", _PUT_HEAD, "sh", path], stdin=content)
        return (path if result.exit_code == 0 else None), result.stdout

    def heads(self) -> set[str]:
        """The names of the half-made databases whose heads or lists lie in the container's memory."""
        result = self._docker.run(self.container, ["sh", "-c", f"ls -d {_HEAD_PREFIX}* 2>/dev/null || :"])
        paths = result.stdout.decode("utf-8", "replace").splitlines()
        return {path.removeprefix(_HEAD_PREFIX).partition(".")[0] for path in paths}

    def remove_heads(self, name: str) -> None:
        """Remove what ``put_head`` and ``put_list`` have put there for a half-made database, and nothing of another's."""
        path = f"{_HEAD_PREFIX}{name}"
        self._docker.run(self.container, ["sh", "-c", 'rm -f "$1" "$1".*', "sh", path])

    def start_post_data(
        self,
        database: str,
        path: str | None,
        use_list: str | None,
        jobs: int,
        silence_seconds: float,
        *,
        tablespaces: bool = True,
        frugal: bool = False,
    ) -> ExecStream:
        """Start a pg_restore of what comes after the data, which tells each item on its standard error.

        It goes on after an error, and says at its end how many there were: see ``core/archive/trouble.py``. One that is
        *frugal* has no helpers in the server, which share memory that a container may not have.

        *path* is that of a head, and *use_list* that of a list of what to make of it, if it is not all. Without a path,
        the head is taken from standard input: several jobs need a file that can be sought in (PostgreSQL
        documentation, pg_restore, ``--jobs``).
        """
        argv = [*self._restore_argv(database, tablespaces), "--section=post-data", "--verbose"]
        argv.remove(_STOP_AT_FIRST)
        if use_list is not None:
            argv.append(f"--use-list={use_list}")
        if path is not None:
            argv += [f"--jobs={jobs}", path]
        environment = self._restore_environment(_FRUGAL_OPTIONS if frugal else "")
        return self._docker.start_exec(
            self.container,
            argv,
            environment,
            stdin=path is None,
            silence_seconds=silence_seconds,
            outlives=path is None,
        )

    def _restore_environment(self, options: str = "") -> dict[str, str]:
        """The variables of a pg_restore, whatever section it restores: nothing that it makes acts on what follows."""
        options = f"{self._without_limits} {self._without_event_triggers} {options}".rstrip()
        return self.environment() | {"PGOPTIONS": options}

    def _restore_argv(self, database: str, tablespaces: bool) -> list[str]:
        return [
            "pg_restore",
            "--format=custom",
            _STOP_AT_FIRST,
            "--no-password",
            f"--dbname={connection_string(database)}",
            *([] if tablespaces else ["--no-tablespaces"]),
        ]

    def check_archive(self, head: bytes) -> None:
        """Let the container's pg_restore read an archive's table of contents.

        Raises UnreadableArchiveError in its words.
        """
        result = self._run(["pg_restore", "--list"], stdin=head, most_bytes=HEAD_LIMIT)
        if result.exit_code != 0:
            raise UnreadableArchiveError(
                "The target cannot read this archive: "
                f"{self._docker.how_it_ended(self.container, 'pg_restore', result)}"
            )

    def start_client(self, argv: Sequence[str], silence_seconds: float, *, stdin: bool = True) -> ExecStream:
        """Start a client program, which reads (the beginning of) its standard input unless told otherwise."""
        return self._docker.start_exec(
            self.container, argv, self.environment(), stdin=stdin, silence_seconds=silence_seconds, outlives=stdin
        )

    def read_by_client(self, argv: Sequence[str], archive: bytes) -> str:
        """What a client program makes of (the beginning of) an archive.

        Raises UnreadableArchiveError in its words.
        """
        result = self._run(argv, stdin=archive, most_bytes=HEAD_LIMIT)
        if result.exit_code != 0:
            raise UnreadableArchiveError(
                f"The target cannot read this archive: {self._docker.how_it_ended(self.container, argv[0], result)}"
            )
        return decoded(result.stdout)

    def answers_over_tcp(self) -> bool:
        """Whether the server is up for everybody; the entry point's first, temporary server listens on no address."""
        result = self._docker.run(self.container, ["pg_isready", "--quiet", "--host=127.0.0.1", "--timeout=5"])
        return result.exit_code == 0

    def has_amcheck(self) -> bool:
        """Whether the image has pg_amcheck (PostgreSQL 14 or newer) and the extension that it calls."""
        found = self._docker.run(self.container, ["sh", "-c", "command -v pg_amcheck"]).exit_code == 0
        available = "SELECT to_jsonb(EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck'));"
        return found and FLAGS.one(self.query(self._home, available), self._psql)

    def check_relations(self, database: str, jobs: int) -> None:
        """Let pg_amcheck read every table and index of a database; makes the extension amcheck in it.

        Raises DamagedRelationsError in its words.
        """
        result = self._amcheck(database, jobs)
        if result.exit_code not in (0, _DAMAGED) and jobs > 1:
            # It could not look, for want of connections or of memory perhaps: one job takes less of both.
            result = self._amcheck(database, 1)
        if result.exit_code == _DAMAGED:
            lines = [line.strip() for line in result.stdout.decode("utf-8", "replace").splitlines()]
            raise DamagedRelationsError(f"pg_amcheck found damage in the restored {database}: {' '.join(lines[:4])}")
        if result.exit_code != 0:
            why = self._docker.how_it_ended(self.container, "pg_amcheck", result)
            raise DamagedRelationsError(f"pg_amcheck could not check {database}: {why}")

    def _amcheck(self, database: str, jobs: int) -> ExecResult:
        argv = ["pg_amcheck", "--install-missing", "--no-password", f"--jobs={jobs}", connection_string(database)]
        return self._docker.run(
            self.container,
            argv,
            self.environment() | {"PGOPTIONS": f"{self._without_limits} {_AMCHECK_OPTIONS}"},
            silence_seconds=WORK_SECONDS,
            waiting=self._waiting,
            most_bytes=MOST_OF_TABLES,
        )

    def run_read_only(self, database: str, sql: str) -> list[str]:
        """Run an operator's SQL where nothing can be written; every value that it returns, as text, row after row.

        Raises PostgresError in the server's words, without values of rows.
        """
        end = secrets.token_hex(16)
        argv = [
            *PSQL,
            VERBOSE,
            "--field-separator-zero",
            "--record-separator-zero",
            f"--dbname={connection_string(database)}",
        ]
        script = f"BEGIN READ ONLY;\n{sql}\n;\n\\echo {end}\n"
        result = self._docker.run(
            self.container,
            argv,
            self.environment() | {"PGOPTIONS": f"{self._without_limits} {_READ_ONLY_OPTIONS}"} | _IN_UTF8,
            stdin=encoded(script),
            silence_seconds=WORK_SECONDS,
            waiting=self._waiting,
        )
        text = result.stdout.decode("utf-8", "replace")
        if result.exit_code != 0:
            why = self._docker.how_it_ended(self.container, argv[0], result)
            _sqlstate, told = explain_failure(result.stderr, words_of([sql]))
            raise PostgresError(f"{self.container}/{database}: {told or why}")
        if not text.endswith(f"{end}\n"):
            raise PostgresError(f"{self.container}/{database}: the SQL has a quote or a comment that is not closed.")
        return text.removesuffix(f"{end}\n").split("\0")[:-1]

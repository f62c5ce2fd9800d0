# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL, through the client programs of the database's own container.

The container's own psql, pg_dump and pg_restore always fit its server: a client that is older than the server
refuses to dump it (PostgreSQL documentation, pg_dump, "Notes").

SQL goes through standard input, never through argv; database names go as quoted connection strings, because
``--dbname`` reads anything with an ``=`` as options. A password goes through ``PGPASSWORD`` of the one exec.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from scalr_backup.core.endings import last_words
from scalr_backup.core.errors import (
    DamagedRelationsError,
    DockerUnreachableError,
    InterruptedRunError,
    PostgresError,
    RoomUnknownError,
    ScalrBackupError,
    UnreadableArchiveError,
)
from scalr_backup.core.model import Credentials, Database, Volume, is_run_id, kept_since
from scalr_backup.core.room import DEFAULT_TABLESPACE, LogSettings, Place, Survey
from scalr_backup.core.sql import connection_string, quote_identifier, quote_literal
from scalr_backup.tools.docker import volumes
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult, ExecStream, MessageTail
from scalr_backup.tools.postgres.blockers import LOCK_NOT_AVAILABLE, Blocker, LockWatch, blockers_sql, in_the_way

# Every connection of a run carries the run's id, so that what a killed run left behind can be told from the app's.
APPLICATION_PREFIX = "scalr-backup"

# What looks at a server for no run, in this process.
LOOK = f"{APPLICATION_PREFIX} look {secrets.token_hex(4)}"

# Half-made databases of a restore: this, the run's id and a number. Nothing else is called so; a user's database
# that only begins alike is not ours to drop.
RESTORE_PREFIX = "scalr_restore_"
_HALF_MADE = re.compile(RESTORE_PREFIX + r"(?P<day>[0-9]{8}t[0-9]{6}z)_(?P<rest>[0-9a-f]{4})_[0-9]+\Z")

_PSQL = ("psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1")
# An error with its SQLSTATE: the words before and after it are in the server's language. The classes 00 to 02 are no errors.
_VERBOSE = "--set=VERBOSITY=verbose"
_ERROR = re.compile(r"^(?P<severity>.*?\S:  )(?P<sqlstate>(?!0[012])[0-9A-Z]{5}): (?P<message>.*)$", re.MULTILINE)
# Only the server's own functions and operators, and no limit that the cluster sets for its apps.
_SESSION_OPTIONS = (
    "-c search_path=pg_catalog -c standard_conforming_strings=on -c statement_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c client_min_messages=warning"
)
# PostgreSQL waits for ever on what somebody holds exclusively; a night is better spent on the others. Who tidies up after
# being told to stop waits no longer than this.
_SHORT_LOCK_WAIT_SECONDS = 30
# Counting the rows of a large table says nothing for a long time; a look at a catalog that does is a server that hangs.
_WORK_SECONDS, _ANSWER_SECONDS = 24 * 3600.0, 300.0
# While the swap waits for somebody's lock on the database, the app cannot connect.
_SWAP_WAIT_MILLISECONDS = 10 * 1000

# The restored database's own settings and event triggers stand in the way of neither.
_AMCHECK_OPTIONS = (
    "-c default_transaction_read_only=off -c session_replication_role=replica -c statement_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c client_min_messages=warning"
)
_READ_ONLY_OPTIONS = "-c default_transaction_read_only=on -c statement_timeout=3600000 -c client_min_messages=warning"

_USER_TABLES = """
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_LOCK_TABLES = f"""
SELECT 'LOCK TABLE ' || string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ') || ' IN ACCESS SHARE MODE'
{_USER_TABLES} \\gexec
"""
_COUNT_ROWS = f"""
SELECT format('SELECT jsonb_build_array(%L, %L, count(*)) FROM ONLY %I.%I', n.nspname, c.relname, n.nspname, c.relname)
{_USER_TABLES} ORDER BY n.nspname, c.relname \\gexec
"""
_DATABASES = """
SELECT jsonb_build_object(
         'name', datname, 'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
         'size_bytes', pg_database_size(oid))
FROM pg_database
WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
ORDER BY datname;
"""
# 16384 is FirstNormalObjectId (src/include/access/transam.h): what initdb makes lies below.
_IS_EMPTY = """
SELECT to_jsonb(NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384)
            AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
            AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384)
            AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
            AND NOT EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
            AND NOT EXISTS (SELECT FROM pg_largeobject_metadata));
"""
_DESCRIBE = """
SELECT jsonb_build_object(
  'database', d.datname,
  'oid', d.oid::bigint,
  'owner', pg_get_userbyid(d.datdba),
  'encoding', pg_encoding_to_char(d.encoding),
  'collate', d.datcollate,
  'ctype', d.datctype,
  'size_bytes', pg_database_size(d.oid),
  'largest_indexes', (SELECT COALESCE(jsonb_agg(bytes), '[]')
                      FROM (SELECT relpages * current_setting('block_size')::bigint AS bytes FROM pg_class
                            WHERE relkind = 'i' AND oid >= 16384 ORDER BY relpages DESC LIMIT 8) AS largest),
  'server_version', current_setting('server_version'),
  'server_version_num', current_setting('server_version_num')::int,
  'extensions', COALESCE((SELECT jsonb_agg(jsonb_build_object('name', e.extname, 'version', e.extversion,
                                                               'schema', n.nspname) ORDER BY e.extname)
                          FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace), '[]'),
  'public_schema', EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public'),
  'settings', COALESCE((SELECT jsonb_agg(jsonb_build_object(
                                 'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
                                 'settings', to_jsonb(s.setconfig)))
                        FROM pg_db_role_setting AS s WHERE s.setdatabase = d.oid), '[]'))
FROM pg_database AS d WHERE d.datname = current_database();
"""
# What runs do in the container: a client program's environment tells whose it is, and "end" as the second argument ends
# it. One that a killed run left waits for ever to write into a pipe that nobody reads. Only sh, tr and grep are needed,
# which every image of PostgreSQL has.
_CLIENTS = """
for process in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' < "$process/cmdline" 2>/dev/null)" in
    pg_dump*|pg_restore*|psql*|*/pg_dump*|*/pg_restore*|*/psql*|sh*scalr-backup-watch*) ;;
    *) continue ;;
  esac
  name="$(tr '\\0' '\\n' < "$process/environ" 2>/dev/null | grep "^PGAPPNAME=$1")" || continue
  if [ "$2" = end ]; then kill "${process#/proc/}" 2>/dev/null || continue; fi
  echo "${name#PGAPPNAME=}"
done
:
"""

_SEQUENCE_VALUES = """
SELECT format('SELECT jsonb_build_array(%L, %L, last_value, is_called) FROM %I.%I',
              n.nspname, c.relname, n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY n.nspname, c.relname \\gexec
"""
_CONNECTED = """
SELECT jsonb_build_object('user', usename, 'application', application_name,
                          'address', COALESCE(host(client_addr), 'local'), 'sessions', count(*))
FROM pg_stat_activity
WHERE datname = {name} AND backend_type = 'client backend' AND application_name NOT LIKE '{ours}%'
GROUP BY usename, application_name, client_addr ORDER BY count(*) DESC, 1;
"""
# Whoever may make roles sees to it that their passwords' hashes do not go to the server's log.
_SILENCE_THE_LOG = """
SELECT jsonb_build_array(
  set_config('log_statement', 'none', false), set_config('log_min_error_statement', 'panic', false),
  set_config('log_min_duration_statement', '-1', false), set_config('log_min_duration_sample', '-1', false),
  set_config('log_transaction_sample_rate', '0', false), set_config('track_activities', 'off', false),
  set_config('pg_stat_statements.track', 'none', false))
FROM pg_roles WHERE rolname = current_user AND rolsuper;
"""
# The archive's head, which holds no row, for the pg_restore that needs a file: in the container's memory.
_HEAD_PREFIX = "/dev/shm/scalr_backup_"  # noqa: S108 (a tmpfs of the container's own)
_PUT_HEAD = 'umask 077; nproc 2>/dev/null || echo 1; cat > "$1" || { rm -f "$1"; exit 1; }'
# More jobs than this compete for the disk rather than share the work.
_MOST_JOBS = 8

# Who is in the way is told at once or not at all.
_LOOK_SECONDS = 20.0

# What decides how much a restore takes. An archive without a way, or whose last try failed, keeps the log for ever, and
# so does a slot that nobody reads.
_ROOM = """
SELECT jsonb_build_object(
  'directory', current_setting('data_directory'),
  'limit_bytes', pg_size_bytes(current_setting('max_wal_size')),
  'kept_bytes', pg_size_bytes(current_setting('wal_keep_size')),
  'kept_for_slots', (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'sort_bytes', pg_size_bytes(current_setting('maintenance_work_mem')),
  'checksums', 'on' IN (current_setting('data_checksums'), current_setting('wal_log_hints')),
  'archive_fails', current_setting('archive_mode') <> 'off' AND (
    '' = ALL (ARRAY[current_setting('archive_command'), COALESCE(current_setting('archive_library', true), '')])
    OR (SELECT COALESCE(last_failed_time > COALESCE(last_archived_time, '-infinity'), false) FROM pg_stat_archiver)),
  'slots', COALESCE((SELECT jsonb_agg(slot_name ORDER BY slot_name) FROM pg_replication_slots
                     WHERE NOT active AND restart_lsn IS NOT NULL), '[]'),
  'tablespaces', COALESCE((SELECT jsonb_object_agg(spcname, oid::bigint) FROM pg_tablespace
                           WHERE spcname NOT IN ('pg_default', 'pg_global')), '{}'));
"""

RowCounts = dict[str, int]
# By container and what is known of it.
Facts = dict[tuple[str, str], str]
SequenceValues = dict[str, tuple[int, bool]]


@dataclass(frozen=True)
class LiveDatabase:
    """What a restore is about to replace; bytes, sessions of others and whose they are."""

    size_bytes: int
    sessions: int
    connected: tuple[dict[str, Any], ...] = ()
    prepared_transactions: int = 0


@dataclass(frozen=True)
class RolesOnTarget:
    """The roles of a cluster, and whether the agent's user may make more."""

    names: frozenset[str]
    may_create: bool


@dataclass(frozen=True)
class Patience:
    """How a run waits for a server: *stop_if_told* raises when it is to end, *tell* says who is in its way.

    *lock_seconds* is how long it waits for a lock.
    """

    lock_seconds: int = _SHORT_LOCK_WAIT_SECONDS
    stop_if_told: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda _words: None


class SqlSession:
    """A psql that stays open, so that a transaction can stay open in it."""

    def __init__(
        self, stream: ExecStream, subject: str, waiting: Callable[[], None], watch: LockWatch | None = None
    ) -> None:
        """*waiting* is called every half second of silence; *watch* knows who is in the way meanwhile."""
        self._stream = stream
        self._subject = subject
        self._watch = watch
        self._frames = stream.frames(waiting)
        self._messages = MessageTail()
        self._received = b""

    def query(self, sql: str) -> list[Any]:
        """Run SQL (or psql commands) whose rows are one JSON document each; returns the documents.

        Raises PostgresError in the server's words, or about who was in the way; the session is over then.
        """
        if self._watch is not None:
            self._watch.moved()
        end = secrets.token_hex(16)
        with suppress(OSError):  # Where psql has ended, what it said follows.
            self._stream.write(f"{sql}\n\\echo {end}\n".encode("utf-8", "surrogateescape"))
        lines = self._lines_until(end.encode())
        return [json.loads(line) for line in lines if line]

    def _lines_until(self, end: bytes) -> list[bytes]:
        marker = end + b"\n"
        while not (self._received == marker or self._received.endswith(b"\n" + marker)):
            kind, data = next(self._frames, (0, b""))
            if kind == 0:
                raise self._failure()
            if kind == STDOUT:
                self._received += data
            else:
                self._messages.add(data)
        text, self._received = self._received.removesuffix(marker), b""
        return text.split(b"\n")

    def _failure(self) -> PostgresError:
        sqlstate, words = explain_failure(self._messages.text)
        if sqlstate == LOCK_NOT_AVAILABLE and self._watch is not None and self._watch.last:
            words = f"gave up waiting for {self._watch.last}; let that end, or end it, and run this again."
        if sqlstate is None:
            explained = self._stream.how_it_ended(self._messages.text)
            # A refusal is the server's own, and how psql ended adds nothing to it.
            words = words if words and explained.endswith(f": {words}") else explained
        return PostgresError(f"{self._subject}: {words}", sqlstate)


class Postgres:
    """The PostgreSQL cluster of one container, on behalf of one run."""

    def __init__(
        self,
        docker: DockerHost,
        container: str,
        credentials: Credentials,
        application: str,
        waiting: Callable[[], None] = lambda: None,
        facts: Facts | None = None,
        patience: Patience | None = None,
    ) -> None:
        """*facts* remembers what does not change while a run goes on, for everyone who asks the same container.

        Without *patience*, nothing that is told to stop ends a call: for whoever tidies up after that.
        """
        self._docker = docker
        self.container = container
        self._credentials = credentials
        self.application = application
        self._waiting = waiting
        self._facts: Facts = {} if facts is None else facts
        self._patience = patience or Patience()

    def while_waiting(self, waiting: Callable[[], None]) -> Postgres:
        """The same, but *waiting* is called every half second that the server works in silence, and may raise."""
        return self._like(self.application, waiting, self._patience)

    def unstoppable(self, application: str | None = None) -> Postgres:
        """The same, but a run that is told to stop awaits the end of each call; under another name where one is given."""
        return self._like(application or self.application, lambda: None, Patience(tell=self._patience.tell))

    def _like(self, application: str, waiting: Callable[[], None], patience: Patience) -> Postgres:
        return Postgres(self._docker, self.container, self._credentials, application, waiting, self._facts, patience)

    def lock_watch(self, database: str) -> LockWatch:
        """Whoever follows a wait of this run in a database, and finds out and says who is in its way."""

        def look() -> str | None:
            aside = self._like(f"{APPLICATION_PREFIX} aside", self._patience.stop_if_told, Patience(lock_seconds=2))
            try:
                with aside.session(database, silence_seconds=_LOOK_SECONDS, watched=False) as session:
                    return in_the_way([Blocker(**row) for row in session.query(blockers_sql(self.application))])
            except (PostgresError, DockerUnreachableError):
                return None  # The wait itself tells what is wrong with the server.

        return LockWatch(look, lambda words: self._patience.tell(f"{self.container}/{database} waits for {words}."))

    def _wait(self) -> None:
        self._patience.stop_if_told()
        self._waiting()

    def _run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bytes | None = None,
        silence_seconds: float = 300.0,
    ) -> ExecResult:
        """Run a client program to its end; a run that is told to stop leaves nothing of it."""
        with self._ended_with_its_run():
            return self._docker.run(
                self.container, argv, environment, stdin=stdin, silence_seconds=silence_seconds, waiting=self._wait
            )

    @contextmanager
    def _ended_with_its_run(self) -> Iterator[None]:
        """End on the server, too, what a run that is told to stop no more waits for."""
        try:
            yield
        except InterruptedRunError:
            with suppress(ScalrBackupError):
                self.unstoppable(f"{APPLICATION_PREFIX} cleanup").end_leftovers(f"{self.application}$")
            raise

    def environment(self) -> dict[str, str]:
        """The variables that a client program in the container needs; they hold the password."""
        variables = {
            "PGUSER": self._credentials.user,
            "PGAPPNAME": self.application,
            "PGCONNECT_TIMEOUT": "20",
            "PGCLIENTENCODING": "UTF8",
        }
        if self._credentials.password is not None:
            variables["PGPASSWORD"] = self._credentials.password
        return variables

    @contextmanager
    def session(
        self,
        database: str,
        options: str = "",
        *,
        silence_seconds: float = _WORK_SECONDS,
        watched: bool = True,
        tidied: bool = True,
    ) -> Iterator[SqlSession]:
        """Open a psql session on a database; who is in its way is told, unless it is not *watched*.

        Raises PostgresError at its first query when the server refuses, InterruptedRunError from a query when the run is
        told to stop: nothing is left on the server then, unless it is not *tidied* because the caller sees to that.
        """
        lock_wait = f"-c lock_timeout={self._patience.lock_seconds * 1000}"
        environment = self.environment() | {"PGOPTIONS": f"{_SESSION_OPTIONS} {lock_wait} {options}"}
        argv = [*_PSQL, _VERBOSE, f"--dbname={connection_string(database)}"]
        watch = self.lock_watch(database) if watched else None

        def wait() -> None:
            self._wait()
            if watch is not None:
                watch.wait()

        with (
            self._ended_with_its_run() if tidied else nullcontext(),
            self._docker.start_exec(
                self.container, argv, environment, stdin=True, silence_seconds=silence_seconds
            ) as stream,
        ):
            yield SqlSession(stream, f"{self.container}/{database}", wait, watch)

    def query(self, database: str, sql: str) -> list[Any]:
        """Look at something, in a session of its own; rows are JSON documents."""
        with self.session(database, silence_seconds=_ANSWER_SECONDS) as session:
            return session.query(sql)

    def execute(self, database: str, *statements: str) -> None:
        """Run statements that return nothing, each in its own transaction."""
        with self.session(database) as session:
            for statement in statements:
                session.query(statement + ";")

    def server_version(self) -> str:
        """The server's version, such as ``17.6``."""
        version: str = self.query(self._home, "SELECT to_jsonb(current_setting('server_version'));")[0]
        return version.split(" ", 1)[0]

    def databases(self) -> tuple[Database, ...]:
        """Every database that allows connections and is no template, an empty ``postgres`` among others left out."""
        found = tuple(Database(**row) for row in self.query(self._home, _DATABASES))
        found = tuple(database for database in found if not _HALF_MADE.match(database.name))
        apps = [database.name for database in found if not kept_since(database.name)]
        if len(apps) > 1 and "postgres" in apps and self._is_empty("postgres"):
            found = tuple(database for database in found if database.name != "postgres")
        return found

    def may_read_passwords(self) -> bool:
        """Whether the hashes of the roles' passwords can be saved: only superusers see them unless told otherwise."""
        sql = "SELECT to_jsonb(has_table_privilege('pg_catalog.pg_authid', 'SELECT'));"
        return bool(self.query(self._home, sql)[0])

    def globals_sql(self, *, passwords: bool = True) -> str:
        """Roles and tablespaces as ``pg_dumpall --globals-only`` writes them, with the hashes of *passwords* or without.

        Raises PostgresError.
        """
        home = connection_string(self._home)
        argv = ["pg_dumpall", "--globals-only", "--no-password", f"--database={home}"]
        if not passwords:
            argv.append("--no-role-passwords")
        lock_wait = {"PGOPTIONS": f"-c lock_timeout={self._patience.lock_seconds * 1000}"}
        result = self._run(argv, self.environment() | lock_wait, silence_seconds=self._patience.lock_seconds + 300.0)
        if result.exit_code != 0:
            raise PostgresError(self._docker.how_it_ended(self.container, argv[0], result))
        return result.stdout.decode()

    def dump_argv(self, database: str, exported_snapshot: str) -> list[str]:
        """The pg_dump of a backup: custom format, uncompressed so that restic can deduplicate and compress."""
        return [
            "pg_dump",
            "--format=custom",
            "--compress=0",
            "--no-password",
            f"--lock-wait-timeout={self._patience.lock_seconds * 1000}",
            f"--snapshot={exported_snapshot}",
            f"--dbname={connection_string(database)}",
        ]

    def start_restore(self, database: str, silence_seconds: float, *, tablespaces: bool = True) -> ExecStream:
        """Start a pg_restore that makes *database*'s objects and fills them from its standard input.

        It stops at the first error. Indexes, keys and the like come afterwards, see ``start_post_data``.
        """
        sections = ("--section=pre-data", "--section=data")
        argv = [*self._restore_argv(database, tablespaces), *sections]
        return self._docker.start_exec(
            self.container, argv, self.environment(), stdin=True, silence_seconds=silence_seconds
        )

    def put_head(self, name: str, head: bytes) -> tuple[str | None, int]:
        """Put an archive's head into the container's memory.

        Returns its path and the number of jobs that the container's processors are good for; no path where there is
        no room.
        """
        path, said = self._put_into_memory(name, head)
        processors = int(re.sub(rb"\D", b"", said.split(b"\n")[0]) or 1)
        return path, min(processors, _MOST_JOBS)

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
    ) -> ExecStream:
        """Start a pg_restore of what comes after the data, which tells each item on its standard error.

        *path* is that of a head, and *use_list* that of a list of what to make of it, if it is not all. Without a path,
        the head is taken from standard input: several jobs need a file that can be sought in (PostgreSQL
        documentation, pg_restore, ``--jobs``).
        """
        argv = [*self._restore_argv(database, tablespaces), "--section=post-data", "--verbose"]
        if use_list is not None:
            argv.append(f"--use-list={use_list}")
        if path is not None:
            argv += [f"--jobs={jobs}", path]
        options = self._without_event_triggers
        if options:
            # A superuser, then, who may also choose the words of the server, in which a deadlock is recognized.
            options += " -c lc_messages=C"
        environment = self.environment() | {"PGOPTIONS": options}
        return self._docker.start_exec(
            self.container, argv, environment, stdin=path is None, silence_seconds=silence_seconds
        )

    def _restore_argv(self, database: str, tablespaces: bool) -> list[str]:
        return [
            "pg_restore",
            "--format=custom",
            "--exit-on-error",
            "--no-password",
            f"--dbname={connection_string(database)}",
            *([] if tablespaces else ["--no-tablespaces"]),
        ]

    def check_archive(self, head: bytes) -> None:
        """Let the container's pg_restore read an archive's table of contents.

        Raises UnreadableArchiveError in its words.
        """
        result = self._run(["pg_restore", "--list"], stdin=head)
        if result.exit_code != 0:
            raise UnreadableArchiveError(
                f"This archive cannot be read there: {self._docker.how_it_ended(self.container, 'pg_restore', result)}"
            )

    def live_database(self, name: str) -> LiveDatabase | None:
        """Size and other sessions of a database; None when there is no such database."""
        with self.session(self._maintenance_database(name), silence_seconds=_ANSWER_SECONDS) as session:
            size = session.query(
                f"SELECT to_jsonb(pg_database_size(oid)) FROM pg_database WHERE datname = {quote_literal(name)};"
            )
            connected = session.query(_CONNECTED.format(name=quote_literal(name), ours=APPLICATION_PREFIX))
            [prepared] = session.query(
                f"SELECT to_jsonb(count(*)) FROM pg_prepared_xacts WHERE database = {quote_literal(name)};"
            )
        if not size:
            return None
        return LiveDatabase(size[0], sum(one["sessions"] for one in connected), tuple(connected), prepared)

    def settings(self, *names: str) -> list[str]:
        """Settings of the server, such as ``shared_preload_libraries``."""
        rows = ", ".join(f"({number}, {quote_literal(name)})" for number, name in enumerate(names))
        sql = f"SELECT to_jsonb(current_setting(name)) FROM (VALUES {rows}) AS wanted (number, name) ORDER BY number;"
        return self.query(self._home, sql)

    def volume(self, directory: str) -> Volume | None:
        """The file system that a directory of the container lies on; None where nothing tells.

        Raises what keeps the container from answering.
        """
        [place] = volumes.look(self._docker, self.container, [directory])
        return Volume(directory, place.free_bytes, place.total_bytes) if place else None

    def room(self) -> Survey:
        """What the server's volumes have, and what decides how much of it a restore takes.

        Raises RoomUnknownError where neither ``df`` nor ``stat`` tells.
        """
        known = self.query(self._home, _ROOM)[0]
        log = f"{known['directory']}/pg_wal"
        directories = {DEFAULT_TABLESPACE: known["directory"]} | {
            name: f"{known['directory']}/pg_tblspc/{oid}" for name, oid in known["tablespaces"].items()
        }
        places, log_bytes, processors = volumes.survey(self._docker, self.container, log, [*directories.values()])
        found = [place for place in places if place is not None]
        if len(found) < len(places):
            raise RoomUnknownError(
                f"{self.container} does not tell how much room there is on the volume of {known['directory']}: neither df "
                "nor stat answers in its image; restore into a container that has one of them (target=)."
            )
        return Survey(
            log=found[0],
            tablespaces=dict(zip(directories, found[1:], strict=True)),
            settings=_log_settings(known),
            log_bytes=log_bytes,
            sort_memory_bytes=known["sort_bytes"],
            processors=min(processors, _MOST_JOBS),
        )

    def watch_room(self, places: Sequence[Place]) -> AbstractContextManager[volumes.Watch]:
        """Look at the volumes of these places again and again."""
        directories = [place.directory for place in places]
        return volumes.watch(self._docker, self.container, directories, {"PGAPPNAME": self.application})

    def end_sessions(self, database: str) -> None:
        """End every session in a database."""
        self.query(
            self._maintenance_database(database),
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE datname = {quote_literal(database)} AND pid <> pg_backend_pid();",
        )

    def roles(self) -> RolesOnTarget:
        """Every role there is, PostgreSQL's own among them."""
        with self.session(self._home, silence_seconds=_ANSWER_SECONDS) as session:
            names = session.query("SELECT to_jsonb(rolname) FROM pg_roles;")
            may_create = session.query(
                "SELECT to_jsonb(rolsuper OR rolcreaterole) FROM pg_roles WHERE rolname = current_user;"
            )
        return RolesOnTarget(frozenset(names), may_create == [True])

    def available_extensions(self) -> dict[str, str]:
        """The extensions whose files the container's image has, with the version that it would create."""
        rows = self.query(self._home, "SELECT jsonb_build_array(name, default_version) FROM pg_available_extensions;")
        return dict(rows)

    def tablespaces(self) -> frozenset[str]:
        """Every tablespace there is."""
        return frozenset(self.query(self._home, "SELECT to_jsonb(spcname) FROM pg_tablespace;"))

    def make_roles(self, statements: Sequence[str]) -> None:
        """Run statements that make roles, all or none.

        Raises PostgresError without their text: they hold hashes of passwords.
        """
        with self.session(self._home) as session:
            # Nor does psql show the line that the server complains of.
            session.query("\\set VERBOSITY terse\n" + _SILENCE_THE_LOG)
            session.query("BEGIN;\n" + "\n".join(statements) + "\nCOMMIT;")

    def rename_database(self, name: str, new_name: str) -> None:
        """Give a database that nobody uses another name."""
        self.execute(
            self._maintenance_database(name),
            f"ALTER DATABASE {quote_identifier(name)} RENAME TO {quote_identifier(new_name)}",
        )

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it; none is fine too.

        A subscription keeps PostgreSQL from that, so it goes first. Its slot on the publisher stays: the same
        subscription of the database that takes this one's place has a use for it.
        """
        maintenance = self._maintenance_database(name)
        subscriptions = self.query(
            maintenance,
            "SELECT to_jsonb(subname) FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid "
            f"WHERE datname = {quote_literal(name)};",
        )
        for subscription in map(quote_identifier, subscriptions):
            self.execute(
                name,
                f"ALTER SUBSCRIPTION {subscription} DISABLE",
                f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)",
                f"DROP SUBSCRIPTION {subscription}",
            )
        # One that is ended while it is dropped would be there and open to nobody.
        drop = f"DROP DATABASE IF EXISTS {quote_identifier(name)} WITH (FORCE)"
        self.unstoppable().execute(maintenance, drop)

    def create_database(self, name: str, create_sql: str, owner: str) -> None:
        """Create a database by the archive's own definition and give it to its owner."""
        self.execute(
            self._maintenance_database(name),
            create_sql.rstrip().rstrip(";"),
            f"ALTER DATABASE {quote_identifier(name)} OWNER TO {quote_identifier(owner)}",
        )

    def drop_public_schema(self, database: str) -> None:
        """Drop the schema that a new database has, for one that had it dropped: an archive does not say so."""
        self.execute(database, "DROP SCHEMA public")

    def analyze(self, database: str) -> None:
        """Gather the planner's statistics, which an archive does not hold before PostgreSQL 18."""
        # The catalogs that all databases share are among its tables, and somebody may hold one of them.
        with self.session(database, self._without_event_triggers) as session:
            session.query("ANALYZE (SKIP_LOCKED);")

    def count(self, database: str, *, rows: bool) -> tuple[RowCounts | None, SequenceValues]:
        """Exact row counts of every user table where they are wanted, and the value of every sequence."""
        with self.session(database, self._without_event_triggers) as session:
            return (count_rows(session) if rows else None), sequence_values(session)

    def swap(self, live: str, new: str, old: str | None, properties: Sequence[str]) -> None:
        """Rename *live* to *old* and *new* to *live*, and set the database's properties, all in one transaction.

        *old* is None when there is no live database.

        ``ALTER DATABASE … RENAME`` locks the database's entry against new connections and then waits 5 s for
        the sessions that are left (CountOtherDBBackends in PostgreSQL's procarray.c); a second session ends
        them meanwhile, so that an app that reconnects at once cannot keep the swap from happening.

        Raises PostgresError; then nothing has changed.
        """
        statements = ["BEGIN", f"SET LOCAL lock_timeout = {_SWAP_WAIT_MILLISECONDS}"]
        if old is not None:
            statements.append(f"ALTER DATABASE {quote_identifier(live)} RENAME TO {quote_identifier(old)}")
        statements.append(f"ALTER DATABASE {quote_identifier(new)} RENAME TO {quote_identifier(live)}")
        statements.extend(statement.rstrip().rstrip(";") for statement in properties)
        statements.append("COMMIT")
        script = ";\n".join(statements) + ";"
        maintenance = self._maintenance_database(live)
        # Who begins to swap awaits the answer, whatever it is told meanwhile: it takes seconds.
        with (
            self._sessions_ended(maintenance, [live, new]),
            self.unstoppable().session(maintenance) as session,
        ):
            session.query(script)

    @contextmanager
    def _sessions_ended(self, maintenance: str, databases: Sequence[str]) -> Iterator[None]:
        names = ", ".join(quote_literal(name) for name in databases)
        end_sessions = (
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE datname IN ({names}) AND pid <> pg_backend_pid();"
        )
        done = threading.Event()
        with self.unstoppable().session(maintenance, watched=False) as session:

            def keep_ending() -> None:
                while not done.is_set():
                    try:
                        session.query(end_sessions)
                    except PostgresError:
                        return  # The swap's own session tells what is wrong with the server.
                    done.wait(0.1)

            session.query(end_sessions)
            worker = threading.Thread(target=keep_ending, daemon=True)
            worker.start()
            try:
                yield
            finally:
                done.set()
                worker.join()

    def end_leftovers(self, application_pattern: str) -> int:
        """End what runs that are no more left in the container: sessions by application name, then clients.

        *application_pattern* is a regular expression that holds only characters with the same meaning in
        PostgreSQL and grep. Returns how many were ended; raises PostgresError.
        """
        ended: int = self.query(
            self._home,
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE application_name ~ {quote_literal('^' + application_pattern)} AND pid <> pg_backend_pid();",
        )[0]
        result = self._docker.run(self.container, ["sh", "-c", _CLIENTS, "sh", application_pattern, "end"])
        return max(ended, result.stdout.count(b"\n"))

    def runs_at_work(self) -> set[str]:
        """The ids of the runs that have a session or a client program in the container, of whichever agent.

        Raises PostgresError.
        """
        names: list[str] = self.query(
            self._home,
            "SELECT DISTINCT to_jsonb(application_name) FROM pg_stat_activity "
            f"WHERE starts_with(application_name, {quote_literal(f'{APPLICATION_PREFIX} ')});",
        )
        result = self._docker.run(self.container, ["sh", "-c", _CLIENTS, "sh", f"{APPLICATION_PREFIX} ", "list"])
        names += result.stdout.decode("utf-8", "replace").splitlines()
        return {run for run in map(run_of_application, names) if run}

    def half_made_databases(self) -> dict[str, int]:
        """Databases that a restore began and did not finish, with their sizes in bytes."""
        rows = self.query(
            self._home,
            "SELECT jsonb_build_array(datname, pg_database_size(oid)) FROM pg_database "
            f"WHERE starts_with(datname, {quote_literal(RESTORE_PREFIX)});",
        )
        return {name: size for name, size in rows if _HALF_MADE.match(name)}

    def database_names(self) -> set[str]:
        """Every database of the cluster, templates too; told to a run that is to stop as well, as what a swap came to."""
        return set(self.unstoppable().query(self._home, "SELECT to_jsonb(datname) FROM pg_database;"))

    # -- drills ------------------------------------------------------------------------------------------

    def answers_over_tcp(self) -> bool:
        """Whether the server is up for everybody; the entry point's first, temporary server listens on no address."""
        result = self._docker.run(self.container, ["pg_isready", "--quiet", "--host=127.0.0.1", "--timeout=5"])
        return result.exit_code == 0

    def has_amcheck(self) -> bool:
        """Whether the image has pg_amcheck (PostgreSQL 14 or newer) and the extension that it calls."""
        found = self._docker.run(self.container, ["sh", "-c", "command -v pg_amcheck"]).exit_code == 0
        available = "SELECT to_jsonb(EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck'));"
        return found and bool(self.query(self._home, available)[0])

    def check_relations(self, database: str, jobs: int) -> None:
        """Let pg_amcheck read every table and index of a database; makes the extension amcheck in it.

        Raises DamagedRelationsError in its words.
        """
        argv = [
            "pg_amcheck",
            "--install-missing",
            "--no-password",
            f"--jobs={jobs}",
            connection_string(database),
        ]
        result = self._docker.run(
            self.container,
            argv,
            self.environment() | {"PGOPTIONS": _AMCHECK_OPTIONS},
            silence_seconds=24 * 3600.0,
            waiting=self._waiting,
        )
        if result.exit_code == 2:
            lines = [line.strip() for line in result.stdout.decode("utf-8", "replace").splitlines()]
            raise DamagedRelationsError(f"pg_amcheck found damage in the restored {database}: {' '.join(lines[:4])}")
        if result.exit_code != 0:
            why = self._docker.how_it_ended(self.container, argv[0], result)
            raise DamagedRelationsError(f"pg_amcheck could not check {database}: {why}")

    def run_read_only(self, database: str, sql: str) -> list[str]:
        """Run somebody's SQL where nothing can be written; every value that it returns, as text, row after row.

        Raises PostgresError in the server's words.
        """
        end = secrets.token_hex(16)
        argv = [*_PSQL, "--field-separator-zero", "--record-separator-zero", f"--dbname={connection_string(database)}"]
        script = f"BEGIN READ ONLY;\n{sql}\n;\n\\echo {end}\n"
        result = self._docker.run(
            self.container,
            argv,
            self.environment() | {"PGOPTIONS": _READ_ONLY_OPTIONS},
            stdin=script.encode(),
            silence_seconds=2 * 3600.0,
            waiting=self._waiting,
        )
        text = result.stdout.decode("utf-8", "replace")
        if result.exit_code != 0:
            why = self._docker.how_it_ended(self.container, argv[0], result)
            raise PostgresError(f"{self.container}/{database}: {last_words(result.stderr) or why}")
        if not text.endswith(f"{end}\n"):
            raise PostgresError(
                f"{self.container}/{database}: the SQL holds a quotation or a comment that does not end."
            )
        return text.removesuffix(f"{end}\n").split("\0")[:-1]

    def _is_empty(self, database: str) -> bool:
        return bool(self.query(database, _IS_EMPTY)[0])

    @property
    def _home(self) -> str:
        """A database to stand in: ``postgres``, or ``template1`` where an administrator dropped that.

        Not always template1: CREATE DATABASE copies it and fails while anyone is connected to it.
        """
        return self._remember("home", self._find_home)

    def _find_home(self) -> str:
        try:
            self.query("postgres", "SELECT to_jsonb(true);")
        except PostgresError:
            # psql has no code for why it was not let in. Whoever is let in elsewhere can ask whether there is such a database;
            # who is not either, fails for another reason, which the first try has told.
            try:
                open_to_all = self.query(
                    "template1", "SELECT to_jsonb(datallowconn) FROM pg_database WHERE datname = 'postgres';"
                )
            except PostgresError:
                open_to_all = [True]
            if open_to_all == [True]:
                raise
            return "template1"
        return "postgres"

    def _remember(self, what: str, find: Callable[[], str]) -> str:
        key = self.container, what
        if key not in self._facts:
            self._facts[key] = find()
        return self._facts[key]

    @property
    def _without_event_triggers(self) -> str:
        """The options of a session in a half-made database, whose own event triggers have to keep still.

        pg_restore makes them before it fills materialized views, and one on logins would see every session of ours:
        what they write was never saved. Only a superuser may say so, and only a superuser makes event triggers.
        """
        return self._remember("without event triggers", self._find_out_how_triggers_keep_still)

    def _find_out_how_triggers_keep_still(self) -> str:
        versions = self.query(
            self._home,
            "SELECT to_jsonb(current_setting('server_version_num')::int) FROM pg_roles "
            "WHERE rolname = current_user AND rolsuper;",
        )
        if not versions:
            return ""
        return "-c event_triggers=off" if versions[0] >= 170000 else "-c session_replication_role=replica"

    def _maintenance_database(self, busy: str) -> str:
        """Where to stand while *busy* is created, renamed or dropped."""
        return "template1" if busy == self._home else self._home


def run_of_application(name: str) -> str | None:
    """The id of the run that a session or a client program of this name is of; None of one that is no run's."""
    words = name.split(" ")
    return words[1] if words[0] == APPLICATION_PREFIX and len(words) > 1 and is_run_id(words[1]) else None


def run_of_half_made(name: str) -> str | None:
    """The id of the run that a half-made database is of; None of a name that is no such database's."""
    match = _HALF_MADE.match(name)
    return f"{match['day'].upper()}-{match['rest']}" if match else None


def _log_settings(known: Mapping[str, Any]) -> LogSettings:
    """How the server treats its log, by what it says of itself."""
    kept, hoards = int(known["kept_bytes"]), None
    if known["archive_fails"]:
        hoards = "archive_mode is on and nothing is archived, so the server keeps all of it"
    elif known["slots"] and known["kept_for_slots"] < 0:
        hoards = f"the replication slot {known['slots'][0]} is not in use, so the server keeps all of it"
    elif known["slots"]:
        kept += int(known["kept_for_slots"])
    return LogSettings(int(known["limit_bytes"]), kept, bool(known["checksums"]), hoards)


def open_exported_snapshot(session: SqlSession) -> tuple[str, dict[str, Any]]:
    """Begin the transaction that a dump and its counts share; returns the snapshot's name and the description.

    The tables are locked as pg_dump locks them, at once: a TRUNCATE between the snapshot and pg_dump's own
    lock would show no rows to a transaction that should still see them.
    """
    session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
    exported: str = session.query("SELECT to_jsonb(pg_export_snapshot());")[0]
    if session.query("SELECT to_jsonb(current_setting('server_version_num')::int);")[0] >= 170000:
        session.query("SET transaction_timeout = 0;")
    session.query(_LOCK_TABLES)
    description: dict[str, Any] = session.query(_DESCRIBE)[0]
    return exported, description


def count_rows(session: SqlSession) -> RowCounts:
    """Exact row counts of every user table, as this session's transaction sees them."""
    return {
        f"{quote_identifier(schema)}.{quote_identifier(table)}": count
        for schema, table, count in session.query(_COUNT_ROWS)
    }


def sequence_values(session: SqlSession) -> SequenceValues:
    """The last value of every sequence, and whether it was handed out."""
    return {
        f"{quote_identifier(schema)}.{quote_identifier(name)}": (value, called)
        for schema, name, value, called in session.query(_SEQUENCE_VALUES)
    }


def different_counts(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """The tables whose counts differ, with both counts."""
    return [
        f"{table}: {expected.get(table, 'no table')} expected, {found.get(table, 'no table')} restored"
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]


def explain_failure(stderr: str) -> tuple[str | None, str]:
    """The SQLSTATE of the first error that psql tells of, verbose as it is here, and its errors in the server's words."""
    errors = list(_ERROR.finditer(stderr))
    if not errors:
        return None, last_words(stderr)
    return errors[0]["sqlstate"], " ".join(f"{one['severity']}{one['message']}" for one in errors[:3])

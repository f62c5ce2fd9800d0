# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of one run on a server, through the psql of its container, and the end of whatever the run has there.

SQL goes through standard input, never through argv, and what others wrote as values (``statements.py``); database names go as
quoted connection strings, because ``--dbname`` reads anything with an ``=`` as options. A password goes through ``PGPASSWORD`` of the one exec.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from scalr_backup.core.discretion import words_of
from scalr_backup.core.errors import (
    DockerUnreachableError,
    InterruptedRunError,
    InvalidAnswerError,
    PostgresError,
    ScalrBackupError,
)
from scalr_backup.core.model import Credentials, is_run_id
from scalr_backup.core.spoken import COUNTS, MOST_BYTES, TEXTS, parse
from scalr_backup.core.sql import connection_string, quote_literal
from scalr_backup.core.sqlstate import LOCK_NOT_AVAILABLE, is_untranslatable
from scalr_backup.core.text import encoded
from scalr_backup.tools.docker import marked
from scalr_backup.tools.docker.bounds import Bounds
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult, ExecStream, MessageTail
from scalr_backup.tools.postgres.at_work import APPLICATION, LIST_CLIENTS
from scalr_backup.tools.postgres.blockers import BLOCKERS, LockWatch, blockers_sql, in_the_way
from scalr_backup.tools.postgres.failures import explain_failure, reporter_of
from scalr_backup.tools.postgres.home import find_home, places
from scalr_backup.tools.postgres.kept import KeptSession
from scalr_backup.tools.postgres.limits import KNOWN_LIMITS, LIFT_LIMITS, LIMITS, WRITABLE, without_limits
from scalr_backup.tools.postgres.statements import as_values

# Every connection of a run carries the run's id, so that what a killed run left behind can be distinguished from the app's.
APPLICATION_PREFIX = "scalr-backup"

# What looks at a server for no run, in this process.
LOOK = f"{APPLICATION_PREFIX} look {secrets.token_hex(4)}"

PSQL = ("psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1")
# Errors come with their SQLSTATE, for failures.py to find.
VERBOSE = "--set=VERBOSITY=verbose"
# Only the server's own functions and operators; the limits that every server knows are lifted before the others.
_SESSION_OPTIONS = (
    "-c search_path=pg_catalog -c standard_conforming_strings=on -c statement_timeout=0 "
    f"-c idle_in_transaction_session_timeout=0 -c client_min_messages=warning {WRITABLE}"
)
# A session begins with what every server can do: bytes go as they are. Where a database has a conversion to UTF8, that is
# used, unless there is something in it that has no place in UTF8.
_AS_IT_IS = "SQL_ASCII"
WITHOUT_CONVERSION = frozenset({"SQL_ASCII", "MULE_INTERNAL"})
_CONVERTED = (
    "SELECT pg_catalog.set_config('client_encoding', CASE WHEN pg_catalog.current_setting('server_encoding') "
    f"IN ({', '.join(map(quote_literal, sorted(WITHOUT_CONVERSION)))}) THEN '{_AS_IT_IS}' ELSE 'UTF8' END, false) "
    "AS client_encoding \\gset\n"
)
# What a psql begins with, whatever it is connected to.
SETTLE = f"{LIFT_LIMITS}{_CONVERTED}"
# PostgreSQL waits for ever on what somebody holds exclusively; a night is better spent on the others. Who tidies up after
# being told to stop waits no longer than this.
_SHORT_LOCK_WAIT_SECONDS = 30
# Counting the rows of a large table says nothing for a long time; a look at a catalog that does is a server that hangs.
WORK_SECONDS, ANSWER_SECONDS = 24 * 3600.0, 300.0
# How many processes are named that could not be ended.
_MOST_TOLD = 4
# Blockers are reported at once or not at all.
_LOOK_SECONDS = 20.0
# By container and what is known of it.
ServerFacts = dict[tuple[str, str], str]
_HOME, _HOME_ENCODING = "home", "home encoding"


Made = TypeVar("Made")


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
        self,
        stream: ExecStream,
        subject: str,
        waiting: Callable[[], None],
        watch: LockWatch | None = None,
        *,
        raw: bool = False,
        seconds: float = WORK_SECONDS,
        limit: Callable[[], None] = lambda: None,
    ) -> None:
        """*waiting* is called every half second of silence; *watch* knows who is in the way meanwhile.

        To a *raw* session, the server converts nothing. Each answer has so many *seconds*, and *limit*, which is called with
        each piece of it, may raise.
        """
        self._stream = stream
        self.seconds = seconds
        self._limit = limit
        self._bounds = Bounds(subject, seconds)
        self._subject = subject
        self._watch = watch
        self._frames = stream.frames(lambda: self._bounds.check(waiting))
        self._messages = MessageTail()
        # What the server works on, whose words are no row's.
        self._asked: Sequence[str] = ()
        self._received = bytearray()
        # At once, as a session that waits for its first query may have a limit, too.
        self._write(LIFT_LIMITS if raw else SETTLE)

    def query(self, sql: str, most_bytes: int | None = None) -> list[Any]:
        """Run SQL (or psql commands) of our own whose rows are one JSON document each; returns the documents.

        An answer may have *most_bytes*, which are ``MOST_BYTES`` unless said otherwise.

        Raises PostgresError in the server's words, or about who was in the way; LateAnswerError; and InvalidAnswerError for
        what is too much or no JSON. The session is over then.
        """
        return parse(self._answer(sql, most_bytes=most_bytes), f"psql in {self._subject}")

    def run(self, statements: Sequence[str], *, last: bool = False) -> None:
        """Have the server run statements, whoever wrote them: psql does not read them, and what they return is not read.

        After the *last* of a session its input ends: one that asks for input gets none. Raises what ``query`` does.
        """
        self._answer(as_values(statements), asked=statements, last=last)

    def _answer(
        self, sql: str, *, asked: Sequence[str] = (), last: bool = False, most_bytes: int | None = None
    ) -> list[bytes]:
        self._asked = asked or (sql,)
        if self._watch is not None:
            self._watch.moved()
        if "\0" in sql:
            # psql would leave out the rest of its line, and whatever that closes.
            raise PostgresError(f"{self._subject}: a name contains a NUL, which no database allows.")
        end = secrets.token_hex(16)
        self._bounds = Bounds(f"psql in {self._subject}", self.seconds, most_bytes or MOST_BYTES)
        self._write(f"{sql}\n\\echo {end}\n")
        if last:
            with suppress(OSError):
                self._stream.end_input()
        return self._lines_until(end.encode())

    def _write(self, text: str) -> None:
        with suppress(OSError):  # Where psql has ended, what it said follows.
            self._stream.write(encoded(text), lambda: self._bounds.check(self._limit))

    def _lines_until(self, end: bytes) -> list[bytes]:
        marker = end + b"\n"
        while not (self._received == marker or self._received.endswith(b"\n" + marker)):
            kind, data = next(self._frames, (0, b""))
            if kind == 0:
                raise self._failure()
            self._bounds.take(kind, len(data), self._limit)
            if kind == STDOUT:
                self._received += data
            else:
                self._messages.add(data)
        text, self._received = bytes(self._received).removesuffix(marker), bytearray()
        return text.split(b"\n")

    def _failure(self) -> PostgresError:
        sqlstate, words = explain_failure(self._messages.text, words_of(self._asked))
        if sqlstate == LOCK_NOT_AVAILABLE and self._watch is not None and self._watch.last:
            words = f"gave up waiting for {self._watch.last}; let it finish, or end it, then run this again."
        if sqlstate is None:
            explained = self._stream.how_it_ended(self._messages.text)
            # A refusal is the server's own, and how psql ended adds nothing to it.
            words = words if words and explained.endswith(f": {words}") else explained
        return PostgresError(f"{self._subject}: {words}", sqlstate, reporter_of(self._messages.text))


class PostgresServer:
    """The server of one container, on behalf of one run: sessions, and the end of what the run has there."""

    def __init__(
        self,
        docker: DockerHost,
        container: str,
        credentials: Credentials,
        application: str,
        waiting: Callable[[], None] = lambda: None,
        facts: ServerFacts | None = None,
        patience: Patience | None = None,
    ) -> None:
        """*facts* remembers what does not change while a run goes on, for everyone who asks the same container.

        Without *patience*, being told to stop ends no call: for tidying up afterwards.
        """
        # Where the server asks the system who somebody is, whatever runs there runs as that.
        self._docker = docker.as_account(credentials.system_user) if credentials.system_user else docker
        self.container = container
        self._credentials = credentials
        self.application = application
        self._waiting = waiting
        self._facts: ServerFacts = {} if facts is None else facts
        self._patience = patience or Patience()
        self._kept: KeptSession | None = None

    def while_waiting(self, waiting: Callable[[], None]) -> Self:
        """The same, but *waiting* is called every half second that the server works in silence, and may raise."""
        return self._like(self.application, waiting, self._patience)

    def unstoppable(self, application: str | None = None) -> Self:
        """The same, but a run that is told to stop awaits the end of each call; under another name where one is given."""
        return self._like(application or self.application, lambda: None, Patience(tell=self._patience.tell))

    def _like(self, application: str, waiting: Callable[[], None], patience: Patience) -> Self:
        return type(self)(self._docker, self.container, self._credentials, application, waiting, self._facts, patience)

    def lock_watch(self, database: str) -> LockWatch:
        """Whoever follows a wait of this run in a database, and finds out and says who is in its way."""

        def look() -> str | None:
            aside = self._like(f"{APPLICATION_PREFIX} aside", self._patience.stop_if_told, Patience(lock_seconds=2))
            try:
                with aside.session(database, silence_seconds=_LOOK_SECONDS, watched=False) as session:
                    return in_the_way(BLOCKERS.of(session.query(blockers_sql(self.application)), self._psql))
            except (PostgresError, DockerUnreachableError):
                return None  # The wait itself reports what is wrong with the server.

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
        most_bytes: int = MOST_BYTES,
    ) -> ExecResult:
        """Run a client program to its end, within limits; a run that is told to stop leaves nothing of it."""
        with self._ended_with_its_run():
            return self._docker.run(
                self.container,
                argv,
                environment,
                stdin=stdin,
                silence_seconds=silence_seconds,
                waiting=self._wait,
                most_bytes=most_bytes,
            )

    @contextmanager
    def _ended_with_its_run(self) -> Iterator[None]:
        """End on the server, too, what a run that was told to stop no longer waits for."""
        try:
            yield
        except InterruptedRunError:
            with suppress(ScalrBackupError):
                self.unstoppable(f"{APPLICATION_PREFIX} cleanup").end_leftovers(f"{self.application}$")
            raise

    def environment(self) -> dict[str, str]:
        """The variables that a client program in the container needs; they hold the password."""
        credentials = self._credentials
        way = {"PGHOST": credentials.host, "PGPORT": str(credentials.port) if credentials.port else None}
        variables = {
            **{name: value for name, value in way.items() if value},
            "PGUSER": credentials.user,
            APPLICATION: self.application,
            "PGCONNECT_TIMEOUT": "20",
            "PGCLIENTENCODING": _AS_IT_IS,
        }
        if credentials.password is not None:
            variables["PGPASSWORD"] = credentials.password
        return variables

    @contextmanager
    def session(
        self,
        database: str,
        options: str = "",
        *,
        silence_seconds: float = WORK_SECONDS,
        watched: bool = True,
        tidied: bool = True,
        raw: bool = False,
        kind: type[SqlSession] = SqlSession,
    ) -> Iterator[SqlSession]:
        """Open a psql session of some *kind* on a database; who is in its way is told, unless it is not *watched*.

        A *raw* one gets names as they are written in the database, in whatever encoding.

        Raises PostgresError at its first query when the server refuses, InterruptedRunError from a query when the run is
        told to stop: nothing is left on the server then, unless it is not *tidied* because the caller sees to that.
        """
        lock_wait = f"-c lock_timeout={self._patience.lock_seconds * 1000}"
        environment = self.environment() | {"PGOPTIONS": f"{_SESSION_OPTIONS} {lock_wait} {options}"}
        argv = [*PSQL, VERBOSE, f"--dbname={connection_string(database)}"]
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
            subject = f"{self.container}/{database}"
            with self._docker.ended_if_astray(stream), _named(subject):
                yield kind(stream, subject, wait, watch, raw=raw, seconds=silence_seconds, limit=self._wait)

    def end_client(self, stream: ExecStream) -> None:
        """End a client program, in its container, that nobody listens to any more; never raises."""
        self._docker.end(stream)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Let the looks of meanwhile at one database, one after the other, share a session: see ``KeptSession``."""
        self._kept = kept = KeptSession(lambda database: self.session(database, silence_seconds=ANSWER_SECONDS))
        try:
            yield
        finally:
            self._kept = None
            kept.close()

    def query(self, database: str, sql: str) -> list[Any]:
        """Look at something, in a session of its own unless one is kept open; rows are JSON documents."""
        if self._kept is not None:
            return self._kept.query(database, sql)
        with self.session(database, silence_seconds=ANSWER_SECONDS) as session:
            return session.query(sql)

    def query_cluster(self, sql: str) -> list[Any]:
        """Look at what no database has for itself."""
        return self.query(self._home, sql)

    def execute(self, database: str, *statements: str) -> None:
        """Run statements that return nothing, each in its own transaction."""
        with self.session(database) as session:
            session.run(statements)

    def end_leftovers(self, application_pattern: str) -> int:
        """End what dead runs left in the container: sessions by application name, then clients.

        *application_pattern* is a regular expression that holds only characters with the same meaning in
        PostgreSQL and grep. Returns how many were ended; raises PostgresError.
        """
        end = (
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE application_name ~ {quote_literal('^' + application_pattern)} AND pid <> pg_backend_pid();"
        )
        # Whoever tidies up after one that does not answer waits for it no longer than for a look; a busy one needs its minutes.
        with self.session(self._home, silence_seconds=ANSWER_SECONDS, watched=False, tidied=False) as session:
            ended = COUNTS.one(session.query(end), self._psql)
        argv = marked.argv(APPLICATION, application_pattern)
        said = self._docker.run(self.container, argv, silence_seconds=ANSWER_SECONDS).stdout
        if left := marked.left(said):
            self._patience.tell(
                f"{self.container}: a run left processes there that cannot be ended, as the server would take that for a crash: "
                f"{', '.join(left[:_MOST_TOLD])}."
            )
        return max(ended, marked.ended(said))

    def runs_at_work(self) -> set[str]:
        """The ids of the runs that have a session or a client program in the container, of whichever agent.

        Raises PostgresError.
        """
        rows = self.query(
            self._home,
            "SELECT DISTINCT to_jsonb(application_name) FROM pg_stat_activity "
            f"WHERE starts_with(application_name, {quote_literal(f'{APPLICATION_PREFIX} ')});",
        )
        names = TEXTS.of(rows, self._psql)
        result = self._docker.run(self.container, ["sh", "-c", LIST_CLIENTS, "sh", f"{APPLICATION_PREFIX} "])
        names += result.stdout.decode("utf-8", "replace").splitlines()
        return {run for run in map(run_of_application, names) if run}

    @property
    def _home(self) -> str:
        """A database to stand in: the one that is told, or ``postgres``; another where an administrator dropped that."""
        return self._remember(_HOME, lambda: find_home(places(self._credentials), self.query))

    @property
    def _home_encoding(self) -> str:
        """The encoding of the database to stand in."""
        return self._remember(_HOME_ENCODING, self._find_home_encoding)

    def _find_home_encoding(self) -> str:
        rows = self.query(self._home, "SELECT to_jsonb(current_setting('server_encoding'));")
        return TEXTS.one(rows, self._psql)

    @property
    def _psql(self) -> str:
        """Who has answered, in words."""
        return f"psql in {self.container}"

    def _remember(self, what: str, find: Callable[[], str]) -> str:
        key = self.container, what
        if key not in self._facts:
            self._facts[key] = find()
        return self._facts[key]

    @property
    def _without_limits(self) -> str:
        """The options of a client program that no limit of the cluster, of a database or of a role may end."""
        return self._remember(
            "limits", lambda: without_limits(LIMITS.of(self.query(self._home, KNOWN_LIMITS), self._psql))
        )

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
        is_new = COUNTS.one(versions, self._psql) >= 170000
        return "-c event_triggers=off" if is_new else "-c session_replication_role=replica"

    def _maintenance_database(self, *busy: str) -> str:
        """Where to stand while these are created, renamed or dropped."""
        home = self._home
        return find_home(places(self._credentials, busy) or [home], self.query) if home in busy else home

    def _have_changed(self, *names: str) -> None:
        """Look anew where to stand, if one of these databases, which were renamed or dropped, is a place for that."""
        if not set(names).isdisjoint(places(self._credentials)):
            for what in (_HOME, _HOME_ENCODING):
                self._facts.pop((self.container, what), None)


def converted_or_raw(look: Callable[[bool], Made]) -> Made:
    """Look in a session that has names in UTF8, and in a raw one only where a name has no place there.

    Everybody who looks at a database does it so: what a dump and its restore find is compared by name. Raises what *look*
    does, which is told whether to be raw.
    """
    try:
        return look(False)
    except PostgresError as error:
        if not is_untranslatable(error.sqlstate):
            raise
    return look(True)


@contextmanager
def _named(subject: str) -> Iterator[None]:
    """Say whose an answer is that makes no sense to whoever has asked for it."""
    try:
        yield
    except InvalidAnswerError as error:
        raise InvalidAnswerError(error.message if subject in error.message else f"{subject}: {error.message}") from None


def run_of_application(name: str) -> str | None:
    """The id of the run that a session or a client program of this name is of; None for anything else."""
    words = name.split(" ")
    return words[1] if words[0] == APPLICATION_PREFIX and len(words) > 1 and is_run_id(words[1]) else None

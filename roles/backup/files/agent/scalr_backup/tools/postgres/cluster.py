# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL cluster, through the client programs of its own container: what it holds, and what is changed in it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from scalr_backup.core.answers import ConnectedAnswer
from scalr_backup.core.archive.database import DatabaseDefinition
from scalr_backup.core.errors import PostgresError, RoomUnknownError
from scalr_backup.core.model import Database, LeftOut, Volume, kept_since
from scalr_backup.core.room import DEFAULT_TABLESPACE, Place, Survey
from scalr_backup.core.slots import SlotAnswer
from scalr_backup.core.spoken import COUNTED, COUNTS, FLAGS, MOST_OF_TABLES, NAMES, TEXTS
from scalr_backup.core.sql import quote_identifier, quote_literal
from scalr_backup.tools.docker import volumes
from scalr_backup.tools.postgres.clients import MOST_JOBS, Clients
from scalr_backup.tools.postgres.failures import explain_failure
from scalr_backup.tools.postgres.limits import TABLES_ONLY
from scalr_backup.tools.postgres.queries import (
    ARE_ROWS_OF_OTHERS,
    CONNECTED,
    DATABASES,
    IS_EMPTY,
    IS_MORE_THAN_EXTENSIONS,
    MAY_END,
    ROOM_OF_SERVER,
    SILENCE_THE_LOG,
    SLOTS,
    RowCounts,
    SequenceValues,
    count_rows,
    sequence_values,
)
from scalr_backup.tools.postgres.room import log_settings, unknown_room
from scalr_backup.tools.postgres.session import ANSWER_SECONDS, APPLICATION_PREFIX, converted_or_raw
from scalr_backup.tools.postgres.shapes import (
    CONNECTIONS,
    DATABASE_ROWS,
    MOMENTS,
    ROLE_ROWS,
    ROOMS,
    SLOT_ROWS,
    VALUES,
    DatabaseRow,
)
from scalr_backup.tools.postgres.window import DONE, MOMENT, window_script

# Half-made databases of a restore: this, the run's id and a number. Nothing else is called so; a user's database
# that only begins alike is not ours to drop.
RESTORE_PREFIX = "scalr_restore_"
_HALF_MADE = re.compile(RESTORE_PREFIX + r"(?P<day>[0-9]{8}t[0-9]{6}z)_(?P<rest>[0-9a-f]{4})_[0-9]+\Z")
# What new databases are copied from.
_TEMPLATE = "template1"
_LONGEST_VERSION = 40
# PostgreSQL documentation, "Error Codes"; and how often and how soon a database is tried again that is in use.
_OBJECT_IN_USE = "55006"
_DROP_TRIES, _BETWEEN_DROPS_SECONDS = 20, 0.2
# While the swap waits for somebody's lock on the database, the app cannot connect.
_SWAP_WAIT_MILLISECONDS = 10 * 1000


@dataclass(frozen=True)
class LiveDatabase:
    """What a restore is about to replace; bytes, sessions of others and whose they are."""

    size_bytes: int
    sessions: int
    connected: tuple[ConnectedAnswer, ...] = ()
    prepared_transactions: int = 0
    # The logical replication slots that go with it when it is dropped.
    slots: tuple[SlotAnswer, ...] = ()


@dataclass(frozen=True)
class RolesOnTarget:
    """The roles of a cluster, which of them are superusers, who the agent's user is, and whether it may make more."""

    names: frozenset[str]
    may_create: bool
    superusers: frozenset[str] = frozenset()
    user: str = ""


class Postgres(Clients):
    """The PostgreSQL cluster of one container, on behalf of one run."""

    def server_version(self) -> str:
        """The server's version, such as ``17.6``."""
        rows = self.query(self._home, "SELECT to_jsonb(current_setting('server_version'));")
        return TEXTS.one(rows, self._psql).split(" ", 1)[0][:_LONGEST_VERSION]

    def databases(self) -> tuple[tuple[Database, ...], tuple[LeftOut, ...]]:
        """Every database that can be saved, templates too, and those that cannot.

        Neither lists a ``postgres`` among others or a ``template1`` that holds nothing of its own.
        """
        said = DATABASE_ROWS.of(self.query(self._home, DATABASES), self._psql)
        rows = [row for row in said if not _HALF_MADE.match(row["name"])]
        left_out = [LeftOut(row["name"], why) for row in rows if (why := _why_left_out(row))]
        out = {one.name for one in left_out}
        found = [_database(row) for row in rows if row["name"] not in out]
        found, unseen = self._without_empty_template1(found)
        left_out += unseen
        apps = [one.name for one in found if not kept_since(one.name) and not one.is_template]
        if len(apps) > 1 and "postgres" in apps and self._is_empty("postgres"):
            found = [database for database in found if database.name != "postgres"]
        return tuple(found), tuple(one for one in left_out if not kept_since(one.name))

    def _without_empty_template1(self, found: list[Database]) -> tuple[list[Database], list[LeftOut]]:
        others = [database for database in found if database.name != _TEMPLATE]
        if len(others) == len(found):
            return found, []
        try:
            return (others if self._is_empty(_TEMPLATE) else found), []
        except PostgresError as error:
            return others, [LeftOut(_TEMPLATE, f"it cannot be inspected: {error.message}")]

    def may_read_passwords(self) -> bool:
        """Whether the hashes of the roles' passwords can be saved: only superusers see them unless told otherwise."""
        sql = "SELECT to_jsonb(has_table_privilege('pg_catalog.pg_authid', 'SELECT'));"
        return FLAGS.one(self.query(self._home, sql), self._psql)

    def live_database(self, name: str) -> LiveDatabase | None:
        """Size and other sessions of a database; None when there is no such database."""
        with self.session(self._maintenance_database(name), silence_seconds=ANSWER_SECONDS) as session:
            size = COUNTS.of(
                session.query(
                    "SELECT to_jsonb(COALESCE(pg_database_size(oid), 0)) FROM pg_database "
                    f"WHERE datname = {quote_literal(name)};"
                ),
                self._psql,
            )
            connected = CONNECTIONS.of(
                session.query(CONNECTED.format(name=quote_literal(name), ours=APPLICATION_PREFIX)), self._psql
            )
            prepared = COUNTS.one(
                session.query(
                    f"SELECT to_jsonb(count(*)) FROM pg_prepared_xacts WHERE database = {quote_literal(name)};"
                ),
                self._psql,
            )
            slots = SLOT_ROWS.of(session.query(SLOTS.format(name=quote_literal(name))), self._psql)
        if not size:
            return None
        sessions = sum(one["sessions"] for one in connected)
        return LiveDatabase(size[0], sessions, tuple(connected), prepared, tuple(slots))

    def slots(self, database: str) -> tuple[SlotAnswer, ...]:
        """The logical replication slots of a database; told to a run that is to stop as well."""
        rows = self.unstoppable().query_cluster(SLOTS.format(name=quote_literal(database)))
        return tuple(SLOT_ROWS.of(rows, self._psql))

    def readable_settings(self, names: Sequence[str]) -> dict[str, str]:
        """Those of these settings that the server knows, and that the agent's user may read."""
        listed = ", ".join(map(quote_literal, names))
        rows = f"SELECT jsonb_build_array(name, setting) FROM pg_settings WHERE name IN ({listed});"
        found = VALUES.of(self.query(self._home, rows), self._psql)
        return {name: value for name, value in found if value is not None}

    def volume(self, directory: str) -> Volume | None:
        """The file system that a directory of the container lies on, or the server's data where it is ""; None when unknown.

        Raises what keeps the container from answering.
        """
        directory = directory or volumes.data_directory(self._docker, self.container) or ""
        if not directory:
            return None
        [place] = volumes.look(self._docker, self.container, [directory])
        return Volume(directory, place.free_bytes, place.total_bytes) if place else None

    def room(self) -> Survey:
        """What the server's volumes have, and what decides how much of it a restore takes.

        Raises RoomUnknownError when neither ``df`` nor ``stat`` works.
        """
        known = ROOMS.one(self.query(self._home, ROOM_OF_SERVER), self._psql)
        known["directory"] = known["directory"] or volumes.data_directory(self._docker, self.container)
        if known["directory"] is None:
            return unknown_room(known, self.container, self._credentials.user)
        log = f"{known['directory']}/pg_wal"
        directories = {DEFAULT_TABLESPACE: known["directory"]} | {
            name: f"{known['directory']}/pg_tblspc/{oid}" for name, oid in known["tablespaces"].items()
        }
        places, log_bytes, processors = volumes.survey(self._docker, self.container, log, [*directories.values()])
        found = [place for place in places if place is not None]
        if len(found) < len(places):
            raise RoomUnknownError(
                f"Cannot determine the free space on the volume of {known['directory']} in {self.container}: "
                "neither df nor stat works in its image; restore into a container that has one of them (target=)."
            )
        return Survey(
            log=found[0],
            tablespaces=dict(zip(directories, found[1:], strict=True)),
            settings=log_settings(known),
            log_bytes=log_bytes,
            sort_memory_bytes=known["sort_bytes"],
            processors=min(processors, MOST_JOBS),
        )

    def watch_room(self, places: Sequence[Place]) -> AbstractContextManager[volumes.VolumeWatch]:
        """Look at the volumes of these places again and again."""
        directories = [place.directory for place in places]
        return volumes.watch(self._docker, self.container, directories, {"PGAPPNAME": self.application})

    def end_sessions(self, database: str) -> None:
        """End every session in a database."""
        self.query(
            self._maintenance_database(database),
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE datname = {quote_literal(database)} AND pid <> pg_backend_pid() AND {MAY_END};",
        )

    def roles(self) -> RolesOnTarget:
        """Every role there is, PostgreSQL's own among them."""
        with self.session(self._home, silence_seconds=ANSWER_SECONDS) as session:
            rows = session.query("SELECT jsonb_build_array(rolname, rolsuper) FROM pg_roles;")
            mine = session.query(
                "SELECT jsonb_build_array(rolname, rolsuper OR rolcreaterole) FROM pg_roles WHERE rolname = current_user;"
            )
        known = dict(ROLE_ROWS.of(rows, self._psql))
        user, may_create = ROLE_ROWS.one(mine, self._psql)
        return RolesOnTarget(frozenset(known), may_create, frozenset(one for one in known if known[one]), user)

    def available_extensions(self) -> dict[str, str]:
        """The extensions whose files the container's image has, with the version that it would create."""
        rows = self.query(self._home, "SELECT jsonb_build_array(name, default_version) FROM pg_available_extensions;")
        return {name: version or "" for name, version in VALUES.of(rows, self._psql)}

    def tablespaces(self) -> frozenset[str]:
        """Every tablespace there is."""
        return frozenset(NAMES.of(self.query(self._home, "SELECT to_jsonb(spcname) FROM pg_tablespace;"), self._psql))

    def make_roles(self, statements: Sequence[str]) -> None:
        """Run statements that make roles, all or none.

        Raises PostgresError without their text: they hold hashes of passwords.
        """
        with self.session(self._home) as session:
            # Nor does psql show the line that the server complains of.
            session.query("\\set VERBOSITY terse\n" + SILENCE_THE_LOG)
            session.run(["BEGIN", *statements, "COMMIT"])

    def keep_database(self, name: str, new_name: str) -> None:
        """Give a new database, which is not in use, a name to stay under, and let in whoever has a right to."""
        self.rename_all([(name, new_name)], [let_in(new_name)])

    def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions; it need not exist, and may be a template.

        A subscription keeps PostgreSQL from that, so it goes first. Its slot on the publisher stays: the same
        subscription of the database that takes this one's place has a use for it.
        """
        maintenance = self._maintenance_database(name)
        subscriptions = self.query(
            maintenance,
            "SELECT to_jsonb(subname) FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid "
            f"WHERE datname = {quote_literal(name)};"
            f"SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database "
            f"WHERE datname = {quote_literal(name)} AND datistemplate \\gexec",
        )
        for subscription in map(quote_identifier, NAMES.of(subscriptions, self._psql)):
            self.execute(
                name,
                f"ALTER SUBSCRIPTION {subscription} DISABLE",
                f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)",
                f"DROP SUBSCRIPTION {subscription}",
            )
        try:
            self._drop(name, maintenance)
        finally:
            self._have_changed(name)

    def _drop(self, name: str, maintenance: str) -> None:
        # One whose DROP is interrupted would remain, and accept no connections.
        drop = f"DROP DATABASE IF EXISTS {quote_identifier(name)} WITH (FORCE)"
        patient = self.unstoppable()
        for left in reversed(range(_DROP_TRIES)):
            try:
                patient.execute(maintenance, drop)
                return
            except PostgresError as error:
                # FORCE does not end who reads a replication slot of the database, and who does comes back at once.
                if not left or error.sqlstate != _OBJECT_IN_USE:
                    raise
            patient.end_sessions(name)
            time.sleep(_BETWEEN_DROPS_SECONDS)

    def create_database(self, name: str, definition: DatabaseDefinition, owner: str, *, with_tablespace: bool) -> None:
        """Create a database by an archive's definition and give it to its owner.

        Until it is renamed to what it shall be called, none but superusers are let in, so that whoever owns something in it
        does not meddle with what is made; unless the agent's user is none of them.
        """
        closed = bool(self._without_event_triggers)
        self.execute(
            self._maintenance_database(name),
            definition.create(name, with_tablespace=with_tablespace, closed=closed),
            f"ALTER DATABASE {quote_identifier(name)} OWNER TO {quote_identifier(owner)}",
        )

    def describe(self, database: str, statements: Sequence[str], tried: Sequence[str] = ()) -> None:
        """Run statements about a new database, each in its own transaction; of those that are only *tried*, nothing stays.

        Raises PostgresError.
        """
        trial = ["BEGIN", *tried, "ROLLBACK"] if tried else []
        self.execute(self._maintenance_database(database), *statements, *trial)

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
        return converted_or_raw(lambda raw: self._count(database, rows=rows, raw=raw))

    def _count(self, database: str, *, rows: bool, raw: bool) -> tuple[RowCounts | None, SequenceValues]:
        with self.session(database, self._without_event_triggers, raw=raw) as session:
            closed = bool(self._without_event_triggers)
            return (count_rows(session, MOST_OF_TABLES, is_closed=closed) if rows else None), sequence_values(session)

    def swap(self, live: str, new: str, old: str | None, properties: Sequence[str]) -> None:
        """Rename *live* to *old* and *new* to *live*, and set that one's properties, all in one transaction.

        *old* is None when there is no live database. Raises PostgresError; then nothing has changed.
        """
        self.rename_all([*([(live, old)] if old is not None else []), (new, live)], properties)

    def rename_all(self, pairs: Sequence[tuple[str, str]], properties: Sequence[str] = ()) -> None:
        """Rename databases one after the other, each from one name to another, and set properties, all in one transaction.

        ``ALTER DATABASE … RENAME`` locks the database's entry against new connections and then waits 5 s for
        the sessions that are left (CountOtherDBBackends in PostgreSQL's procarray.c); a second session ends
        them meanwhile, so that an app that reconnects at once cannot keep the swap from happening.

        Raises PostgresError; then nothing has changed.
        """
        statements = ["BEGIN", f"SET LOCAL lock_timeout = {_SWAP_WAIT_MILLISECONDS}"]
        statements += [
            f"ALTER DATABASE {quote_identifier(one)} RENAME TO {quote_identifier(other)}" for one, other in pairs
        ]
        statements += [*properties, "COMMIT"]
        busy = list(dict.fromkeys(name for pair in pairs for name in pair))
        maintenance = self._maintenance_database(*busy)
        # Once begun, a swap waits for its answer, even when told to stop: it takes seconds.
        try:
            with (
                self._sessions_ended(maintenance, busy),
                self.unstoppable().session(maintenance) as session,
            ):
                session.run(statements)
        finally:
            self._have_changed(*busy)

    def while_named(self, live: str, new: str, aside: str | None, statements: Sequence[str]) -> tuple[bool, str]:
        """Run statements in the database *new* while it is called *live*, and the live one *aside*, for a moment.

        Returns whether the names are as they were, and what went wrong, if something did; see ``window_script``.
        Raises what keeps the answer from coming; the names then tell how far it came.
        """
        home = self._maintenance_database(live)
        script = window_script(live, new, aside, statements)
        # Once begun, it waits for its answer, even when told to stop: it takes a moment.
        with self.unstoppable(f"{self.application} {MOMENT}").session(home) as session:
            said = MOMENTS.of(session.query(script), self._psql)
        if not said:
            raise PostgresError(f"{self.container} did not say whether the names were changed back")
        words = str(said[-1]["said"])
        # What is run there works on no row.
        told = "" if words == DONE else explain_failure(words, None)[1] or "its psql could not be started"
        return said[-1]["back"], told

    def holds_more_than_extensions(self, database: str, *, rows: bool) -> bool:
        """Whether somebody has written into a database in which nothing was made but extensions.

        With *rows*, what stands in the extensions' own tables counts, too, unless their creation has put it there.
        """
        with self.session(database, self._without_event_triggers, silence_seconds=ANSWER_SECONDS) as session:
            session.query(TABLES_ONLY)
            return session.query(IS_MORE_THAN_EXTENSIONS) == [True] or (rows and any(session.query(ARE_ROWS_OF_OTHERS)))

    def set_until_full(self, database: str, settings: Mapping[str, str]) -> tuple[str, ...]:
        """Give a database settings; returns their names.

        A library that is loaded only with its extension has no settings before, which a superuser may set all the same;
        anybody else gives those that the server knows.
        """
        known = [*settings] if self._without_event_triggers else [*self.readable_settings([*settings])]
        name = quote_identifier(database)
        self.execute(
            self._maintenance_database(database),
            *(f"ALTER DATABASE {name} SET {one} = {quote_literal(settings[one])}" for one in known),
        )
        return tuple(known)

    def reset(self, database: str, settings: Sequence[str]) -> None:
        """Take such settings away; what the archive has of them comes with the swap."""
        name = quote_identifier(database)
        self.execute(self._maintenance_database(database), *(f"ALTER DATABASE {name} RESET {one}" for one in settings))

    def alter(self, database: str, statements: Sequence[str]) -> None:
        """Run statements in a half-made database, whose event triggers keep still."""
        with self.session(database, self._without_event_triggers) as session:
            session.run(statements, last=True)

    def call_of_extension(self, database: str, extension: str, function: str) -> None:
        """Call a function of an extension, which has no arguments, in a database that is full."""
        with self.session(database) as session:
            rows = session.query(
                "SELECT to_jsonb(nspname) FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace "
                f"WHERE extname = {quote_literal(extension)};"
            )
            schema = NAMES.one(rows, self._psql)
            call = f"{quote_identifier(schema)}.{quote_identifier(function)}()"
            # What it calls in turn may be found by the extension's schema alone; in which others may have put functions, too.
            session.query(f"SET search_path = pg_catalog, {quote_identifier(schema)}, pg_temp;")
            session.query(f"SELECT count(*) AS called FROM {call} \\gset")

    @contextmanager
    def _sessions_ended(self, maintenance: str, databases: Sequence[str]) -> Iterator[None]:
        names = ", ".join(quote_literal(name) for name in databases)
        end_sessions = (
            "SELECT to_jsonb(count(pg_terminate_backend(pid))) FROM pg_stat_activity "
            f"WHERE datname IN ({names}) AND pid <> pg_backend_pid() AND {MAY_END};"
        )
        done = threading.Event()
        with self.unstoppable().session(maintenance, watched=False) as session:

            def keep_ending() -> None:
                while not done.is_set():
                    try:
                        session.query(end_sessions)
                    except PostgresError:
                        return  # The swap's own session reports what is wrong with the server.
                    done.wait(0.1)

            session.query(end_sessions)
            worker = threading.Thread(target=keep_ending, daemon=True)
            worker.start()
            try:
                yield
            finally:
                done.set()
                worker.join()

    def half_made_databases(self) -> dict[str, int]:
        """Databases that a restore began and did not finish, with their sizes in bytes."""
        rows = self.query(
            self._home,
            "SELECT jsonb_build_array(datname, COALESCE(pg_database_size(oid), 0)) FROM pg_database "
            f"WHERE starts_with(datname, {quote_literal(RESTORE_PREFIX)});",
        )
        return {name: size for name, size in COUNTED.of(rows, self._psql) if _HALF_MADE.match(name)}

    def database_names(self) -> set[str]:
        """Every database of the cluster, templates too; told to a run that is to stop as well, as what a swap came to."""
        return set(self.database_oids())

    def database_oids(self) -> dict[str, int]:
        """The same, each with what it keeps whatever it is called."""
        rows = "SELECT jsonb_build_array(datname, oid::bigint) FROM pg_database;"
        return dict(COUNTED.of(self.unstoppable().query_cluster(rows), self._psql))

    def _is_empty(self, database: str) -> bool:
        return FLAGS.one(self.query(database, IS_EMPTY), self._psql)


def let_in(database: str) -> str:
    """The statement that opens a database as it was created: what else it says of sessions, its archive's properties do."""
    return f"ALTER DATABASE {quote_identifier(database)} CONNECTION LIMIT = -1"


def _database(row: DatabaseRow) -> Database:
    return Database(row["name"], row["size_bytes"], row["owner"], row["encoding"], row["is_template"])


def _why_left_out(row: DatabaseRow) -> str | None:
    """Why a database cannot be saved; None where it can."""
    if not row["is_valid"]:
        return "an interrupted DROP DATABASE has left it unusable; it can only be dropped"
    return None if row["allows_connections"] else "it does not allow connections (ALTER DATABASE … ALLOW_CONNECTIONS)"


def run_of_half_made(name: str) -> str | None:
    """The id of the run that a half-made database is of; None for any other name."""
    match = _HALF_MADE.match(name)
    return f"{match['day'].upper()}-{match['rest']}" if match else None

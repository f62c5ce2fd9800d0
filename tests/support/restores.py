"""What tests of restores look at: what a database is, what a run has left, what it has said."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker


def portrait(database: DatabaseContainer, name: str) -> dict[str, Any]:
    """All that a restore has to bring back: rows, schema, the database's own properties, sequences, large objects."""
    schema = docker(
        "exec", database.name, "pg_dump", "-U", "postgres", "--schema-only", "--create", "-d", f"dbname='{name}'"
    ).stdout
    return {
        "rows": database.fingerprint(name),
        "schema": [line for line in schema.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--"))],
        "beside": database.sql(
            f"""
            SELECT schemaname, sequencename, start_value, last_value FROM pg_sequences ORDER BY 1, 2;
            SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
            SELECT matviewname, ispopulated FROM pg_matviews;
            SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
                   array(SELECT unnest(datacl)::text ORDER BY 1), shobj_description(oid, 'pg_database'),
                   array(SELECT setrole::regrole || array_to_string(setconfig, ' ') FROM pg_db_role_setting
                         WHERE setdatabase = d.oid ORDER BY 1)
            FROM pg_database AS d WHERE datname = '{name}';
            """,
            name,
        ),
    }


def half_made(database: DatabaseContainer) -> set[str]:
    """Databases that a restore began and has not finished."""
    return {name for name in database.databases() if name.startswith("scalr_restore_2")}


def leftovers(database: DatabaseContainer) -> set[str]:
    """Databases, and sessions and processes, that a run has left."""
    left = half_made(database) | {name for name in database.databases() if "_before_restore_" in name}
    if database.sessions_of_agent():
        left.add("sessions")
    if database.processes("pg_restore") or database.processes("pg_dump"):
        left.add("processes")
    return left


def one_sentence(call: Call) -> dict[str, str]:
    """The error, which has to be one line for people."""
    message = call.error["message"]
    assert message, call.output
    assert "\n" not in message
    assert "Traceback" not in call.output
    return call.error


def outcome_of(call: Call, database: str = "shop") -> dict[str, Any]:
    """What a restore says of one database."""
    return next(one for one in call.data["databases"] if one["database"] == database)


def reasons(agent: AgentContainer, container: str) -> dict[str, str]:
    """The reason of each snapshot of a container, by id."""
    return {one["id"]: one["reason"] for one in agent.ok("snapshots", "--db", container)["snapshots"]}


def save_as_manifest(agent: AgentContainer, run: str, content: str) -> str:
    """Add a manifest to a run, as whoever may write to the repository can; the new snapshot's id."""
    saved = docker(
        "exec", "-i", "-e", "RESTIC_REPOSITORY=/repository", "-e", "HOME=/tmp",
        "-e", "RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password", agent.name,
        "restic", "backup", "--json", "--stdin", "--stdin-filename", "/manifest.json", "--host", "test-host",
        "--tag", f"run={run}", stdin=content,
    ).stdout.splitlines()[-1]  # fmt: skip
    return str(json.loads(saved)["snapshot_id"])


@contextmanager
def session(database: DatabaseContainer, name: str) -> Iterator[Callable[[str], str]]:
    """A session that stays open; a query on it returns one line, or the server's complaint when it has been ended."""
    process = subprocess.Popen(
        ["docker", "exec", "-i", database.name, "psql", "-XAtq", "-U", "postgres", "-d", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def query(sql: str) -> str:
        stdin.write(sql + "\n")
        stdin.flush()
        return stdout.readline().strip()

    with process:
        yield query


def add_extension(server: DatabaseContainer, name: str, sql: str, **control: str) -> None:
    """Put an extension that is SQL alone into a container."""
    facts = {"default_version": "1.0", "relocatable": "false", **control}
    lines = "".join(f"{key} = '{value}'\n" for key, value in facts.items())
    for ending, content in ((".control", lines), ("--1.0.sql", sql)):
        script = f"cat > $(ls -d /usr/share/postgresql/*/extension)/{name}{ending}"
        docker("exec", "-i", "-u", "root", server.name, "sh", "-c", script, stdin=content)

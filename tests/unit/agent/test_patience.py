# SPDX-License-Identifier: GPL-3.0-or-later
"""Which calls end when a run is told to stop, and which are awaited whatever it is told."""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress

import pytest
from scalr_backup.core.archive.database import DatabaseDefinition
from scalr_backup.core.errors import InterruptedRunError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import Patience


class SlowServer:
    """A container whose psql thinks for a while about each script; the scripts, and those that somebody gave up."""

    def __init__(self):
        self.scripts, self.given_up = [], []

    def start_exec(self, _container, _argv, _environment, **_options):
        return SlowSession(self)

    def ended_if_astray(self, _stream):
        return nullcontext()

    def run(self, _container, argv, *_arguments, **_options):
        self.scripts.append(argv[0])
        return ExecResult(0, b"", "")


def _with_statements(script):
    """A script with the statements whose bytes alone psql is shown."""
    return re.sub(r"(?<=decode\()'([0-9a-f]+)'", lambda found: bytes.fromhex(found[1]).decode(), script)


class SlowSession:
    def __init__(self, server):
        self.server, self.script = server, ""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        """Nothing is held."""

    def write(self, data, _waiting):
        self.script = data.decode()
        self.server.scripts.append(_with_statements(self.script))

    def frames(self, waiting):
        while True:
            try:
                waiting()
            except InterruptedRunError:
                self.server.given_up.append(self.script)
                raise
            end = self.script.split("\\echo ")[1].encode()
            # Who counts is told a number; who asks for rows gets none.
            yield STDOUT, (b"0\n" if "count(" in self.script else b"") + end


@pytest.fixture
def server():
    return SlowServer()


def told_to_stop():
    raise InterruptedRunError("Told to stop.")


def cluster(server, patience):
    facts = {("c", "home"): "postgres", ("c", "without event triggers"): "", ("c", "limits"): ""}
    return Postgres(
        server, "c", Credentials("postgres", None, "postgres"), "scalr-backup r 1", facts=facts, patience=patience
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda postgres: postgres.databases(),
        lambda postgres: postgres.make_roles(["CREATE ROLE r;"]),
        lambda postgres: postgres.create_database("new", DatabaseDefinition(()), "r", with_tablespace=True),
        lambda postgres: postgres.analyze("new"),
        lambda postgres: postgres.count("new", rows=True),
    ],
    ids=["a look", "roles", "a new database", "statistics", "counts"],
)
def test_a_wait_for_a_server_ends_and_leaves_no_session(server, call):
    with pytest.raises(InterruptedRunError):
        call(cluster(server, Patience(stop_if_told=told_to_stop)))
    assert len(server.given_up) == 1
    assert "pg_terminate_backend" in server.scripts[-2], "the server is told, and then the container's processes"


def test_a_swap_that_has_begun_is_awaited(server):
    cluster(server, Patience(stop_if_told=told_to_stop)).swap("live", "new", "old", ())
    assert any("COMMIT" in script for script in server.scripts)
    assert server.given_up == []


def test_what_a_swap_came_to_can_be_asked_by_who_is_told_to_stop(server):
    assert cluster(server, Patience(stop_if_told=told_to_stop)).database_names() == set()


def test_whoever_is_told_to_stop_still_finds_where_to_stand(server):
    """The swap of the database that it stood in has made it forget."""
    words = []
    postgres = cluster(server, Patience(stop_if_told=lambda: told_to_stop() if words else None))
    postgres.swap("postgres", "new", "old", ())
    words.append("stop")
    assert postgres.database_names() == set()
    assert server.given_up == []


def test_a_drop_that_has_begun_is_awaited(server):
    """A database whose drop is ended half-way is there and open to nobody."""
    asked = []
    with suppress(InterruptedRunError):
        cluster(server, Patience(stop_if_told=lambda: asked.append(server.scripts[-1]))).drop_database("live")
    assert any("DROP DATABASE" in script for script in server.scripts)
    assert any("pg_subscription" in script for script in asked)
    assert not any("DROP DATABASE" in script for script in asked)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with everything that PostgreSQL can keep, and what of them has to be the same after a restore."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.containers import DatabaseContainer, docker

_ROOT = Path(__file__).parents[2]
FIXTURES = _ROOT / "tests" / "integration" / "fixtures"
_PLATFORM = _ROOT / "tests" / "platform" / "regression"
_CACHE = _ROOT / ".cache" / "regression"
ODD_NAME = """Größe; "of" 'all' \\ $1"""
# The servers are thrown away: what they hold need not survive a power cut.
FAST = ["-c", "fsync=off", "-c", "max_locks_per_transaction=1024"]

# jsonb has one text for one value whatever the order of the columns, which a dump changes in tables that inherit.
HASH_ROWS = r"""
SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601'; SET timezone = 'UTC'; SET extra_float_digits = 1;
SET bytea_output = 'hex'; SET search_path = pg_catalog;
SELECT format('SELECT jsonb_build_array(%L, count(*) || '' '' || coalesce(sum(hashtextextended(to_jsonb(t)::text, 0)), 0))'
              ' FROM ONLY %s AS t', relation, relation)
FROM (SELECT format('%I.%I', n.nspname, c.relname) AS relation
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND c.relpersistence <> 't'
        AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' ORDER BY 1) AS relations \gexec
"""
SEQUENCES = """
SELECT jsonb_agg(to_jsonb(s) ORDER BY schemaname COLLATE "C", sequencename COLLATE "C") FROM pg_sequences AS s;
"""
LARGE_OBJECTS = """
SELECT jsonb_agg(jsonb_build_array(oid, md5(lo_get(oid)), pg_get_userbyid(lomowner), lomacl::text) ORDER BY oid)
FROM pg_largeobject_metadata;
"""


def fixture_sql(name: str) -> str:
    """The text of a fixture."""
    return (FIXTURES / name).read_text(encoding="utf-8")


def fill(database: DatabaseContainer) -> None:
    """Make the cluster of the fixtures."""
    database.sql(fixture_sql("cluster.sql"))
    database.sql(fixture_sql("other_databases.sql"))
    database.sql(fixture_sql("library.sql"), "library")


def settings_of(version: str) -> dict[str, Any]:
    """How a server of a major version is run in memory: what a disk does with thousands of small files is not tested."""
    volume = "/var/lib/postgresql" if int(version) >= 18 else "/var/lib/postgresql/data"
    return {"image": f"postgres:{version}", "options": ["--tmpfs", volume], "command": FAST}


def rows_of(database: DatabaseContainer, name: str) -> dict[str, str]:
    """How many rows each table has, and a hash over them that does not know their order."""
    return dict(json.loads(row) for row in database.sql(HASH_ROWS, name).splitlines())


def make_regression_database(database: DatabaseContainer, version: str) -> None:
    """Run PostgreSQL's regression tests in the container; they are fetched once."""
    tests = _CACHE / version
    subprocess.run([_PLATFORM / "fetch", version, tests], check=True, timeout=600)
    docker("cp", str(tests), f"{database.name}:/regression")
    docker("cp", str(_PLATFORM / "run"), f"{database.name}:/regression/run")
    docker("exec", database.name, "chown", "-R", "postgres", "/regression")
    docker("exec", "--user", "postgres", database.name, "/regression/run", "/regression")

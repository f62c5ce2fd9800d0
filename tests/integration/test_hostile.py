# SPDX-License-Identifier: GPL-3.0-or-later
"""One database container whose programs are broken or hostile, beside a healthy one: what becomes of whose backup.

Its psql and pg_dump do what a file says. Whatever that is, the healthy database is saved, the other one's failure has its
code, the pass ends soon, the repository grows by next to nothing, and nothing goes on in the container.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, inside

MakeDatabase = Callable[..., DatabaseContainer]

# Answers each question with what the file has, and tells that it is done, as psql does with \echo.
ANSWERS = r"""
mode=$(cat /tmp/mode)
case "$mode" in
  honest) exec "$real" "$@" ;;
  silent) exec sleep 1000 ;;
  drip) while :; do printf ' '; sleep 0.2; done ;;
  flood) exec yes ;;
  complaints) yes >&2; exit 1 ;;
  closed) exit 0 ;;
  hidden) exec >&- 2>&-; exec sleep 1000 ;;
  stubborn) trap '' TERM HUP INT PIPE; while :; do sleep 1; done ;;
esac
while read -r line; do
  case "$line" in '\echo '*) cat /tmp/answer; echo; echo "${line#\\echo }" ;; esac
done
"""
DEEP = "[" * 200_000
ROW = {
    "name": "shop", "owner": "postgres", "encoding": "UTF8", "size_bytes": 1, "is_template": False,
    "allows_connections": True, "is_valid": True,
}  # fmt: skip
# What psql answers to every question. The first one is the server's version, a text; the others look past it.
SAID = {
    "no JSON": b'{"name": ',
    "no text": b'"\xff\xfe',
    "of another type": b"[[1], {}]",
    "nested deeply": DEEP.encode(),
    "a huge integer": b"1" * 5000,
    "no number": b"NaN",
    "nothing": b"",
    "a version and no databases": b'"17.6"',
}
# Programs that do not answer: too late, too much, or at once.
DOES = {
    "silent": "late_answer",
    "drip": "late_answer",
    "flood": "invalid_answer",
    "complaints": "invalid_answer",
    "closed": "unreachable",
    "hidden": "late_answer",
    "stubborn": "late_answer",
}
THOROUGH = {"no text", "no number", "drip", "nothing", "of another type", "closed", "complaints", "hidden", "stubborn"}
DUMPS = r"""
mode=$(cat /tmp/dump)
case "$mode" in
  honest) exec "$real" "$@" ;;
  rubbish) exec head -c 400000000 /dev/urandom ;;
  zeros) exec head -c 400000000 /dev/zero ;;
  behind) "$real" "$@" | head -c "$(cat /tmp/head)"; exec head -c 400000000 /dev/urandom ;;
  complaints) yes >&2; exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def healthy(make_database: MakeDatabase) -> DatabaseContainer:
    database = make_database("healthy")
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    return database


@pytest.fixture(scope="module")
def hostile(make_database: MakeDatabase, healthy: DatabaseContainer, keeper: AgentContainer) -> DatabaseContainer:
    """It was honest for one pass."""
    database = make_database("hostile")
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    for name in ("mode", "dump"):
        tell(database, name, "honest")
    database.wrap("psql", ANSWERS)
    database.wrap("pg_dump", DUMPS)
    keeper.ok("backup", "--db", healthy.name, "--db", database.name)
    return database


def tell(database: DatabaseContainer, name: str, content: str) -> None:
    inside(database.name, "sh", "-c", f"cat > /tmp/{name}.new && mv /tmp/{name}.new /tmp/{name}", stdin=content)


def answer(database: DatabaseContainer, content: bytes) -> None:
    octal = content if len(content) > 50_000 else b""
    if octal:
        tell(database, "answer", content.decode())
    else:
        spelled = "".join(f"\\{byte:03o}" for byte in content)
        inside(database.name, "sh", "-c", f"printf '{spelled}' > /tmp/answer")


def stored(agent: AgentContainer) -> int:
    """How many KiB the repository takes."""
    return int(docker("exec", agent.name, "du", "-sk", "/repository").stdout.split()[0])


def outcomes(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{one['container']}/{one['database']}": one for one in data["databases"]}


def attacked(agent: AgentContainer, healthy: DatabaseContainer, hostile: DatabaseContainer) -> dict[str, Any]:
    """One pass under attack; the failure of the hostile database."""
    before, began = stored(agent), time.monotonic()
    # By name: another test may have given a container a label for every agent.
    call = agent.call("backup", "--db", healthy.name, "--db", hostile.name)
    seconds = time.monotonic() - began
    assert call.exit_code == 3, call.output
    found = outcomes(call.data)
    assert found[f"{healthy.name}/postgres"]["ok"], call.output
    failed = found[f"{hostile.name}/postgres"]
    assert not failed["ok"]
    assert len(failed["error"]["message"]) < 3000
    assert failed["error"]["message"].isprintable()
    # Much more than it takes, on a machine that is busy: two looks of 1 and 5 s where it does not answer in time, and what can
    # be ended only after 10 s; and twice a minute for the end of a program that has closed its output.
    assert seconds < 200
    assert stored(agent) - before < 2048, "KiB"
    for program in ("yes", "sleep", "psql", "head"):
        assert hostile.processes(program) == 0, program
    return dict(failed["error"])


@pytest.mark.parametrize(
    "said", [pytest.param(one, marks=pytest.mark.thorough) if one in THOROUGH else one for one in SAID]
)
def test_answers_that_cannot_be_understood_are_one_containers_failure(
    keeper: AgentContainer, healthy: DatabaseContainer, hostile: DatabaseContainer, said: str
) -> None:
    answer(hostile, SAID[said])
    tell(hostile, "mode", "answers")
    try:
        failed = attacked(keeper, healthy, hostile)
    finally:
        tell(hostile, "mode", "honest")
    assert failed["code"] == "invalid_answer"
    assert hostile.name in failed["message"]


@pytest.mark.parametrize(
    "mode", [pytest.param(one, marks=pytest.mark.thorough) if one in THOROUGH else one for one in DOES]
)
def test_programs_that_do_not_end_or_flood_are_ended(
    keeper: AgentContainer, healthy: DatabaseContainer, hostile: DatabaseContainer, mode: str
) -> None:
    tell(hostile, "mode", mode)
    # Only who never answers is not waited for: on a busy machine the others would be late, too.
    keeper.configure(look_seconds=1 if DOES[mode] == "late_answer" else 60)
    try:
        failed = attacked(keeper, healthy, hostile)
    finally:
        keeper.configure(look_seconds=60)
        tell(hostile, "mode", "honest")
    assert failed["code"] == DOES[mode], failed


@pytest.mark.parametrize(
    "mode",
    ["rubbish", "behind", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("zeros", "complaints"))],
)
def test_a_dump_that_is_none_is_stopped_at_the_first_byte_that_is_wrong(
    keeper: AgentContainer, healthy: DatabaseContainer, hostile: DatabaseContainer, mode: str
) -> None:
    head = inside(hostile.name, "sh", "-c", "/usr/lib/postgresql/17/bin/pg_dump -U postgres -Fc -Z0 postgres | wc -c")
    # Into its only table's data, which are the last of it.
    tell(hostile, "head", str(int(head.stdout) - 1000))
    tell(hostile, "dump", mode)
    try:
        failed = attacked(keeper, healthy, hostile)
    finally:
        tell(hostile, "dump", "honest")
    assert failed["code"] == ("invalid_answer" if mode == "complaints" else "dump_failed"), failed


def test_names_that_deceive_are_saved_and_shown_for_what_they_are(
    keeper: AgentContainer, healthy: DatabaseContainer
) -> None:
    """A line break, a terminal's escape, an override of the writing direction, and a character cut in the middle."""
    odd = "a\nb\x1b[31mc\u202ed"
    for name in (odd, "é" * 31 + "x"):
        quoted = name.replace('"', '""')
        healthy.sql(f'CREATE DATABASE "{quoted}"')
        healthy.sql(f'CREATE TABLE "{quoted}" AS SELECT 1 AS n', name)
    try:
        call = keeper.call("backup", "--db", healthy.name)
        assert call.exit_code == 0, call.output
        names = {one["database"] for one in call.data["databases"]}
        assert {odd, "é" * 31 + "x"} <= names
        assert "\x1b" not in call.output
        for verb in ("status", "discover", "snapshots"):
            shown = docker("exec", keeper.name, "scalr-backup", verb, check=False).stdout
            assert "\u202e" not in shown
            assert "\x1b[31mc" not in shown
        events = docker("logs", keeper.name).stdout
        assert "\x1b" not in events
        for line in events.splitlines():
            json.loads(line)
    finally:
        for name in (odd, "é" * 31 + "x"):
            quoted = name.replace('"', '""')
            healthy.sql(f'DROP DATABASE "{quoted}"')

# SPDX-License-Identifier: GPL-3.0-or-later
"""Each end of a program in a container is told in a sentence that names program, container and reason."""

from __future__ import annotations

import pytest
from scalr_backup.core.endings import Command, condition, ending, last_words

PSQL = Command("psql", "scalr-shop-db")


@pytest.mark.parametrize(
    ("exit_code", "said", "sentence"),
    [
        (1, "psql: error: it broke\n", "psql in scalr-shop-db ended with exit code 1: psql: error: it broke"),
        (1, "", "psql in scalr-shop-db ended with exit code 1 and printed nothing; the container is paused."),
        (0, "", "psql in scalr-shop-db ended with exit code 0 and printed nothing; the container is paused."),
        (
            137,
            "",
            "psql in scalr-shop-db was killed by SIGKILL (exit code 137) and printed nothing; the container is paused.",
        ),
        (
            143,
            "a hint",
            "psql in scalr-shop-db was killed by SIGTERM (exit code 143): a hint; the container is paused.",
        ),
        (127, "", "psql in scalr-shop-db was not found (exit code 127) and printed nothing; the container is paused."),
        (
            126,
            "",
            "psql in scalr-shop-db could not be executed (exit code 126) and printed nothing; the container is paused.",
        ),
        # Only the server knows why it let a connection go.
        (
            2,
            "connection lost.",
            "psql in scalr-shop-db ended with exit code 2: connection lost; the container is paused.",
        ),
        # No signal has this number.
        (255, "", "psql in scalr-shop-db ended with exit code 255 and printed nothing; the container is paused."),
    ],
)
def test_how_it_ended(exit_code, said, sentence):
    assert ending(PSQL, exit_code, said, lambda: {"State": {"Running": True, "Paused": True}}) == sentence


def test_a_container_that_is_well_explains_no_refusal():
    words = 'FATAL: role "app" does not exist'
    assert ending(PSQL, 2, words, lambda: {"State": {"Running": True}}).endswith(f"exit code 2: {words}")
    assert ending(PSQL, 2, words, lambda: {"State": {"Running": True, "OOMKilled": True}}).endswith("lack of memory.")
    assert ending(PSQL, 2, words, lambda: None).endswith("; the container is gone.")


def test_the_engine_is_not_asked_where_the_program_has_said_why():
    def nobody():
        raise AssertionError

    assert ending(PSQL, 3, "ERROR: no such table\n", nobody).endswith(": ERROR: no such table")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"Running": True, "StartedAt": "2026-11-28T20:11:13.480805848Z"},
            "the container has been running since 2026-11-28 20:11:13 UTC",
        ),
        (
            {"Running": True, "StartedAt": "2026-11-28T20:11:13Z", "OOMKilled": True},
            "the container has been running since 2026-11-28 20:11:13 UTC, and the engine has killed a process in it for lack of memory",
        ),
        # The engine calls a container that restarts running as well.
        (
            {"Running": True, "Restarting": True, "ExitCode": 1},
            "the container is restarting after exit code 1",
        ),
        ({"Running": True, "Paused": True}, "the container is paused"),
        (
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            "the container exited with code 137, and the engine has killed a process in it for lack of memory",
        ),
        ({"Status": "removing"}, "the container's state is removing"),
        ({}, "the container's state is unknown"),
    ],
)
def test_what_the_engine_says_of_a_container(state, words):
    assert condition({"State": state}) == words


def test_a_container_that_is_gone_or_not_told_of():
    assert condition(None) == "the container is gone"
    assert condition({}) == "the container's state is unknown"


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("pg_dump: detail: x\npg_dump: error: it broke\n", "pg_dump: error: it broke"),
        ("some words\nlast words\n", "last words"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_last_words(stderr, words):
    assert last_words(stderr) == words

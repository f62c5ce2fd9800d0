# SPDX-License-Identifier: GPL-3.0-or-later
"""A verb that is told to end says so in its result line, however early; processes are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from scalr_backup.core import stopping


@pytest.fixture
def told():
    """The signals of this process, as if it were a verb's; as they were before afterwards."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield stopping.listen()
    stopping.told.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def verb(*arguments, **keywords):
    return subprocess.Popen(
        [sys.executable, "-m", "scalr_backup", *arguments, "--json"],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **keywords,
    )


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_verb_that_is_told_to_end_before_it_has_begun_says_so(number):
    with stopping.held_back():
        process = verb("validate")
        process.send_signal(number)
    # Its standard input stays open: it is not for its end that it ends.
    (line,) = process.stdout.read().splitlines()
    result = json.loads(line)
    assert process.wait(timeout=60) == 1
    assert (result["event"], result["verb"], result["ok"], result["exit_code"]) == ("result", "validate", False, 1)
    assert result["error"]["code"] == "interrupted"
    process.stdin.close()


def test_signals_that_were_held_back_come_when_somebody_listens(told):
    with stopping.held_back():
        signal.raise_signal(signal.SIGTERM)  # to this thread: another one of the tests' process would take it at once
        assert not told.is_set()
        stopping.listen()
        assert told.is_set()


def test_who_reads_its_standard_input_can_be_told_to_end(told, monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, b"half a docu")
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        told.set()
        assert stopping.read_standard_input() in ("", "half a docu")
    os.close(writer)


def test_standard_input_is_read_to_its_end(told, monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, "höre".encode())
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert stopping.read_standard_input() == "höre"


@pytest.mark.parametrize(("number", "ends_the_run"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_a_question(told, number, ends_the_run):
    with pytest.raises(KeyboardInterrupt), stopping.leaving_a_question():
        os.kill(os.getpid(), number)
    assert told.is_set() is ends_the_run
    os.kill(os.getpid(), number)
    assert told.is_set(), "after the question they are noted as before"

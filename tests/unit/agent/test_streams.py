# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that cannot be written: one line says so, and the exit code is not that of a success."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "roles/backup/files/agent"
CONFIGURATION = json.dumps({"host": "web1", "repository": "/backups/é"}, ensure_ascii=False)


@pytest.fixture
def call(tmp_path):
    """Call the command as a shell does, with a redirection of its output."""
    (tmp_path / "config.json").write_text(CONFIGURATION)
    places = {name: str(tmp_path / name.lower()) for name in ("SCALR_BACKUP_STATE", "SCALR_BACKUP_CACHE")}
    environment = {**places, "SCALR_BACKUP_CONFIG": str(tmp_path / "config.json"), "PYTHONPATH": str(PACKAGE)}

    def run(words, redirection="", **variables):
        return subprocess.run(
            ["sh", "-c", f'"{sys.executable}" -m scalr_backup {words} {redirection}'],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment, **variables},
            input="",
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("words", ["status", "status --json", "doctor --json", "version", "--help"])
@pytest.mark.parametrize(
    ("redirection", "why"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_said_in_one_line_and_no_success(call, words, redirection, why):
    done = call(words, redirection)
    assert done.stderr == f"The output cannot be written: {why}.\n"
    assert done.returncode == 1


def test_without_any_stream_a_verb_ends_with_its_exit_code(call):
    assert call("status", "<&- 2>&-").returncode == 0
    assert call("status", "<&- >&- 2>&-").returncode == 1
    assert call("validate", "<&- >&- 2>&-").returncode == 2


def test_what_an_encoding_lacks_is_spelled_and_json_stays_json(call):
    done = call("status", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/backups/\\u00e9" in done.stdout
    result = json.loads(call("status --json", PYTHONIOENCODING="ascii").stdout)
    assert result["data"]["repository"] == "/backups/é"


BROKEN = """
import os, sys
from scalr_backup.cli import streams
from scalr_backup.cli.output import JsonOutput, Outcome
from scalr_backup.core.progress import log
streams.prepare()
out = JsonOutput()
for number in range(3):
    out.event(log("info", "x"))
    print(number, file=sys.stderr)
out.result("backup", Outcome())
sys.exit(streams.ended(0))
"""


def test_a_verb_goes_on_when_nobody_reads_what_it_says_and_ends_without_success():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env={"PYTHONPATH": str(PACKAGE)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.stderr == "0\n1\n2\n"
    assert done.returncode == 1

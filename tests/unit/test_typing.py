# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer that is typed on a terminal arrives, however long whoever asks takes to listen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.terminal import Answer, on_terminal

# As Ansible asks: what was typed before it listens is discarded, although the terminal has shown it.
ASKS = """
import sys, termios, time, tty
print("Type it:", flush=True)
time.sleep(3)
before = termios.tcgetattr(0)
tty.setraw(0)
said = b""
while not said.endswith(b"\\r"):
    said += sys.stdin.buffer.raw.read(1)
termios.tcsetattr(0, termios.TCSADRAIN, before)
print("got", said.decode().strip())
"""


def test_nothing_is_typed_before_somebody_listens(tmp_path: Path) -> None:
    ended, shown = on_terminal(
        [sys.executable, "-c", ASKS],
        cwd=tmp_path,
        environment=os.environ,
        answer=Answer("Type it:", "yes"),
        seconds=120,
    )

    assert ended == 0
    assert "got yes" in shown

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says that a command prints, held to what it printed.

Times, ages, sizes and ids differ from run to run, and columns are as wide as these are: all of that is made alike first.
"""

from __future__ import annotations

import re
from pathlib import Path

LEFT_OUT = "…"
_VOLATILE = [
    (r"/root/\.config", "~/.config"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z| UTC)?", "TIME"),
    (r"\b\d+(\.\d+)? (B|[KMGT]iB)(/s)?(?= |$)", "SIZE"),
    (r"\b\d+(\.\d+)? (s|min|h|d)\b( \d+ (s|min|h)\b)?", "AGE"),
    (r"\b(?=[0-9]*[a-f])[0-9a-f]{8}\b|\b[0-9]{8}\b", "ID"),
    # Rules of tables and frames of boxes, which are as wide as what they hold.
    (r"[-*+]{2,}", " "),
]
# A line of progress is whatever is true when a host is asked, every few seconds: which ones there are is chance.
_PROGRESS = re.compile(r"^\S+ [\w.-]+/\S+: .*\n?", re.MULTILINE)


def alike(text: str) -> str:
    """The text in one line, with what is volatile replaced."""
    home = str(Path("~/.config").expanduser())
    line = " ".join(text.replace(home, "~/.config").split())
    for pattern, word in _VOLATILE:
        line = re.sub(pattern, word, line)
    return " ".join(line.split())


def shown_after(page: Path, command: str) -> list[str]:
    """The blocks of output on a page that follow a block whose last line is this command."""
    blocks = re.findall(r"^```sh\n(.*?)^```\n+```text\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    found = [text for lines, text in blocks if lines.splitlines()[-1] == command]
    assert found, f"{page.name} shows no output of {command!r}"
    return found


def assert_as_shown(page: Path, command: str, printed: str) -> None:
    """Raise AssertionError unless everything that the page shows after the command was printed, in that order."""
    rest = alike(_PROGRESS.sub("", printed))
    for text in shown_after(page, command):
        assert not _PROGRESS.search(text) or _PROGRESS.search(printed), f"{command!r} printed no line of progress"
        left = rest
        for part in filter(None, (alike(part) for part in _PROGRESS.sub("", text).split(LEFT_OUT))):
            assert part in left, f"{page.name} shows this of {command!r}:\n{part}\n\nand it printed:\n{left}"
            left = left.partition(part)[2]

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the pictures of the documentation, ``docs/images``, from what the code shows today.

The status page is rendered from a made-up fleet; terminals are drawn from the captures that tests/unit/plugins/test_terminal.py
compares with what the playbooks show. Beside the pictures, ``sources.json`` holds a hash of what each was drawn from, so that a test can tell
that one is out of date without comparing pixels. Needs Docker, for a browser in a container.
"""

from __future__ import annotations

import hashlib
import html
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
IMAGES = CHECKOUT / "docs/images"
CAPTURES = CHECKOUT / "tests/unit/plugins/terminal"
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / ".ansible/collections")]

DESKTOP: dict[str, Any] = {"viewport": {"width": 1180, "height": 830}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "is_mobile": True}
# What comes before is the search for the host, or the tasks before the answer.
BEGINS = ("PLAY [Restore]", "PLAY [Report the drills]", "TASK [Record the answers]")
# A terminal with a dark ground; it folds what is wider than itself.
TERMINAL = """
body { margin: 0; background: #121312; color: #e4e3de; }
pre { margin: 0; padding: 20px 24px; box-sizing: content-box; font: 14px/1.45 "DejaVu Sans Mono", monospace;
      white-space: pre-wrap; word-break: break-all; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture: the page that it is one of, and how that is looked at."""

    name: str
    page: str
    look: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    @property
    def source(self) -> str:
        """A hash of what it is drawn from."""
        return hashlib.sha256(f"{self.page}\n{json.dumps(self.look, sort_keys=True)}".encode()).hexdigest()


def pictures() -> list[Picture]:
    """Every picture, as it is to be today."""
    fleet = status_page()
    drawn = [
        Picture("status-page.png", fleet, DESKTOP),
        Picture("status-page-dark.png", fleet, {**DESKTOP, "color_scheme": "dark"}),
        Picture("status-page-phone.png", fleet, PHONE),
    ]
    captures = sorted(CAPTURES.glob("*.ansi"))
    return drawn + [
        Picture(
            f"terminal-{one.stem}.png",
            terminal(_from(one.read_text(), BEGINS), int(one.stem.split("-")[-1])),
            whole=True,
        )
        for one in captures
    ]


def _from(shown: str, beginnings: tuple[str, ...]) -> str:
    """What is shown from a line on that begins so, where there is one."""
    return next((f"{begin}{shown.partition(begin)[2]}" for begin in beginnings if begin in shown), shown)


def status_page() -> str:
    """The page of a fleet in which something is wrong, always the same."""
    from ansible_collections.scalr.backup.plugins.filter.status_page import status_page as render  # noqa: PLC0415

    from tests.support import fleets  # noqa: PLC0415

    return str(render(fleets.failing(10), fleets.NOW.isoformat(), "example.com"))


def terminal(shown: str, columns: int) -> str:
    """A page that looks like a terminal of so many columns that shows this."""
    from rich.text import Text  # noqa: PLC0415

    lines = shown.strip("\n").splitlines()
    while lines and not Text.from_ansi(lines[-1]).plain.strip():
        lines.pop()
    parts = []
    for line in lines:
        text = Text.from_ansi(line.rstrip())
        at = 0
        for span in sorted(text.spans, key=lambda span: span.start):
            parts.append(html.escape(text.plain[at : span.start]))
            parts.append(f'<span style="{_style(span.style)}">{html.escape(text.plain[span.start : span.end])}</span>')
            at = span.end
        parts.append(html.escape(text.plain[at:]) + "\n")
    style = f"{TERMINAL}pre {{ width: {columns}ch; }}"
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><pre>{''.join(parts)}</pre>"


def _style(style: object) -> str:
    """A terminal's colours and weight, as a browser wants them."""
    from rich.style import Style  # noqa: PLC0415
    from rich.terminal_theme import MONOKAI  # noqa: PLC0415

    meant = style if isinstance(style, Style) else Style.parse(str(style))
    return meant.get_html_style(MONOKAI)


def draw(wanted: list[Picture]) -> None:
    """Draw pictures with a real browser."""
    from tests.support import fleets  # noqa: PLC0415
    from tests.support.browser import browser  # noqa: PLC0415

    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, browser(_readable(directory)) as started:
        for picture in wanted:
            page_file = Path(directory) / "page.html"
            page_file.write_text(picture.page)
            context = started.new_context(**(picture.look or DESKTOP))
            page = context.new_page()
            page.clock.set_fixed_time(fleets.NOW)
            page.goto(page_file.as_uri())
            target = IMAGES / picture.name
            if picture.whole:
                page.locator("pre").screenshot(path=target)
            else:
                page.screenshot(path=target)
            context.close()
            print(f"{target.relative_to(CHECKOUT)}: {target.stat().st_size} bytes")


def _readable(directory: str) -> Path:
    """A directory that the browser's user may read."""
    path = Path(directory)
    path.chmod(0o755)
    return path


def main() -> None:
    """Draw what is out of date, or everything with ``--all``."""
    wanted = pictures()
    known = sources()
    old = [
        one
        for one in wanted
        if "--all" in sys.argv or known.get(one.name) != one.source or not (IMAGES / one.name).exists()
    ]
    if old:
        draw(old)
    for path in IMAGES.glob("*.png"):
        if path.name not in {one.name for one in wanted}:
            path.unlink()
    (IMAGES / "sources.json").write_text(json.dumps({one.name: one.source for one in wanted}, indent=1) + "\n")


def sources() -> dict[str, str]:
    """What the pictures that are there were drawn from."""
    path = IMAGES / "sources.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


if __name__ == "__main__":
    main()

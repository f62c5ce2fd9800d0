# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of the documentation are those of today's code, small, and used.

They are not compared by their pixels, which depend on fonts and on the browser, but by what they were drawn from.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGES = CHECKOUT / "docs/images"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
RAW = "https://raw.githubusercontent.com/scalr/ansible-backup/main/"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/make_pictures.py."""
    spec = importlib.util.spec_from_file_location("make_pictures", CHECKOUT / "tools/make_pictures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def shown() -> set[str]:
    """The pictures that some page shows: those of docs/images, by their names."""
    found = set()
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
            path = CHECKOUT / target.removeprefix(RAW) if target.startswith(RAW) else page.parent / target
            assert path.is_file(), f"{page.name}: {target}"
            if path.resolve().parent == IMAGES:
                found.add(path.name)
    return found


def test_the_pictures_are_drawn_from_what_is_shown_today(tool: ModuleType) -> None:
    assert tool.sources() == {one.name: one.source for one in tool.pictures()}, "run tools/make_pictures.py"


def test_what_a_picture_is_drawn_from_is_seen_to_change(tool: ModuleType) -> None:
    """The test above can fail."""
    one, other = (tool.Picture("a.png", page, tool.DESKTOP) for page in ("<p>safe", "<p>not safe"))
    assert one.source != other.source != tool.Picture("a.png", "<p>not safe", tool.PHONE).source


def test_the_pictures_are_small_and_each_is_shown(tool: ModuleType) -> None:
    there = {path.name: path for path in IMAGES.glob("*.png")}
    assert set(there) == set(tool.sources()) == shown()
    for name, path in there.items():
        assert path.read_bytes().startswith(b"\x89PNG"), name
        assert path.stat().st_size <= 150_000, name


def test_what_galaxy_shows_is_addressed_in_full() -> None:
    """Galaxy shows the README and knows nothing of the files beside it."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", (CHECKOUT / "README.md").read_text())
    assert pictures
    assert all(target.startswith(RAW) for target in pictures)


def test_colours_of_a_terminal_stay_colours_and_markup_stays_text(tool: ModuleType) -> None:
    page = tool.terminal("\x1b[0;32mok: [web1]\x1b[0m <b>&\x1b[1mbold\x1b[0m\n\n", 80)
    assert re.search(r'<pre><span style="color: #[0-9a-f]{6}[^"]*">ok: \[web1\]</span> &lt;b&gt;&amp;', page)
    assert '<span style="font-weight: bold">bold</span>' in page
    assert "\x1b" not in page

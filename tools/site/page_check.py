# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a built site: a page that asks somebody else for something, or a link that leads nowhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, and the attributes that say from where; a link that a reader follows is none of these.
FETCHED = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "img": ("src", "srcset"), "input": ("src",),
    "link": ("href",), "object": ("data",), "script": ("src",), "source": ("src", "srcset"), "track": ("src",),
    "video": ("src", "poster"),
}  # fmt: skip


class Page(HTMLParser):
    """What a page has, and what it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One tag of it."""
        given = {name: value or "" for name, value in attrs}
        self.ids.update(given[name] for name in ("id", "name") if name in given)
        self.fetched.update(given[name] for name in FETCHED.get(tag, ()) if name in given)
        if tag == "a" and "href" in given:
            self.links.add(given["href"])


def problems(site: Path) -> list[str]:
    """One line for each thing that is wrong, sorted."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} fetches {one}" for one in page.fetched if urlsplit(one).netloc]
        inward = [one for one in page.fetched | page.links if not urlsplit(one).scheme and not urlsplit(one).netloc]
        found += [f"{name}: {one} leads nowhere" for one in inward if not _leads(path, one, pages)]
    found += [f"{path.relative_to(site)} imports from elsewhere" for path in site.rglob("*.css") if _imports(path)]
    return sorted(found)


def _leads(page: Path, address: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(address)
    there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    known = pages.get(there)
    if known is None:
        return there.is_file()
    # "#" is the page's top.
    return not parts.fragment or unquote(parts.fragment) in known.ids


def _imports(style: Path) -> bool:
    text = style.read_text(encoding="utf-8").replace(" ", "").replace('"', "").replace("'", "")
    return any(start in text for start in ("url(http", "url(//", "@importhttp", "@import//"))

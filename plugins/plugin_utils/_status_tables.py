# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of the status page."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import Database


def wide_table(name: str, caption: str, heads: dict[str, str], rows: Sequence[Html]) -> Html:
    """A table that is a list of cards on a phone; its roles say what it is even where it looks like none."""
    columns_ = (tag("th", text, class_=kind, scope="col", role="columnheader") for kind, text in heads.items())
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *columns_, role="row"), role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        class_=name,
        role="table",
    )


def row(kind: str, head: Html, **cells: object) -> Html:
    """A row of such a table; each cell has the name of its column."""
    return tag(
        "tr",
        head,
        *(tag("td", cell, class_=name, role="cell") for name, cell in cells.items()),
        class_=kind,
        role="row",
    )


def listing(caption: str, heads: dict[str, str | None], rows: Sequence[Html]) -> Html:
    """A short table."""
    head = tag("tr", *(tag("th", text, scope="col", class_=kind) for text, kind in heads.items()))
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="card list")


def named(one: Database, class_: str | None = None, *, link: bool = False) -> Html:
    """The head of a database's row; *link* leads to how it is restored."""
    role = "rowheader" if class_ else None
    name = (one.container, "/", tag("b", one.name))
    shown = (tag("a", *name, href=f"#{place(one)}"),) if link else name
    return tag("th", *shown, below(one.host), scope="row", class_=class_, role=role)


def place(one: Database) -> str:
    """Where on the page a database has its history and its restore: ``HOST/CONTAINER/DATABASE``, as an address writes it."""
    return "/".join(quote(part, safe="", errors="replace") for part in (one.host, one.container, one.name))


def nights_of(one: Database) -> str:
    """What the picture of its nights is called on the page.

    Without percent signs, which a browser takes for an escaped letter when it looks for what is to be drawn once more.
    """
    return f"n/{place(one)}".replace("%", "=")


def below(text: str | None) -> Html | None:
    """A second, smaller line."""
    return tag("span", text, class_="sub") if text else None

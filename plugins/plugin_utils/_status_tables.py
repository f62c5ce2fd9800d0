# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of the status page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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
    """Where on the page it is told how to restore a database."""
    return f"restore-{hashlib.sha256(repr(one.place).encode()).hexdigest()[:12]}"


def below(text: str | None) -> Html | None:
    """A second, smaller line."""
    return tag("span", text, class_="sub") if text else None

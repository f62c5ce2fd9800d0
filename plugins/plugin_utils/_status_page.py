# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The status page: one HTML document that needs nothing but itself, and may reach nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, tag
from ansible_collections.scalr.backup.plugins.plugin_utils._status_charts import icon, signs
from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import BAD, NEW, SAFE, WARNING, Fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_sections import sections
from ansible_collections.scalr.backup.plugins.plugin_utils._status_style import SCRIPT, SKELETON, STYLE
from ansible_collections.scalr.backup.plugins.plugin_utils._status_words import (
    count,
    details,
    headline,
    percent,
    ratio,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._units import human_bytes

_COLOURS = {BAD: "c93f2c", WARNING: "b7780f", NEW: "6a7688", SAFE: "3f8f63"}

_WHAT_SAFE_MEANS = (
    "A database is safe while its last try was good, its last good backup is younger than 26 hours, and its last drill "
    "did not fail."
)
_WHAT_RATIO_MEANS = (
    "Deduplication tells how many times as much was dumped in these nights as had to be stored. Made by scalr.backup; "
    "this page reaches for nothing outside itself."
)


def page(fleet: Fleet) -> str:
    """The whole document."""
    title = headline(fleet)
    parts = sections(fleet)
    return SKELETON.render(
        policy=_policy(),
        title=title,
        brand=_brand(fleet),
        favicon=_favicon(fleet.condition),
        style=STYLE,
        signs=signs(),
        skip="Skip to what is wrong" if fleet.problems else "Skip to the nights",
        top=_top(fleet, parts),
        hero=_hero(fleet, title),
        tiles=_tiles(fleet),
        sections=parts,
        what_safe_means=_WHAT_SAFE_MEANS,
        what_ratio_means=_WHAT_RATIO_MEANS,
        script=SCRIPT,
    )


def _policy() -> str:
    """What a browser lets the page do: take this style and this script, and nothing else from anywhere."""
    return (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _favicon(condition: str) -> str:
    """The state, in the browser's tab."""
    circle = f'<circle cx="8" cy="8" r="8" fill="#{_COLOURS[condition]}"/>'
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{circle}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()


def _brand(fleet: Fleet) -> str:
    return f"Backups of {fleet.name}" if fleet.name else "Backups"


def _top(fleet: Fleet, parts: Sequence[tuple[str, str, Html]]) -> Html:
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _content in parts]
    return tag(
        "div",
        tag("span", _brand(fleet), class_="brand"),
        tag("nav", tag("ul", *links, role="list"), aria_label="Sections"),
        class_="top",
    )


def _hero(fleet: Fleet, title: str) -> Html:
    made = tag("time", f"{fleet.now:%A %d %B %Y, %H:%M} UTC", datetime=fleet.now.isoformat(), id="made")
    said = tag("div", tag("h1", title), tag("p", details(fleet)), tag("p", "As of ", made, class_="when"))
    return tag("div", icon(fleet.condition), said, class_=f"hero {fleet.condition}")


def _tiles(fleet: Fleet) -> Html:
    """The fleet in a few numbers."""
    if not fleet.databases:
        return Html()
    tiles = [_safe(fleet), _good_nights(fleet), _stored(fleet), _deduplication(fleet), _proven(fleet)]
    drawn = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in filter(None, tiles)
    ]
    return tag("dl", *drawn, class_="tiles")


Tile = tuple[str, str, str]


def _safe(fleet: Fleet) -> Tile:
    hosts = count(len(fleet.hosts), "host")
    where = f"{len(fleet.hosts) - len(fleet.silent)} of {hosts}" if fleet.silent else hosts
    return "Safe databases", f"{len(fleet.databases) - len(fleet.unsafe)} of {len(fleet.databases)}", f"on {where}"


def _good_nights(fleet: Fleet) -> Tile | None:
    if fleet.good_share is None:
        return None
    # 99.9 and not 100, as long as a single one is missing.
    return "Good nights", f"{int(fleet.good_share * 1000) / 10:g} %", f"of the last {fleet.nights}, all databases"


def _stored(fleet: Fleet) -> Tile | None:
    if fleet.stored is None:
        return None
    growth = fleet.stored.growth
    where = count(len(fleet.repositories), "repository", "repositories")
    note = f"in {where}" if growth is None else f"in {where}, {percent(growth)}"
    return "Stored", human_bytes(fleet.stored.known[-1][1]), note


def _deduplication(fleet: Fleet) -> Tile | None:
    if fleet.dedup_ratio is None:
        return None
    return (
        "Deduplication",
        ratio(fleet.dedup_ratio),
        f"{human_bytes(fleet.bytes_read)} read, {human_bytes(fleet.bytes_stored)} stored",
    )


def _proven(fleet: Fleet) -> Tile:
    slowest = max((one.recovery_seconds or 0 for one in fleet.proven), default=0)
    note = f"slowest {duration(slowest)}" if slowest else "by a drill"
    return "Proven to restore", f"{len(fleet.proven)} of {len(fleet.databases)}", note

# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The files that the status page is made with; they lie beside this one, wherever the collection is installed.

STYLE is how it looks, SCRIPT what it does where scripts run, and SKELETON its outline. Everything can be read without the
first two.
"""

from __future__ import annotations

from pathlib import Path

from ansible_collections.scalr.backup.plugins.plugin_utils._html import Html, text
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).resolve().parent


def _read(*names: str) -> Html:
    texts = [(_HERE / name).read_text(encoding="utf-8") for name in names]
    # The element begins with a line of its own, which is part of what a browser hashes.
    return Html("\n" + "".join(texts))


# What comes later wins, and what holds for paper or a small screen stands at the end.
STYLE = _read("_status_page.css", "_status_figures.css")
SCRIPT = _read("_status_page.js")
# Texts are made safe by the same function as those of elements, before Jinja would escape them in its own way.
SKELETON = Environment(
    loader=FileSystemLoader(_HERE),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=text,
    keep_trailing_newline=True,
).get_template("_status_page.html.j2")

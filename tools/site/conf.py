# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's settings for the documentation's site; tools/site/build.py lays its sources together."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

CHECKOUT = Path(__file__).resolve().parents[2]
_GALAXY = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())

project = "scalr.backup"
author = "Scalr and the contributors to scalr.backup"
copyright = "Scalr and the contributors"  # noqa: A001 (Sphinx calls it so)
release = version = _GALAXY["version"]
language = "en"

extensions = ["myst_parser", "sphinx_antsibull_ext", "links"]
root_doc = "index"
# The same text on GitHub and here: GitHub's names for headings, and no syntax that it would show as it is.
myst_heading_anchors = 6
# The last is links.py's, for anchors that are no headings.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "place": "{{path}}#{{fragment}}"}
smartquotes = False
nitpicky = True

html_theme = "furo"
html_title = f"scalr.backup {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": _GALAXY["repository"],
    "top_of_page_buttons": [],
    "footer_icons": [],
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

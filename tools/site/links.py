# SPDX-License-Identifier: GPL-3.0-or-later
"""An extension of Sphinx: links that lead out of the site.

Those out of ``docs/``, which work on GitHub, lead to GitHub from the site, too, and what antsibull-docs says of Ansible leads
to Ansible's own pages, without asking these, so that the site is built without a network. A link to a file that does not
exist is a warning, which fails the site as any other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
_LOG = logging.getLogger(__name__)
_LINK = re.compile(r"(?<=\]\()(?!#|\w+:)([^)#\s]+)(#[^)\s]*)?(?=\))")
_ANSIBLE = "https://docs.ansible.com/ansible/latest"
_PAGES_OF_ANSIBLE = {
    "action_plugins": "plugins/action.html#action-plugins",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
}
_PLUGIN_OF_ANSIBLE = re.compile(r"ansible_collections\.(\w+)\.(\w+)\.(\w+)")
# What a page sets itself. It stays as it is, because messages and alerts name it, underscores and all.
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')


def _outward(app: Sphinx, page: str, target: str, anchor: str) -> str:
    """The same link, or GitHub's address of what is no page of the site."""
    path = Path(os.path.normpath((DOCS / page).parent / target))
    if not path.exists():
        _LOG.warning("%s: no such file: %s", page, target, location=page)
    if path == DOCS / "README.md":
        return target.removesuffix("README.md") + f"index.md{anchor}"
    if path.is_relative_to(DOCS) and path.is_file():
        if anchor and anchor[1:] in _ANCHOR.findall(path.read_text(encoding="utf-8")):
            # MyST knows headings only; tools/site/page_check.py looks whether this leads somewhere.
            return f"place:{target.removesuffix('.md')}.html{anchor}"
        return target + anchor
    kind = "tree" if path.is_dir() else "blob"
    return f"{app.config.html_theme_options['source_repository']}/{kind}/main/{path.relative_to(CHECKOUT)}{anchor}"


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    if (DOCS / f"{page}.md").is_file():
        source[0] = _LINK.sub(lambda link: _outward(app, page, link[1], link[2] or ""), source[0])


def _of_ansible(
    _app: Sphinx, _environment: BuildEnvironment, reference: pending_xref, words: nodes.TextElement
) -> nodes.reference | None:
    """A link to Ansible's page of a label that no page here has; None where it is not Ansible's either."""
    label = reference["reftarget"]
    place = _PAGES_OF_ANSIBLE.get(label)
    plugin = _PLUGIN_OF_ANSIBLE.fullmatch(label)
    if plugin and plugin[1] != "scalr":
        place = "collections/{}/{}/{}.html".format(*plugin.groups())
    return nodes.reference("", "", words, refuri=f"{_ANSIBLE}/{place}", internal=False) if place else None


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", _read)
    app.connect("missing-reference", _of_ansible)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HTML that is put together from elements, so that no text of a database or a server can ever become markup."""

from __future__ import annotations

from html import escape

from ansible_collections.scalr.backup.plugins.module_utils._address import redact
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

_VOID = {"br", "input", "link", "meta", "circle", "line", "path", "rect", "use"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()

    def __html__(self) -> str:
        """What a template puts in, as it is."""
        return self


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Children that are no markup are escaped, those that are None are left out.

    ``class_`` stands for ``class``, and ``aria_label`` for ``aria-label``. An attribute that is True stands by itself,
    one that is None or False is left out.
    """
    opened = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{opened}/>")
    return Html(f"<{opened}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """What stands one behind another."""
    return Html("".join(text(child) for child in children if child is not None))


def text(child: object) -> Html:
    """A text as markup; what is markup already stays as it is."""
    return child if isinstance(child, Html) else Html(escape(_shown(child)))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_shown(value))}"'


def _shown(value: object) -> str:
    """What a reader may see of it, whatever a host says: an older agent hides less of an address."""
    return printable(redact(str(value)))

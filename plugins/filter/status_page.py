# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: status_page
short_description: Draw the backups of a fleet as a page
version_added: 0.3.0
description:
  - Turns the answers of a fleet's hosts into one HTML document, with the health of the fleet, a calendar of
    nights for every database, the snapshots it can be restored from, how much is stored and how it grows, drills, and what to do about each problem.
  - The document is self-contained. Its policy forbids it to load or send anything.
  - A host whose answer cannot be read is shown as one that gave none, with the reason.
options:
  _input:
    description:
      - The hosts, a dictionary each.
      - C(name) is the host's name, C(outcome) is what P(scalr.backup.status_outcome#filter) returns, and
        C(summary) is a sentence. C(status) is what M(scalr.backup.status_info) returned, if anything.
    type: list
    elements: dict
    required: true
  now:
    description: The time of the page, in ISO 8601 with its time zone. Defaults to the controller's clock.
    type: str
  name:
    description: The fleet's name, for the page's title and header.
    type: str
    default: ""
    version_added: 0.4.0
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Write a page about one host
  scalr.backup.page:
    content: "{{ [{'name': 'web1', 'outcome': 'safe', 'summary': status.summary, 'status': status}] | scalr.backup.status_page }}"
    path: /srv/www/status.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The document.
  type: str
"""


def status_page(answers: list[dict[str, Any]], now: str | None = None, name: str = "") -> str:
    """The page about a fleet."""
    # Ansible loads every filter of a collection in every task that uses one of them: what draws pages is half of that.
    from ansible_collections.scalr.backup.plugins.plugin_utils._legible import each_for_itself  # noqa: PLC0415
    from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import fleet  # noqa: PLC0415
    from ansible_collections.scalr.backup.plugins.plugin_utils._status_nights import instant  # noqa: PLC0415
    from ansible_collections.scalr.backup.plugins.plugin_utils._status_page import page  # noqa: PLC0415

    moment = instant(now) if now else datetime.now(timezone.utc)
    try:
        return each_for_itself(lambda shown: page(fleet(shown, moment, name)), answers, _silent)
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(
            f"Failed to build the page from the hosts' answers: {type(error).__name__}: {error}"
        ) from error


def _silent(answer: Mapping[str, Any], why: str) -> dict[str, Any]:
    return {"name": answer["name"], "outcome": "without an answer", "summary": why}


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"status_page": status_page}

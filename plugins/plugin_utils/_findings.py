# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an agent's findings mean for a database, on the page and in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def severities(entry: Mapping[str, Any], findings: Iterable[Mapping[str, Any]]) -> set[str]:
    """How bad it is what an agent finds wrong with a database, or with its container as a whole, which names no database."""
    return {
        finding["severity"]
        for finding in findings
        if finding.get("container") == entry["container"]
        and (finding.get("database") or entry["database"]) == entry["database"]
    }

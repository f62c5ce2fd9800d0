# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key of a repository the password opens, remembered where there are several.

restic tries one after the other, and each try takes a processor as long as the right one. A hint is no more than that: where
that key is gone, or the password has changed, restic tries all others as before.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

_KEY = re.compile(r"[0-9a-f]{8,64}", re.ASCII)


def recall_key(memory: Path, repository: str) -> str:
    """The id of the key of this repository, or its beginning; empty where none is known."""
    try:
        known = json.loads(memory.read_bytes())
        key = known["key"] if known["repository"] == repository else ""
    except (OSError, ValueError, TypeError, LookupError):
        return ""
    return key if isinstance(key, str) and _KEY.fullmatch(key) else ""


def remember_key(memory: Path, repository: str, key: str) -> None:
    """Keep it for the next call of a verb; an empty one is forgotten."""
    with suppress(OSError):
        if key:
            memory.write_text(json.dumps({"repository": repository, "key": key}), encoding="utf-8")
        else:
            memory.unlink(missing_ok=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""An index of a restic repository, read as strictly as can be: what restic might read otherwise is refused.

restic's reader takes names in any case and the last of two equal ones; a text that two readers understand differently would
be judged as one thing and obeyed as another.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OF_A_BLOB = frozenset({"id", "type", "offset", "length", "uncompressed_length"})
_TYPES = frozenset({"data", "tree"})


class StrangeIndexError(ValueError):
    """No index that restic writes; its text says what is wrong with it."""


@dataclass(frozen=True)
class RepositoryIndex:
    """The packs that an index names, and whether it claims to stand in the place of other indexes."""

    packs: tuple[str, ...]
    supersedes: bool


def parse_index(text: bytes) -> RepositoryIndex:
    """Read an index as restic has decrypted it.

    Raises StrangeIndexError.
    """
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except StrangeIndexError:
        raise
    except (ValueError, RecursionError):
        raise StrangeIndexError("is not JSON") from None
    if not isinstance(document, dict) or document.keys() - {"packs", "supersedes"}:
        raise StrangeIndexError("holds what no index holds")
    packs, supersedes = document.get("packs") or [], document.get("supersedes") or []
    if not isinstance(packs, list) or not isinstance(supersedes, list):
        raise StrangeIndexError("holds what no index holds")
    names = tuple(_pack(one) for one in packs)
    if len(set(names)) != len(names):
        raise StrangeIndexError("names a pack twice")
    return RepositoryIndex(names, bool(supersedes))


def _pack(document: Any) -> str:
    if not isinstance(document, dict) or document.keys() != {"id", "blobs"} or not isinstance(document["blobs"], list):
        raise StrangeIndexError("holds what no index holds")
    if not document["blobs"]:
        raise StrangeIndexError("names a pack with nothing in it")
    for blob in document["blobs"]:
        if not isinstance(blob, dict) or blob.keys() - _OF_A_BLOB or blob.get("type") not in _TYPES:
            raise StrangeIndexError("holds what no index holds")
        _require_id(blob.get("id"))
    return _require_id(document["id"])


def _require_id(found: object) -> str:
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise StrangeIndexError("names something without a valid id")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise StrangeIndexError("repeats a JSON key")
    return document

# SPDX-License-Identifier: GPL-3.0-or-later
r"""Text that may hold bytes of no known encoding: what is in a database of SQL_ASCII is whatever somebody wrote there.

Inside the agent such a byte is a lone surrogate (``surrogateescape``), so that a name goes back to the server as it came.
Whatever is written down or shown is text that every program can read: there such a byte is ``\xe9``.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
# What a terminal obeys, or what turns the direction of writing: in JSON, it can be spelled out.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# A backslash that is a text's own, and reads as the beginning of what is spelled out.
_LOOKALIKE = re.compile(r"\\(?=x5c|x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2})")
# Bytes from 0x80 on stand at this distance.
_OFFSET = 0xDC00


def decoded(data: bytes | bytearray) -> str:
    """Text of a server, every byte kept."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The same bytes again."""
    return text.encode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """The same text for whoever reads it: bytes of no known encoding are spelled out."""
    return _SURROGATE.sub(_spelled, text)


def distinct(text: str) -> str:
    r"""As ``readable``, and never the same for two texts: a backslash that reads as one of ours is ``\x5c``."""
    return readable(_LOOKALIKE.sub(r"\\x5c", text))


def has_strange_bytes(text: str) -> bool:
    """Whether there is anything in it that no program could read."""
    return _SURROGATE.search(text) is not None


def readable_json(document: Any, **_options: Any) -> str:
    """A document as one line of JSON that every program can read, and that steers no terminal that shows it."""
    # Not escaped, a surrogate can only be one of a text's own.
    text = json.dumps(document, ensure_ascii=False, default=str)
    text = _STEERING.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return _SURROGATE.sub(lambda match: "\\" + _spelled(match), text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - _OFFSET:02x}" if _OFFSET + 0x80 <= code <= _OFFSET + 0xFF else f"\\u{code:04x}"

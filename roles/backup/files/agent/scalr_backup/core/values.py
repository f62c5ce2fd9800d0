# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration's values are where Python, or JSON, would let something else pass for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator

from scalr_backup.core.errors import ConfigurationError


def _is_no_switch(value: object) -> object:
    if isinstance(value, bool):
        # Python would count with it: true is 1.
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


Number = Annotated[int, BeforeValidator(_is_no_switch)]


def each_key_once(source: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """How ``json.loads`` makes the objects of *source*: of a key that is there twice, only the last would count.

    It raises ConfigurationError with the key.
    """

    def made_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigurationError(f"{source} has {key!r} twice: leave only the one that counts.")
            found[key] = value
        return found

    return made_of

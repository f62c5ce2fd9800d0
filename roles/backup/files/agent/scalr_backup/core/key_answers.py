# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verb ``key`` answers, as ``answers.py`` has it of the others."""

from __future__ import annotations

from typing import final

from typing_extensions import TypedDict


class KeyRecord(TypedDict):
    """A password's key to the repository."""

    id: str
    user: str
    host: str
    created: str
    current: bool


@final
class KeysAnswer(TypedDict):
    """``key list``."""

    repository: str
    repository_id: str
    keys: list[KeyRecord]
    shared_with: list[str]
    current: str | None


@final
class KeyAddedAnswer(TypedDict):
    """``key add``."""

    repository_id: str
    key: str
    added: bool


@final
class KeysRemovedAnswer(TypedDict):
    """``key remove``: the ids of the keys."""

    removed: list[str]


class PasswordAnswer(TypedDict):
    """``password``: where the password is, as the host names it, and whether it was generated now."""

    host: str
    path: str
    generated: bool

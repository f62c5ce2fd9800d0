# SPDX-License-Identifier: GPL-3.0-or-later
"""The time by a store's clock, which comes with each answer, even a refusal: no credentials are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests

from scalr_backup.core.address import redact_address
from scalr_backup.tools.restic import stores
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.files import HttpFiles

# Seconds to connect, and in all: nobody waits long for the time.
_CONNECTING, _PATIENCE = 5.0, 10.0
# A Date header has whole seconds, cut off.
_CUT_OFF = timedelta(seconds=0.5)


def ahead_of_store(
    repository: str, environment: Mapping[str, str], authority: Path | None, now: Callable[[], datetime]
) -> float | None:
    """By how many seconds this clock is ahead of the store's; None for a store that tells no time, or does not answer."""
    url = store_url(repository)
    if url is None:
        return None
    store = _StoreClock(redact_address(repository), url, Access(environment, authority, seconds=_PATIENCE))
    return store.ahead(url, now)


def store_url(repository: str) -> str | None:
    """The address of a store that speaks HTTP, without path and user; None for another one."""
    if stores.kind(repository) == "s3":
        place = stores.s3_place(repository)
        return f"{place.scheme}://{place.host}/"
    if stores.kind(repository) == "rest":
        parts = urlsplit(repository.removeprefix("rest:"))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "/", "", ""))
    return None


class _StoreClock(HttpFiles):
    """A store that is asked for nothing but the time."""

    def ahead(self, url: str, now: Callable[[], datetime]) -> float | None:
        """Ask once; in seconds."""
        before = now()
        try:
            with (
                self._wait() as wait,
                wait.counting(),
                self._session.head(url, timeout=_CONNECTING, allow_redirects=False, stream=True) as answer,
            ):
                told = parsedate_to_datetime(answer.headers.get("Date", ""))
        except (requests.RequestException, ValueError, OverflowError):
            return None
        after = now()
        if told.tzinfo is None:
            told = told.replace(tzinfo=UTC)
        return round((before + (after - before) / 2 - told - _CUT_OFF).total_seconds(), 1)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the host every few minutes, so that the status knows between two passes what nothing backs up, and what was refused.

It runs in a thread of the agent's main process. Nothing that happens here can stop a backup: a look that fails is logged
once, and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from scalr_backup.actions.discovery import Discovery
from scalr_backup.core import refusals
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import load_config
from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.logs import make_logger
from scalr_backup.core.records.host import LookRecord
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.state import State

# Seconds between two looks.
_PAUSE_SECONDS = 300.0
# A look that has found the same as the one before is put on record again so often: an old one is not believed.
_REPEAT = timedelta(hours=1)


class Lookout:
    """Looks while it is entered."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._seen: set[str] = set()
        self._said = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It may wait for the engine: as a daemon it does not block the end of the process.
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            try:
                docker = DockerHost()
                # First, whatever becomes of the look: who disturbs it may be who was refused.
                self.count(docker.refused())
                self.note(Discovery(load_config(), docker).look().as_record(utc_now()))
                self._said = ""
            except (ScalrBackupError, OSError) as error:
                self._tell(f"{type(error).__name__}: {error}")

    def note(self, look: LookRecord) -> None:
        """Put a look on record, where it is news."""
        before = self._state.read().get("look")
        settled = worth_telling(look, before, self._seen)
        self._seen = {container["name"] for container in look.get("unmatched", ())}
        if is_news(settled, before):
            self._state.put(look=settled)

    def count(self, told: Mapping[str, Any] | None) -> None:
        """Put on record what the socket proxy tells that it has refused, where that is news."""
        if told is None:
            return
        before = self._state.read().get("refused")
        now = refusals.merged(before, told, utc_now())
        if now != before:
            self._state.put(refused=now)

    def _tell(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            make_logger().warning("The containers of this host cannot be inspected.", reason=reason)


def worth_telling(look: LookRecord, before: LookRecord | None, seen: set[str]) -> LookRecord:
    """The same look without servers that may be gone in a minute, such as a test's: those that are seen for the first time."""
    known = seen | ({container["name"] for container in before.get("unmatched", ())} if before else set())
    return {**look, "unmatched": [one for one in look.get("unmatched", ()) if one["name"] in known]}


def is_news(look: LookRecord, before: LookRecord | None) -> bool:
    """Whether a look is to be put on record in place of the one before."""
    if before is None:
        return True
    if look.get("matching") != before.get("matching") or look.get("unmatched") != before.get("unmatched"):
        return True
    return datetime.fromisoformat(look["time"]) - datetime.fromisoformat(before["time"]) >= _REPEAT

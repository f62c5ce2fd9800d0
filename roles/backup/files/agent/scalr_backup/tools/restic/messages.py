# SPDX-License-Identifier: GPL-3.0-or-later
"""What restic prints, and how it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any

from scalr_backup.core.model import Key, Snapshot

# Where Go prints how it got to an error.
_GO_STACK = re.compile(r"\s|goroutine \d+|created by |[\w.]+(/[\w.-]+)*\.[\w.()*]+(\(.*\))?$")
# How far restic says it is, into a pipe too: a line such as "[0:01] 49.09%  27 / 55 packs".
_PROGRESS = re.compile(r"^\[[\d:]+\] +[\d.]+% +(\d+) / (\d+) ([a-z]+)", re.MULTILINE)
# Two days before the calendar ends, so that it can be told in each zone.
_NEVER = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Done:
    """How far restic is with something: so many of so many *unit*, such as packs."""

    count: int
    total: int
    unit: str


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in what ``restic version`` prints."""
    match = re.match(r"restic (\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def parse_progress(output: str) -> Done | None:
    """How far restic was when it last said so; None before that."""
    lines = _PROGRESS.findall(output)
    return Done(int(lines[-1][0]), int(lines[-1][1]), lines[-1][2]) if lines else None


def parse_snapshot(document: Mapping[str, Any]) -> Snapshot:
    """A snapshot out of restic's JSON; its summary is there since restic 0.17."""
    summary = document.get("summary") or {}
    return Snapshot(
        id=document["id"],
        time=parse_time(document["time"]),
        host=document.get("hostname", ""),
        path=(document.get("paths") or [""])[0],
        tags=tuple(document.get("tags") or ()),
        dump_bytes=summary.get("total_bytes_processed"),
        original=document.get("original"),
    )


def parse_key(document: Mapping[str, Any]) -> Key:
    """A key out of restic's JSON; its time is the local one of whoever lists the keys."""
    return Key(
        id=document["id"],
        user=document.get("userName", ""),
        host=document.get("hostName", ""),
        created=document.get("created", ""),
        current=bool(document.get("current")),
    )


def parse_time(text: str) -> datetime:
    """RFC 3339 with nanoseconds, as Go writes it; Python keeps the microseconds.

    Whoever can add a snapshot can date it at will. A time that Python has none for is one of the far future, which nobody
    believes and no listing fails on.
    """
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return _NEVER
    # At either end of the calendar, the same moment has no time in other zones.
    return moment if moment.tzinfo and MINYEAR < moment.year < MAXYEAR else _NEVER


def failure_text(messages: str) -> str:
    """The reason among restic's messages, which are JSON lines or plain ones."""
    reasons = []
    for line in messages.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            if not _GO_STACK.match(line):
                reasons.append(line.strip())
            continue
        if isinstance(document, dict):
            error = document.get("error")
            nested = error.get("message") if isinstance(error, dict) else None
            reasons.append(str(document.get("message") or nested or "").strip())
    reasons = [reason for reason in reasons if reason]
    fatal = [reason for reason in reasons if reason.startswith("Fatal:")]
    return re.sub(r"^(Fatal: )+", "", (fatal or reasons or ["it said nothing"])[-1]).splitlines()[0]

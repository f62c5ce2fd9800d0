"""Fleets of hosts as status_info describes them, made up and always the same: for tests of what is shown of them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NIGHTS = 90
APPS = ["shop", "wiki", "auth", "ledger", "chat", "forum", "mail", "crm", "bi", "jobs", "maps", "docs"]

Answer = dict[str, Any]


def healthy(databases: int) -> list[Answer]:
    """Hosts on which every night was good."""
    return [_answer(name, apps) for name, apps in _hosts(databases)]


def failing(databases: int) -> list[Answer]:
    """Hosts on which things have gone wrong; more than ten databases have a host beside them that is not reached."""
    answers = [_answer(name, apps, broken={0, 2}) for name, apps in _hosts(databases)]
    if databases >= 10:
        answers.append(
            {"name": "web-gone", "outcome": "not reached", "summary": "The host was not reached.", "status": None}
        )
    return answers


def warned(databases: int) -> list[Answer]:
    """Hosts on which something deserves a look."""
    return [_answer(name, apps, broken={2}) for name, apps in _hosts(databases)]


def empty(hosts: int) -> list[Answer]:
    """Hosts that have the agent, and nothing to back up yet."""
    return [
        {
            "name": f"web{number}",
            "outcome": "safe",
            "summary": "Waiting for the first pass.",
            "status": _status(f"web{number}", []),
        }
        for number in range(1, hosts + 1)
    ]


def _hosts(databases: int) -> Iterator[tuple[str, list[str]]]:
    """Names of hosts, and of the apps on them; no more than twenty on one."""
    hosts = 1 if databases == 1 else max(3, databases // 20)
    for number in range(hosts):
        mine = range(number, databases, hosts)
        yield (
            f"web{number + 1}",
            [APPS[one // hosts % len(APPS)] + ("" if one // hosts < len(APPS) else "2") for one in mine],
        )


def _answer(host: str, apps: list[str], *, broken: Collection[int] = ()) -> Answer:
    dice = random.Random(f"{host} {bool(broken)}")  # noqa: S311 (the same picture every time)
    histories = [_Past(host, app, dice, broken=number in broken, number=number) for number, app in enumerate(apps)]
    status = _status(host, histories)
    findings = status["findings"]
    failures = [one for one in findings if one["severity"] == "failure"]
    summary = f"NOT SAFE: {len(failures)} problems; first: {failures[0]['message']}" if failures else "Safe."
    return {"name": host, "outcome": "not safe" if failures else "safe", "summary": summary, "status": status}


def _status(host: str, histories: list[_Past]) -> dict[str, Any]:
    findings = [finding for past in histories for finding in past.findings()]
    history = [entry for past in histories for entry in past.entries()]
    size, passes = 0.0, []
    for back in range(NIGHTS - 1, -1, -1) if histories else ():
        size += sum(past.added(back) for past in histories)
        begun = _night(back)
        passes.append(
            {
                "kind": "pass",
                "time": begun.isoformat(),
                "started": begun.isoformat(),
                "run": f"r{back}",
                "ok": True,
                "size_bytes": int(size),
                "snapshots": min(NIGHTS - back, 40) * len(histories),
                "error": None,
            }
        )
    return {
        "host": host,
        "repository": f"s3:https://s3.example.com/backups/{host}",
        "healthy": not findings,
        "problems": [finding["message"] for finding in findings],
        "findings": findings,
        "databases": [past.database() for past in histories],
        "next_pass": (NOW + timedelta(hours=15)).isoformat(),
        "repository_growth": {"since": _night(13).isoformat(), "bytes_a_night": 24117248} if histories else None,
        "last_pass": {"duration_seconds": 42.0} if histories else None,
        "timezone": "Europe/Berlin",
        "history": history + passes,
        "snapshots": [snapshot for past in histories for snapshot in past.snapshots()],
    }


def _night(back: int) -> datetime:
    return (NOW - timedelta(days=back)).replace(hour=3, minute=7)


class _Past:
    """What became of one database in all those nights."""

    def __init__(self, host: str, app: str, dice: random.Random, *, broken: bool, number: int) -> None:
        self.host, self.container, self.name = host, f"scalr-{app}-db", app
        self._broken, self._number = broken, number
        self._bytes = dice.choice([3e6, 40e6, 220e6, 900e6, 4.2e9, 18e9]) * dice.uniform(0.7, 1.4)
        self._growth = dice.choice([0.0, 0.0008, 0.002, 0.004, 0.009])
        self._noise = [dice.uniform(-0.01, 0.01) for _night in range(NIGHTS)]
        self._bad = {back for back in range(NIGHTS) if dice.random() < 0.03} if broken else set()
        self._bad |= {0, 1} if broken and number == 0 else set()
        self._skipped = {11, 12} if broken else set()
        self._born = NIGHTS - 1 if number % 5 != 4 else 40
        self._recovery = self._bytes / 30e6 + dice.uniform(2, 6)

    def size(self, back: int) -> float:
        return self._bytes * (1 + self._growth * (NIGHTS - back)) * (1 + self._noise[back] * self._growth * 60)

    def added(self, back: int) -> float:
        if back > self._born or back in self._bad | self._skipped:
            return 0
        return self.size(back) * (0.32 if back == self._born else 0.004 + self._growth)

    def entries(self) -> Iterator[dict[str, Any]]:
        for back in range(self._born, -1, -1):
            ok, begun = back not in self._bad, _night(back).isoformat()
            if back not in self._skipped:
                yield {
                    "kind": "backup", "time": begun, "started": begun, "run": f"r{back}", "reason": "nightly",
                    "container": self.container, "database": self.name, "ok": ok, "seconds": self.size(back) / 90e6,
                    "bytes_read": int(self.size(back)) if ok else 0, "bytes_added": int(self.added(back)),
                    "rows": int(self.size(back) / 180) if ok else None, "error": None if ok else "dump_failed",
                    "anew": "first" if back == self._born else None,
                }  # fmt: skip

    def snapshots(self) -> Iterator[dict[str, Any]]:
        """What retention has left of them: a month of nights."""
        for back in range(min(self._born, 30), -1, -1):
            if back not in self._bad | self._skipped:
                yield {
                    "id": f"{back:02x}5f0c8e1b4c7d", "short_id": f"{back:02x}5f0c8e", "time": _night(back).isoformat(),
                    "host": self.host, "container": self.container, "database": self.name, "run": f"r{back}",
                    "reason": "nightly", "dump_bytes": int(self.size(back)), "pinned": back == 20,
                }  # fmt: skip

    def database(self) -> dict[str, Any]:
        last = min(set(range(NIGHTS)) - self._bad - self._skipped)
        age = int((NOW - _night(last)).total_seconds())
        return {
            "container": self.container,
            "database": self.name,
            "ok": 0 not in self._bad,
            "fresh": age < 26 * 3600,
            "last_success": _night(last).isoformat(),
            "age_seconds": age,
            "snapshot_id": "5f0c8e1b4c7d",
            "bytes_read": int(self.size(last)),
            "rows": int(self.size(last) / 180),
            "error": {"code": "dump_failed", "message": "pg_dump ended with exit code 1."} if 0 in self._bad else None,
            "drill": self._drill(),
            "new_data": {
                "night": {"bytes_added": int(self.added(last)), "share": round(self.added(last) / self.size(last), 4)},
                "row_order": {"why_not": None},
            },
        }

    def _drill(self) -> dict[str, Any] | None:
        if self._number % 7 == 6:
            return None
        return {
            "ok": True,
            "time": _night(9).isoformat(),
            "age_seconds": 9 * 86400,
            "snapshot_id": "5f0c8e1b4c7d",
            "recovery_seconds": round(self._recovery, 1),
            "error": None,
        }

    def findings(self) -> Iterator[dict[str, Any]]:
        about = {"container": self.container, "database": self.name}
        database = self.database()
        if not database["ok"] or not database["fresh"]:
            yield {
                "code": "dump_failed", "severity": "failure", **about,
                "message": f"{self.container}/{self.name} has no good backup younger than 2 d 8 h: pg_dump ended with exit code 1: "
                "could not read block 4711 of relation base/16384/16402.",
                "since": _night(1).isoformat(), "last_good_age_seconds": database["age_seconds"],
                "command": f"ansible-playbook scalr.backup.backup -e db={self.container} --limit {self.host}",
            }  # fmt: skip
        elif self._broken and self._number == 2:
            yield {
                "code": "shrunk", "severity": "warning", **about,
                "message": f"The dump of {self.container}/{self.name} is 71 % smaller than the last one.",
                "since": _night(0).isoformat(), "last_good_age_seconds": database["age_seconds"],
                "command": f"docker exec scalr-backup scalr-backup snapshots --db {self.container}",
            }  # fmt: skip

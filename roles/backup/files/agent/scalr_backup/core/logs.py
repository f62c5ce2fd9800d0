# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log: one JSON object a line on standard output, which Docker keeps (library structlog).

What a line may hold is declared here, in one place: its fields and its levels do not change under those who search them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LEVEL_MEANINGS = {
    "debug": "for whoever looks for a cause; not in the container's log",
    "info": "a fact; nothing is to be done",
    "warning": "all that was asked for was done, and something is to be looked at in daylight",
    "error": "something that should have been done was not",
}
# The fields of a line, and what each means. Bytes and seconds are numbers, times RFC 3339, errors {"code", "message"}.
FIELDS = {
    "timestamp": "when the line was written, UTC",
    "level": "how grave it is, see above",
    "event": "what happened, a sentence; `result` is the result of a job, `progress` is how far it is",
    "agent_version": "the version of the agent",
    "bytes": "bytes done so far",
    "bytes_added": "bytes that a dump added to the repository",
    "bytes_per_second": "the speed of the last seconds",
    "bytes_read": "size of a dump",
    "bytes_stored": "what that came to when it was compressed",
    "code": "code of the error that keeps the agent from starting",
    "container": "name of a database container",
    "copied": "how many snapshots were copied to the second repository",
    "count_error": "why the rows of a dump were not counted; nothing where they were",
    "database": "name of a database",
    "done": "how many of `total` are done, of the kind that `unit` names",
    "due": "when a job begins next",
    "duration_seconds": "how long it took",
    "elapsed_seconds": "how long the phase takes already",
    "error": "what went wrong, with its code",
    "exit_code": "how a job's process ended",
    "host": "name that a key of the repository is of",
    "job": "what the agent does by itself: `pass`, `prune`, `check`",
    "kind": "of which event a message tells, as in `backup_notify_events`",
    "key": "the beginning of the id of a key of the repository",
    "ok": "whether it succeeded",
    "port": "port at which the metrics are served",
    "phase": "what is being done: `dump`, `copy`, `forget`, `prune`, `check`",
    "reason": "why, in words",
    "removed": "ids of the snapshots that retention removed from the second repository",
    "repository": "address of a repository, without a password",
    "result": "the data of a job's result, as the verb shows it with `--json`",
    "rows": "how many rows a dump holds",
    "run": "id of the run that the line belongs to; in every line of a run",
    "seconds_left": "about how long the phase takes yet",
    "services": "how many services have taken a message",
    "snapshot_id": "id of a snapshot",
    "snapshots": "the beginnings of the ids of snapshots that were removed",
    "target": "who was to be told: an address's scheme, and nothing else of it",
    "text": "what a job printed that is no event",
    "time": "when a copy ended",
    "total": "see `done`",
    "total_bytes": "how many bytes it will be about, by the last dump",
    "total_rows": "how many rows it will be",
    "tries": "how often a message was tried",
    "unit": "see `done`: `snapshots`, `packs`, `files`, `indexes`",
    "user": "user that a key of the repository is of",
}


def make_logger() -> structlog.stdlib.BoundLogger:
    """A logger of JSON lines on standard output: timestamp, level, event, and the fields of each."""
    # It brings libraries for tracebacks in colour, a third of a second that verbs without a log need not wait for.
    import structlog  # noqa: PLC0415

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["info"]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger

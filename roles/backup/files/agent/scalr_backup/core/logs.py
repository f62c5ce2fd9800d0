# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log: one JSON object a line on standard output, which Docker keeps (library structlog).

What a line may hold is declared here, in one place: its fields and its levels do not change under those who search them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from scalr_backup.core.text import readable_json

if TYPE_CHECKING:
    import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LEVEL_MEANINGS = {
    "debug": "for finding a cause; not in the container's log",
    "info": "a fact; nothing to do",
    "warning": "the work is done, but something needs a look during the day",
    "error": "something that should have been done was not",
}
# The fields of a line, and what each means. Bytes and seconds are numbers, times RFC 3339, errors {"code", "message"}.
FIELDS = {
    "timestamp": "when the line was written, UTC",
    "level": "severity, see above",
    "event": "what happened, a sentence; `result` is the result of a job, `progress` is how far it has got",
    "agent_version": "the version of the agent",
    "archive_unchecked": "why the structure of a dump was not checked; null if it was",
    "bytes": "bytes done so far",
    "bytes_added": "bytes that a dump added to the repository",
    "bytes_per_second": "the speed of the last seconds",
    "bytes_ordered": "how much of a dump is rows in the order of a key",
    "bytes_read": "size of a dump",
    "bytes_stored": "what `bytes_added` came to after compression",
    "code": "code of the error that keeps the agent from starting",
    "container": "name of a database container",
    "copied": "how many snapshots were copied to the second repository",
    "count_error": "why the rows of a dump were not counted; null if they were",
    "database": "name of a database",
    "done": "how many of `total` are done, counted in `unit`",
    "due": "when a job runs next",
    "duration_seconds": "how long it took",
    "elapsed_seconds": "how long the phase has taken so far",
    "error": "what went wrong, with its code",
    "exit_code": "how a job's process ended",
    "host": "host that a repository key belongs to",
    "job": "what the agent does by itself: `pass`, `prune`, `check`",
    "kind": "which event a message reports, as in `backup_notify_events`",
    "key": "the first characters of a repository key's id",
    "left_out": "relations whose rows `pg_dump` leaves out of a dump",
    "missed": "how many more times a job came due while one ran",
    "ok": "whether it succeeded",
    "port": "port at which the metrics are served",
    "phase": "what is being done: `dump`, `copy`, `forget`, `prune`, `check`",
    "reason": "why, in words",
    "removed": "ids of the snapshots that retention removed from the second repository",
    "repository": "address of a repository, without a password",
    "result": "the data of a job's result, as the verb shows it with `--json`",
    "rows": "how many rows a dump holds",
    "run": "id of the run that the line belongs to; in every line of a run",
    "seconds_left": "estimated time left in the phase",
    "services": "how many services accepted a message",
    "snapshot_id": "id of a snapshot",
    "snapshots": "the first characters of the ids of snapshots that were removed",
    "target": "the recipient: only the scheme of the address",
    "text": "output of a job that is not an event",
    "time": "when a copy ended",
    "total": "see `done`",
    "total_bytes": "estimated size of the dump, from the last one",
    "total_rows": "how many rows the dump will have",
    "tries": "how many times delivery was tried",
    "unit": "see `done`: `snapshots`, `packs`, `files`, `indexes`",
    "user": "user that a repository key belongs to",
}


def make_logger() -> structlog.stdlib.BoundLogger:
    """A logger of JSON lines on standard output: timestamp, level, event, and the fields of each."""
    # It brings libraries for tracebacks in colour, a third of a second that verbs without a log need not wait for.
    import structlog  # noqa: PLC0415

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=readable_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["info"]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger

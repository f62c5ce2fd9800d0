# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log: one JSON object a line on standard output, which Docker keeps (library structlog)."""

from __future__ import annotations

import sys

import structlog

# What a level means: debug is for who looks for a cause, info is a fact, a warning is for the operator to judge in
# daylight, and an error means that something that should have been done was not.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def make_logger() -> structlog.stdlib.BoundLogger:
    """A logger of JSON lines on standard output: timestamp, level, event, and the fields of each."""
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

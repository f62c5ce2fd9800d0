# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's main process: runs a pass when it is due, logs one JSON object a line, ends cleanly on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import datetime

import structlog

from scalr_backup import __version__
from scalr_backup.config import Config, load_config
from scalr_backup.errors import ConfigurationError
from scalr_backup.model import NIGHTLY
from scalr_backup.schedule import missed, next_pass
from scalr_backup.state import State, utc_now

# Seconds between two looks at the clock and at the configuration: both may change under us.
_TICK_SECONDS = 5.0


class Server:
    """Waits for the next pass and runs it as a process of its own, so that a pass can never take the schedule down."""

    def __init__(self, config: Config, state: State) -> None:
        self._config = config
        self._state = state
        self._stopping = threading.Event()
        self._pass: subprocess.Popen[str] | None = None
        self._refused: str | None = None
        self._log = make_logger()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code is 0 after a clean end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stop())
        now = utc_now()
        first_started = self._state.first_started(now)
        if missed(self._config, now, self._last_started(), first_started):
            self._log.info("A pass was missed while the agent was down; it runs now.")
            self._run_pass()
        due = self._announce_next(utc_now())
        while not self._stopping.wait(_TICK_SECONDS):
            # First what is due: a configuration that changed in this very moment must not put it off.
            if utc_now() >= due:
                self._run_pass()
                due = self._announce_next(utc_now())
            if self._reload():
                due = self._announce_next(utc_now())
        self._log.info("The agent ends.")
        return 0

    def _last_started(self) -> datetime | None:
        known = self._state.read().get("nightly_started")
        return datetime.fromisoformat(known) if known else None

    def _announce_next(self, now: datetime) -> datetime:
        due = next_pass(self._config, now)
        self._log.info("The next pass is scheduled.", due=due.isoformat(), agent_version=__version__)
        return due

    def _reload(self) -> bool:
        """Take a changed configuration; one that is not valid changes nothing and is logged once."""
        try:
            config = load_config()
        except ConfigurationError as error:
            if error.message != self._refused:
                self._refused = error.message
                self._log.error("The configuration is not valid; the one before stays in force.", reason=error.message)
            return False
        self._refused = None
        changed = config != self._config
        if changed:
            self._log.info("The configuration has changed.")
            self._config = config
        return changed

    def _run_pass(self) -> None:
        if self._stopping.is_set():
            return
        self._pass = subprocess.Popen(
            [sys.executable, "-m", "scalr_backup", "backup", "--reason", NIGHTLY, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._stopping.is_set():
            self._pass.terminate()  # SIGTERM came while the pass was being started.
        process = self._pass
        messages = _Collector(process)
        assert process.stdout is not None
        for line in process.stdout:
            self._log_event(line)
        exit_code = process.wait()
        self._pass = None
        level = "info" if exit_code == 0 else "error"
        self._log.log(_LEVELS[level], "The pass has ended.", exit_code=exit_code)
        if exit_code != 0 and messages.text:
            self._log.error("The pass said:", text=messages.text[-2000:])

    def _log_event(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            self._log.warning("The pass printed something else than an event.", text=line.strip())
            return
        kind = event.pop("event", None)
        if kind == "log":
            message, level = event.pop("message"), event.pop("level")
            self._log.log(_LEVELS.get(level, _LEVELS["info"]), message, **event)
        elif kind == "result":
            self._log.log(
                _LEVELS["info" if event["ok"] else "error"], "result", error=event["error"], result=event["data"]
            )

    def _stop(self) -> None:
        self._stopping.set()
        if self._pass is not None and self._pass.poll() is None:
            self._pass.terminate()


class _Collector:
    """Reads a process's standard error, so that it never blocks on it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.text = ""
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.text = process.stderr.read()


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def make_logger() -> structlog.stdlib.BoundLogger:
    """A logger of JSON lines on standard output: timestamp, level, event, and the fields of each."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["info"]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger

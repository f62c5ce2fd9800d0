# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's main process: runs each job when it is due, logs one JSON object a line, ends cleanly on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol, cast

from scalr_backup import __version__
from scalr_backup.core import stopping
from scalr_backup.core.answers import Result
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, load_config
from scalr_backup.core.errors import ConfigurationError, ExitCode
from scalr_backup.core.jobs import JOBS, TRY_AGAIN_AFTER, Job
from scalr_backup.core.logs import LEVELS, make_logger
from scalr_backup.core.progress import Event, Pace
from scalr_backup.core.units import counted
from scalr_backup.tools.state import State

# Seconds between two looks at the clock and at the configuration: both may change under us.
_TICK_SECONDS = 5.0
# A clock that is set back by more has made plans worthless; a smaller correction is an ordinary one.
_SET_BACK = timedelta(minutes=1)
# Characters of what a job said on its standard error that the log keeps.
_LAST_WORDS = 2000
_LAST_WORDS_SECONDS = 5.0
# Seconds between two lines of the log about how far one thing is.
_PROGRESS_SECONDS = 30.0


class Companion(Protocol):
    """Anything that works alongside while the agent serves, such as what tells a dead man's switch.

    It is called in the server's own thread, so what takes time it leaves to another. What it raises is logged, and stops
    nothing.
    """

    def started(self, job: Job) -> None:
        """A job is about to be started."""

    def ended(self, job: Job, exit_code: int, result: Result | None) -> None:
        """A job has ended; *result* is its last line, and None when it did not come to that."""


class Server:
    """Runs the jobs when they are due, one at a time.

    Each is a process of its own, so that none can take the schedule down.
    """

    def __init__(self, config: Config, state: State, companions: Sequence[Companion] = ()) -> None:
        self._config = config
        self._state = state
        self._companions = companions
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._refused: str | None = None
        self._log = make_logger()
        self._due: dict[Job, datetime] = {}
        self._seen = utc_now()

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or SIGHUP; the exit code is 0 after a clean end."""
        for number in stopping.SIGNALS:
            signal.signal(number, lambda _number, _frame: self._stop())
        if stopping.told.is_set():
            self._stop()  # It came while the agent was being started.
        self._state.note_schedule(self._config.schedule, utc_now())
        self._catch_up(self._state.first_started(utc_now()))
        self._plan()
        while not self._stopping.wait(_TICK_SECONDS):
            # First what is due: a configuration that changed in this very moment must not put it off.
            self._run_due()
            if self._reload():
                self._plan()
        self._log.info("The agent is stopping.")
        return 0

    def _catch_up(self, first_started: datetime) -> None:
        """Do at once what should have been done while the agent was down."""
        for job in JOBS:
            if job.missed(self._config, self._state.read(), first_started, utc_now()):
                self._log.info(f"A {job.name} was missed while the agent was down; it runs now.", job=job.name)
                self._run_job(job)

    def _plan(self) -> None:
        """Find out when each job is due next; the pass is announced last, where an operator looks for it."""
        self._due = {}
        for job in reversed(JOBS):
            self._plan_next(job)

    def _plan_next(self, job: Job) -> None:
        now = utc_now()
        due = job.next(self._config, now)
        if due is None:
            self._due.pop(job, None)
            return
        # Where nothing can be put on record, no job seems to come to an end.
        if job.retried and not self._state.obstacle() and self._came_to_no_end(job, now):
            due = min(due, now + TRY_AGAIN_AFTER)
        self._due[job] = due
        self._log.info(
            f"The next {job.name} is scheduled.", job=job.name, due=due.isoformat(), agent_version=__version__
        )

    def _came_to_no_end(self, job: Job, now: datetime) -> bool:
        return job.missed(self._config, self._state.read(), self._state.first_started(now), now)

    def _run_due(self) -> None:
        self._plan_anew_if_set_back()
        for job in JOBS:
            due = self._due.get(job)
            if due is not None and utc_now() >= due:
                self._run_job(job)
                self._tell_left_out(job, due)
                self._plan_next(job)

    def _plan_anew_if_set_back(self) -> None:
        """What was planned by a clock that was ahead may be due in years."""
        before, self._seen = self._seen, utc_now()
        if self._seen < before - _SET_BACK:
            self._log.warning("The clock was set back; jobs are scheduled anew.")
            self._plan()

    def _tell_left_out(self, job: Job, due: datetime) -> None:
        """Say how often a job came due while it, or another one, still ran: it has run once for all of these."""
        left_out = job.due_between(self._config, due, utc_now())
        if left_out and not self._stopping.is_set():
            times = counted(left_out, "more time")
            text = f"The {job.name} came due {times} while a job ran. What is missed is not caught up on."
            self._log.warning(text, job=job.name, missed=left_out)

    def _reload(self) -> bool:
        """Take a changed configuration; one that is not valid changes nothing and is logged once."""
        try:
            config = load_config()
        except ConfigurationError as error:
            if error.message != self._refused:
                self._refused = error.message
                self._log.error(
                    ("The configuration is not valid; the previous one stays in force."), reason=error.message
                )
            return False
        self._refused = None
        changed = config != self._config
        if changed:
            self._log.info("The configuration has changed.")
            self._config = config
            self._state.note_schedule(config.schedule, utc_now())
        return changed

    def _run_job(self, job: Job) -> None:
        if self._stopping.is_set():
            return
        self._tell(lambda companion: companion.started(job))
        exit_code, result = self._run_process(job)
        self._tell(lambda companion: companion.ended(job, exit_code, result))

    def _run_process(self, job: Job) -> tuple[int, Result | None]:
        """Run a job's verb and log its events; its exit code and its result line."""
        try:
            with stopping.held_back():
                process = subprocess.Popen(
                    [sys.executable, "-m", "scalr_backup", *job.arguments, "--json"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
        except OSError as error:
            self._log.error(f"The {job.name} could not be started.", job=job.name, reason=str(error))
            return int(ExitCode.FAILED), None
        self._process = process
        if self._stopping.is_set():
            process.terminate()  # SIGTERM came while the job was being started.
        messages, told = _Collector(process), _Told()
        assert process.stdout is not None
        for line in process.stdout:
            self._log_event(job, line, told)
        exit_code = process.wait()
        self._process = None
        level = LEVELS["info" if exit_code == 0 else "error"]
        facts = {"job": job.name, **told.run}
        self._log.log(level, f"The {job.name} has ended.", **facts, exit_code=exit_code)
        if exit_code != 0 and (text := messages.text()):
            self._log.error(f"The {job.name} said:", **facts, text=text[-_LAST_WORDS:])
        return exit_code, told.result

    def _log_event(self, job: Job, line: str, told: _Told) -> None:
        """Log an event of a job, and note what it says of the run; of progress, a line now and then."""
        try:
            event = json.loads(line)
        except ValueError:
            text = f"The {job.name} printed something that is not an event."
            self._log.warning(text, job=job.name, **told.run, text=line.strip())
            return
        kind = event.pop("event", None)
        told.add(event)
        if kind == "log":
            message, level = event.pop("message"), event.pop("level")
            self._log.log(LEVELS.get(level, LEVELS["info"]), message, **{"job": job.name, **event})
        elif kind == "progress" and (facts := told.pace.due(event)):
            self._log.info("progress", **{"job": job.name, **facts})
        elif kind == "result":
            told.result = cast("Result", event)
            level = LEVELS["info" if event["ok"] else "error"]
            self._log.log(level, "result", job=job.name, **told.run, error=event["error"], result=event["data"])

    def _tell(self, call: Callable[[Companion], None]) -> None:
        """Call every companion; one that fails is logged, and takes nothing down."""
        for companion in self._companions:
            try:
                call(companion)
            except Exception as error:  # noqa: BLE001 (whatever it is, the schedule goes on)
                self._log.error(f"{type(companion).__name__} failed.", reason=f"{type(error).__name__}: {error}")

    def _stop(self) -> None:
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


class _Told:
    """What a job has said of its run so far: the field of the log with its id, and its result."""

    def __init__(self) -> None:
        self.run: dict[str, str] = {}
        self.result: Result | None = None
        self.pace = Pace(_PROGRESS_SECONDS)

    def add(self, event: Event) -> None:
        """Take in an event, whose data are the result's where it is that."""
        run = event.get("run") or (event.get("data") or {}).get("run")
        if run:
            self.run = {"run": run}


class _Collector:
    """Reads a process's standard error, so that it never blocks on it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._text = ""
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """All of it, once the process has ended; whom that has left behind is not waited for."""
        self._thread.join(_LAST_WORDS_SECONDS)
        return self._text

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._text = process.stderr.read()

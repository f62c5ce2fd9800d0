# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Run a module of the collection on the host, and show the agent's progress on the controller meanwhile."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash
from ansible_collections.scalr.backup.plugins.module_utils._address import objection, redact
from ansible_collections.scalr.backup.plugins.plugin_utils._progress import Lines, process
from ansible_collections.scalr.backup.plugins.plugin_utils._reason import without_rubble
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

display = Display()

_Variables = dict[str, Any]
_Result = dict[str, Any]

# Seconds between two polls of the host. Also the minimum between two lines about one database.
_LOOK_SECONDS = 2
# A broken connection may come back: retry for this long.
_PATIENCE_SECONDS = 120
# The agent prints something every two seconds. After this many seconds of silence, check whether it is alive.
_SUSPICIOUS_SECONDS = 60
# A module that runs longer than a week is stopped.
_LONGEST_SECONDS = 7 * 86400
# Marks the start of the agent's output, in case a shell prints something first.
_MARK = "--- scalr.backup ---"

# Waits a while for the job to end, prints the agent's new output, and says by its exit code whether the job is still
# running: until it ends, its result file says only that it has started.
_LOOK = """n=0
while [ "$n" -lt 4 ] && grep -qs '^{{"started"' {job}; do sleep 0.{pause}; n=$((n + 1)); done
echo {mark}
tail -n +{line} {output} 2>/dev/null
grep -qs '^{{"started"' {job}"""

# Ansible's own fields about an asynchronous job, not part of the module's result.
_ABOUT_THE_JOB = ("ansible_job_id", "results_file", "started", "finished")


class ModuleActionBase(ActionBase):
    """An action that runs its module; if the module dies, the failure is one sentence."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: None = None, task_vars: _Variables | None = None) -> _Result:
        """Run the module."""
        result = super().run(tmp, task_vars)
        # Before the module is on its way: its arguments show on the host, in process lists and in the system's log.
        refused = objection("from_repository", self._task.args.get("from_repository"))
        if refused:
            return {**result, "failed": True, "msg": refused}
        socket = self._engine_socket(task_vars or {})
        if socket and not self._task.args.get("engine_socket"):
            self._task.args["engine_socket"] = socket
        merged: _Result = merge_hash(result, without_rubble(self._run_module(task_vars or {}), self._task.action))
        return {**merged, **_for_people(merged)}

    def _engine_socket(self, task_vars: _Variables) -> str:
        """The variable of the host that the module runs on; empty where it has none."""
        place = self._task.delegate_to
        if not place:
            return str(self._templar.template(task_vars.get("backup_engine_socket")) or "")
        # What all hosts of the inventory have in common says nothing of a controller that is none of them.
        if place not in (task_vars.get("groups") or {}).get("all", ()):
            return ""
        return str(task_vars["hostvars"][place].get("backup_engine_socket") or "")

    def _run_module(self, task_vars: _Variables) -> _Result:
        result: _Result = self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))
        return result


def _for_people(result: _Result) -> _Result:
    """A result's sentences without what could steer a terminal or what opens a store, whatever the host says."""
    sentences: _Result = {}
    if isinstance(result.get("msg"), str):
        sentences["msg"] = _shown(result["msg"])
    if isinstance(result.get("warnings"), list):
        sentences["warnings"] = [_shown_warning(one) for one in result["warnings"]]
    return sentences


def _shown_warning(warning: Any) -> Any:
    if isinstance(warning, str):
        return _shown(warning)
    # From ansible-core 2.19 on, a module's warning is an object that holds an event.
    event = getattr(warning, "event", None)
    if not dataclasses.is_dataclass(event) or not isinstance(getattr(event, "msg", None), str):
        return warning
    told: Any = event
    return dataclasses.replace(warning, event=dataclasses.replace(told, msg=_shown(told.msg)))


def _shown(text: str) -> str:
    return "\n".join(printable(line) for line in redact(text).split("\n"))


class AgentActionBase(ModuleActionBase):
    """An action that runs its module and shows progress."""

    def _run_module(self, task_vars: _Variables) -> _Result:
        """Run the module, with progress unless the task says otherwise."""
        shows_nothing = self._task.no_log or self._task.args.get("progress_file")
        if self._task.check_mode or self._task.async_val or shows_nothing:
            return super()._run_module(task_vars)
        return self._run_in_sight(task_vars)

    def _run_in_sight(self, task_vars: _Variables) -> _Result:
        """Start the module, follow it to its end, and return its result."""
        output = self._make_output_file()
        job = self._start(dict(self._task.args, progress_file=output), task_vars)
        if "results_file" not in job:
            self._on_host(f"rm -f {shlex.quote(output)}")
            return job
        host = task_vars.get("inventory_hostname", "")
        _Watch(self._on_host, host, job["results_file"], output).follow()
        result = self._result_of(job, task_vars)
        self._on_host(f"rm -f {shlex.quote(output)} {shlex.quote(job['results_file'])}")
        return result

    def _make_output_file(self) -> str:
        """Create an empty file that only the module's user can read."""
        made = self._on_host("umask 077; mktemp /tmp/scalr-backup-progress-XXXXXXXXXX")
        lines: list[str] = made["stdout"].split()
        if made["rc"] != 0 or not lines:
            raise AnsibleActionFail(f"Cannot create a temporary file on the host: {made['stderr'].strip()}")
        return lines[-1]

    def _start(self, arguments: dict[str, Any], task_vars: _Variables) -> _Result:
        """Start the module as an asynchronous job."""
        self._task.async_val = _LONGEST_SECONDS
        try:
            job: _Result = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=True)
            return job
        finally:
            # What follows are ordinary calls of modules again.
            self._task.async_val = 0

    def _result_of(self, job: _Result, task_vars: _Variables) -> _Result:
        """The result of a job that has ended."""
        directory = self.get_shell_option("async_dir", default="~/.ansible_async")
        result = self._execute_module(
            module_name="ansible.legacy.async_status",
            module_args={"jid": job["ansible_job_id"], "_async_dir": directory},
            task_vars=task_vars,
        )
        if not result.get("finished"):
            raise AnsibleActionFail(
                "The module disappeared from the host without a result, as happens when the host restarts. Run this again: "
                "it finds and removes what was left behind."
            )
        return {name: value for name, value in result.items() if name not in _ABOUT_THE_JOB}

    def _on_host(self, command: str) -> _Result:
        """Run a shell command as the module's user."""
        done: _Result = self._low_level_execute_command(f"/bin/sh -c {shlex.quote(command)}")
        return done


class _Watch:
    """Follows one job to its end, and shows what the agent prints meanwhile."""

    def __init__(self, on_host: Callable[[str], _Result], host: str, job: str, output: str) -> None:
        self._on_host = on_host
        self._host = host
        self._job = shlex.quote(job)
        self._output = shlex.quote(output)
        self._lines = Lines(host)
        self._process: tuple[Any, Any] | None = None

    def follow(self) -> None:
        """Return when the job has ended or died."""
        heard = time.monotonic()
        while True:
            before = self._lines.seen
            if not self._look():
                return
            now = time.monotonic()
            if self._lines.seen > before:
                heard = now
            elif now - heard >= _SUSPICIOUS_SECONDS:
                if not self._is_alive():
                    return
                heard = now

    def _look(self) -> bool:
        """Show new output; return whether the job is still running."""
        found = self._persistently(
            _LOOK.format(
                job=self._job,
                output=self._output,
                line=self._lines.seen + 1,
                mark=shlex.quote(_MARK),
                pause=_LOOK_SECONDS * 10 // 4,
            )
        )
        _before, _mark, news = found["stdout"].replace("\r\n", "\n").partition(f"{_MARK}\n")
        if self._process is None:
            self._process = process(news.partition("\n")[0])
        for line in self._lines.take(news, time.monotonic()):
            display.display(line)
        return bool(found["rc"] == 0)

    def _is_alive(self) -> bool:
        """Whether the docker command is still running; assume so if its process is unknown."""
        if self._process is None:
            return True
        number, started = self._process
        look = f"""[ "$(cut -d' ' -f22 /proc/{number:d}/stat)" = {shlex.quote(str(started))} ]"""
        return bool(self._persistently(look)["rc"] == 0)

    def _persistently(self, command: str) -> _Result:
        """Run a command on the host, even if the connection breaks for a while.

        Raises AnsibleConnectionFailure if it does not come back.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._on_host(command)
            except AnsibleConnectionFailure as error:
                if time.monotonic() > deadline:
                    raise AnsibleConnectionFailure(
                        f"Lost the connection to {self._host}. The agent finishes what it has begun, and "
                        f"status.yml shows the outcome: {error}"
                    ) from error
                display.display(f"{self._host}: connection lost, retrying")
                time.sleep(5)

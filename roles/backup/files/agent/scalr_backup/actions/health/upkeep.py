# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the upkeep of the repositories: a check, a forget or a prune that failed, of the first or the second one."""

from __future__ import annotations

from collections.abc import Iterator

from scalr_backup.actions.health.finding import FAILURE, Cause, Finding, caused, playbook, verb
from scalr_backup.actions.repository.maintenance import CHECK, FORGET, OF_COPY, PRUNE
from scalr_backup.core.answers import JudgedCopy
from scalr_backup.core.config import Config
from scalr_backup.core.records.maintenance import MaintenanceRecord
from scalr_backup.core.records.state import StateRecord

# What turns a command for the first repository into the same for the second one, by how the command begins.
_OF_THE_COPY = {
    "ansible-playbook scalr.backup.check ": " -e from_copy=true",
    **{verb(name): " --copy" for name in ("forget", "prune", "unlock")},
}


def on_record(document: StateRecord, copy: JudgedCopy | None) -> dict[str, MaintenanceRecord]:
    """How each kind of upkeep last ended, without that of a second repository that is no longer the configured one."""
    return {
        kind: entry
        for kind, entry in sorted((document.get("maintenance") or {}).items())
        if not kind.startswith(OF_COPY) or (copy is not None and entry["repository"] == copy["repository"])
    }


def of_upkeep(config: Config, document: StateRecord, copy: JudgedCopy | None) -> Iterator[Finding]:
    """What a pass or a copy has reported of its own forget and prune is not reported again."""
    last_pass = document.get("last_pass")
    of_pass = last_pass["retention"]["error"] if last_pass else None
    of_copying = copy["error"] if copy else None
    for recorded, entry in on_record(document, copy).items():
        if entry["ok"]:
            continue
        kind = recorded.removeprefix(OF_COPY)
        is_of_copy = kind != recorded
        error = entry["error"]
        is_told = of_copying is not None and error == of_copying if is_of_copy else of_pass is not None
        if is_told and kind in {FORGET, PRUNE}:
            continue
        which = "second repository" if is_of_copy else "repository"
        message = f"The last {kind} of the {which} failed: {error['message'] if error else 'see the log'}"
        cause = _of_the_second(kind, entry, config) if is_of_copy else _of_the_first(kind, entry, config)
        yield Finding(f"{recorded}_failed", FAILURE, recorded, message, since=entry["time"], **cause)


def _of_the_first(kind: str, entry: MaintenanceRecord, config: Config) -> Cause:
    return caused(entry["error"], playbook("check" if kind == CHECK else "prune", config), config)


def _of_the_second(kind: str, entry: MaintenanceRecord, config: Config) -> Cause:
    """No playbook removes anything in a second repository: its host does."""
    again = playbook("check", config) if kind == CHECK else verb(kind)
    return of_the_copy(caused(entry["error"], again, config))


def of_the_copy(cause: Cause) -> Cause:
    """The same of the second repository: what the command does to the first one would help nobody."""
    command = cause["command"]
    option = next((option for begin, option in _OF_THE_COPY.items() if command.startswith(begin)), "")
    return {**cause, "command": f"{command}{option}"}

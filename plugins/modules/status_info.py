#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Show the backup status of a host
version_added: 0.1.0
description:
  - Returns for every database when it was last backed up and with what result, when the next pass starts, and what
    is wrong.
  - The module succeeds on an unhealthy host too; check RV(healthy).
options:
  history_days:
    description:
      - How many days of history to return as RV(history), up to 400.
      - V(0) returns none of it.
    type: int
    default: 0
    version_added: 0.3.0
  snapshots:
    description:
      - Whether to list the repository's snapshots too, as RV(snapshots).
      - A repository that does not answer is only a warning.
    type: bool
    default: false
    version_added: 0.4.0
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._attributes.info_module
  - scalr.backup._agent
seealso:
  - module: scalr.backup.database_info
  - module: scalr.backup.snapshot_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Get the backup status
  scalr.backup.status_info:
  register: status

- name: Do not migrate the database of a host whose backups fail
  ansible.builtin.assert:
    that: status.healthy
    fail_msg: "{{ status.summary }}"

- name: Get the last week's passes too
  scalr.backup.status_info:
    history_days: 7
  register: status
"""

RETURN = r"""
host:
  description: Name of the host in the repository.
  returned: success
  type: str
  sample: web1
repository:
  description: Where the backups go.
  returned: success
  type: str
  sample: s3:https://s3.example.com/backups
healthy:
  description: Whether everything is backed up as it should be.
  returned: success
  type: bool
  sample: true
verdict:
  description:
    - The state of the host in one word, V(safe), V(not_safe), V(incomplete) if it runs PostgreSQL that nothing
      backs up, V(waiting) for the first pass, or V(nothing_to_back_up).
  returned: success, from an agent of 0.4.0 or later
  type: str
  sample: safe
  version_added: 0.4.0
summary:
  description: The state of the host in one sentence.
  returned: success
  type: str
  sample: 7 databases, all backed up within the last day.
problems:
  description: What is wrong, one sentence each.
  returned: success
  type: list
  elements: str
  sample: []
findings:
  description:
    - What is wrong, or will be unless an operator acts, worst first. Each has its C(code), C(severity) (V(failure) or
      V(warning)), C(message), C(container), C(database), C(since), C(last_good), C(last_good_age_seconds), and in
      C(command) the next command to run.
    - If a failure is the cause, C(cause) is its code, C(reason) its sentence and C(remedy) the remedy for that
      code; otherwise all three are empty. C(help) is a link to more information.
    - An agent older than the collection is also a finding.
  returned: success
  type: list
  elements: dict
  version_added: 0.3.0
kept_databases:
  description:
    - Copies that restores left beside the live databases, as the last pass found them. They are not backed up. Each
      has its C(container), C(database), C(kept_since), C(size_bytes), and in C(command) the command that drops it.
  returned: success
  type: list
  elements: dict
  version_added: 0.4.0
unmatched:
  description:
    - PostgreSQL containers that are neither backed up nor deliberately excluded. Each has its C(name),
      C(image), C(state), in C(evidence) what identifies it as PostgreSQL, and in C(why) why it is left out.
  returned: success, from an agent of 0.4.0 or later
  type: list
  elements: dict
  version_added: 0.4.0
schedule:
  description: When passes are due, as a cron expression in the time zone of the host's configuration.
  returned: success
  type: str
  sample: 0 3 * * *
  version_added: 0.7.0
schedule_interval_seconds:
  description: Time between the last pass that was due and the next one.
  returned: success
  type: int
  sample: 86400
  version_added: 0.7.0
next_pass:
  description: When the next pass starts.
  returned: success
  type: str
  sample: "2026-11-23T03:00:00Z"
repository_growth:
  description:
    - How many bytes the repository grows per night, as C(bytes_a_night), which is negative if it shrinks, measured
      since C(since), at most two weeks ago. Null until two nights are on record.
  returned: success, from an agent of 0.7.0 or later
  type: dict
  version_added: 0.7.0
append_only:
  description: Whether the host only adds to its repository, so that only C(prune.yml) removes old snapshots.
  returned: success
  type: bool
  sample: false
  version_added: 0.2.0
last_pass:
  description: What the last pass did, as M(scalr.backup.database_backup) returns it, or null if there was none yet.
  returned: success
  type: dict
history:
  description:
    - One entry for each backup of a database, each pass, and each drill of a database, oldest first.
    - An agent older than the collection may keep no history, which results in a warning and an empty list.
  returned: when O(history_days) is not V(0)
  type: list
  elements: dict
  version_added: 0.3.0
  contains:
    kind:
      description: V(backup), V(pass) or V(drill).
      type: str
    time:
      description: When it ended.
      type: str
    started:
      description: When the pass started. Not for a drill.
      type: str
    run:
      description: The run.
      type: str
    reason:
      description: Why there was a pass, V(nightly) or V(manual). Not for a drill.
      type: str
    container:
      description: Name of the container. Not for a pass.
      type: str
    database:
      description: Name of the database. Not for a pass.
      type: str
    ok:
      description: Whether it succeeded.
      type: bool
    error:
      description: The code of what went wrong, or null.
      type: str
    seconds:
      description: How long the backup took.
      type: float
    bytes_read:
      description: Size of the dump.
      type: int
    bytes_added:
      description: How much of it was new to the repository.
      type: int
    bytes_stored:
      description: Size of that after compression.
      type: int
    bytes_ordered:
      description: How much of the dump is rows in the order of a key.
      type: int
      version_added: 0.7.0
    anew:
      description:
        - Why everything in the dump had to be new, or null. C(first) is the first backup of the database in its repository,
          C(order) one whose rows are in a different order than before.
      type: str
      version_added: 0.7.0
    rows:
      description: How many rows the dump holds, or null if they were not counted.
      type: int
    size_bytes:
      description: Size of the repository after the pass, or null if it was not measured.
      type: int
    snapshots:
      description: How many snapshots it held then, or null.
      type: int
    recovery_seconds:
      description: How long the drill took to restore the database, or null.
      type: float
    day:
      description:
        - The totals of all passes of that day, if the entry stands for all of them.
        - More than a week after a day with many passes, one entry per database is kept, and one for the passes.
      type: dict
      version_added: 0.7.0
snapshots:
  description: The host's snapshots, as M(scalr.backup.snapshot_info) returns them, or null if the repository did not answer.
  returned: when O(snapshots) is true
  type: list
  elements: dict
  version_added: 0.4.0
due_days:
  description:
    - How many passes were due on each date in the time zone of the schedule, since the current schedule was set.
    - Dates on which none was due are omitted.
  returned: when O(history_days) is not V(0)
  type: dict
  sample: {"2026-11-22": 24}
  version_added: 0.7.0
due_lately:
  description: When the passes of the last two days were due, at most the last hundred, if there are several a day; otherwise empty.
  returned: when O(history_days) is not V(0)
  type: list
  elements: str
  version_added: 0.7.0
timezone:
  description: The time zone of the host's schedule.
  returned: when O(history_days) is not V(0)
  type: str
  sample: Europe/Berlin
  version_added: 0.3.0
databases:
  description: The state of every database.
  returned: success
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container.
      type: str
      sample: scalr-shop-db
    database:
      description: Name of the database.
      type: str
      sample: shop
    ok:
      description: Whether the last attempt succeeded.
      type: bool
      sample: true
    last_success:
      description: When the database was last backed up, or null if never.
      type: str
      sample: "2026-11-22T03:00:11Z"
    age_seconds:
      description: How long ago that was.
      type: int
      sample: 36540
    snapshot_id:
      description: The snapshot that holds the last good backup.
      type: str
      sample: 5f0c8e1b4c7d
    bytes_read:
      description: Size of its dump.
      type: int
      sample: 204010923
    archive_unchecked:
      description:
        - Why the structure of the last good backup could not be checked, or null. It was written by a PostgreSQL that is newer
          than the agent, and only PostgreSQL's own programs have checked it.
      type: str
      version_added: 0.5.0
    count_error:
      description: Why the rows were not counted in the last good backup although they should have been, or null.
      type: str
      version_added: 0.4.0
    left_out:
      description:
        - Relations whose rows C(pg_dump) left out of the last good backup. Each has its C(relation), in C(why) the reason
          (C(extension), C(extension_filter), C(foreign_table), C(unlogged_on_standby) or C(system_schema)), the
          C(extension) it belongs to, and how many C(rows), or null if they were not counted.
      type: list
      elements: dict
      version_added: 0.5.0
    damaged_index:
      description:
        - An index that could not be used to read rows in order, because it returns a different number of rows than its
          table has, or null. It has the C(index), its C(table), the table's name in the row counts as C(relation), and the
          C(time) when a pass found this.
      type: dict
      version_added: 0.8.0
    new_data:
      description:
        - How much of the database's dumps was new to the repository, or null before its first backup. C(night) is its last
          whole night, a day in UTC, or null before the first; C(nights) has the last 14 on record. Each has C(time), C(dumps),
          C(bytes_read), C(bytes_added), C(bytes_stored), C(bytes_ordered), C(share), which is the new data relative to one
          dump, and C(anew) as in RV(history).
        - C(row_order) says in C(pays) whether ordering rows saves anything, and, once C(auto) has given up, in C(why_not) why,
          since when (C(given_up)), at which share (C(given_up_share)), and when it is C(tried_again).
      type: dict
      version_added: 0.7.0
    kept:
      description:
        - How many C(snapshots) the last retention kept, and in C(why) how many of them for which reason, such as
          C(daily) or C(pinned). Null if there was no retention yet.
      type: dict
      version_added: 0.3.0
    error:
      description: What went wrong in the last attempt, or null.
      type: dict
    drill:
      description:
        - What the last drill found, or null if there was none. A dictionary with C(ok), C(time), C(age_seconds),
          C(snapshot_id), C(recovery_seconds) and C(error).
      type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    VERSION,
    Agent,
    AgentError,
    call_or_fail,
    option,
)


def main() -> None:
    arguments: dict[str, Any] = {
        "history_days": {"type": "int", "default": 0},
        "snapshots": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=dict(AGENT_ARGUMENTS, **arguments), supports_check_mode=True)
    # That a host is not safe is an answer, returned in RV(healthy).
    changed, values = call_or_fail(module, "status", answers=("not_safe",))
    if module.params["history_days"]:
        values.update(_remembered(module, values))
    if module.params["snapshots"]:
        values["snapshots"] = _listed(module)
    found = values["findings"] if "findings" in values else _of_an_older_agent(values)
    values["findings"] = found + _outdated(values)
    module.exit_json(changed=changed, **values)


def _outdated(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with an agent that is older than the collection; the first ones did not tell their version."""
    found = values.get("agent_version")
    if found and _numbers(found) >= _numbers(VERSION):
        return []
    message = f"The agent is version {found or '0.2 or older'}, but the collection is {VERSION}."
    command = f"ansible-playbook scalr.backup.site --limit {values.get('host', '')}"
    return [_finding("agent_outdated", "warning", message, command)]


def _of_an_older_agent(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What an agent has found wrong that knows only sentences, and not what to do."""
    return [_finding("problem", "failure", message, "") for message in values.get("problems", [])]


def _finding(code: str, severity: str, message: str, command: str) -> dict[str, Any]:
    return {
        "code": code,
        "severity": severity,
        "topic": code,
        "message": message,
        "command": command,
        "container": "",
        "database": "",
        "since": None,
        "last_good": None,
        "last_good_age_seconds": None,
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".") if number.isdigit())


def _remembered(module: AnsibleModule, values: dict[str, Any]) -> dict[str, Any]:
    """What the agent remembers; one that does not know the question remembers nothing."""
    try:
        _changed, data = Agent(module).call("history", *option("days", module.params["history_days"]))
    except AgentError as error:
        if error.code is not None:
            module.fail_json(msg=str(error), code=error.code, **values)
        module.warn("The agent keeps no history, because it is older than this collection: run site.yml.")
        return {"history": [], "timezone": "UTC"}
    # An agent before 0.7.0 does not say what was due when.
    due: dict[str, Any] = {name: data[name] for name in ("due_days", "due_lately") if name in data}
    return {"history": data["entries"], "timezone": data["timezone"], **due}


def _listed(module: AnsibleModule) -> list[dict[str, Any]] | None:
    """The snapshots in the repository; None where it does not tell them, which is no reason to tell nothing else."""
    try:
        _changed, data = Agent(module).call("snapshots")
    except AgentError as error:
        module.warn(f"Cannot list the repository's snapshots: {error}")
        return None
    listed: list[dict[str, Any]] = data.get("snapshots", [])
    return listed


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice in the words of an agent that environment variables configure: there is no role, no playbook and no controller."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable

from scalr_backup.core.environment import FILE_VARIABLES, GENERATE, is_configured, is_setting

_APPLY = "docker compose up --detach"
_VERB = "docker exec scalr-backup scalr-backup"
_PLAYBOOK = re.compile(r"ansible-playbook scalr\.backup\.(\w+) --limit (?:'[^']*'|\S+)(?: -e db=(\S+))?")
# The verb that does on the host what a playbook does, and whether it takes a container.
_VERBS = {"backup": True, "check": False, "prune": False, "status": False}
# Whole clauses that are about the role, and what is true without it. The longer ones first.
_CLAUSES = (
    ("run site.yml, or docker compose up without Ansible", f"run {_APPLY}"),
    (
        "run docker ps on the host, then site.yml",
        "run docker ps on the host; if that works, DOCKER_GROUP in .env may not be the group of the socket, which "
        "stat -L -c %g /var/run/docker.sock prints",
    ),
    ("a first deployment with site.yml creates one, and so does scalr-backup init", "scalr-backup init creates one"),
    ("mount it writable; site.yml does both", "mount it writable, as compose.yaml does"),
    (
        "Set backup_socket_proxy to true, unless you have left it out on purpose",
        "Run the agent behind the proxy of compose.yaml, unless you have left it out on purpose",
    ),
    ("Set backup_socket_proxy to true, or find out", "Run the proxy of compose.yaml, or find out"),
    (
        "set backup_restic_image to 0.19 or newer",
        "set BACKUP_RESTIC_IMAGE to 0.19 or newer, and run docker compose build",
    ),
    ("recovery_kit.yml makes a page for the safe", f"{GENERATE} says where it is"),
    ("backup_environment or backup_env_file", "backup_environment"),
    ("(-e target=)", "(--target)"),
    ("with without_manifest=true", "with --without-manifest"),
    ("with read_data_subset", "with --read-data-subset"),
    ("run prune.yml,", "run scalr-backup prune,"),
    ("backup.yml", "scalr-backup backup"),
    ("check.yml", "scalr-backup check"),
    ("site.yml", _APPLY),
)
_CLAUSE = re.compile("|".join(re.escape(clause) for clause, _other in _CLAUSES), re.IGNORECASE)
_OTHERS = {clause.lower(): other for clause, other in _CLAUSES}
_VARIABLE = re.compile(r"\bbackup_[a-z_]+\b")


def words_here() -> Callable[[str], str]:
    """What turns the role's words into those of this agent: nothing, where a role has configured it."""
    return spoken if is_configured(os.environ) else str


def spoken(text: str) -> str:
    """A sentence or a command that names the role's variables and playbooks, in those of the environment and of Compose."""
    text = _CLAUSE.sub(lambda found: _like(found[0], _OTHERS[found[0].lower()]), text)
    return _VARIABLE.sub(lambda found: _named(found[0]), _PLAYBOOK.sub(_called, text))


def _like(before: str, after: str) -> str:
    """With a capital letter where a sentence begins."""
    return after[:1].upper() + after[1:] if before[:1].isupper() else after


def _called(found: re.Match[str]) -> str:
    playbook, container = found[1], found[2]
    if playbook not in _VERBS:
        return _APPLY if playbook == "site" else found[0]
    return f"{_VERB} {playbook}{f' --db {shlex.quote(container)}' if container and _VERBS[playbook] else ''}"


def _named(variable: str) -> str:
    """A setting is a variable in upper case, a secret a file; what is neither stays, such as a code."""
    name = variable.upper()
    file = FILE_VARIABLES.get(f"{name}_FILE")
    return f"secrets/{file}" if file else name if is_setting(name) else variable

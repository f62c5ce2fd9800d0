# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice for an agent that is configured by environment variables: there is no role, no playbook and no controller."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable

from scalr_backup.core.environment import FILE_VARIABLES, GENERATE, PUT_BACK, is_configured, is_setting

_APPLY = "docker compose up --detach"
_VERB = "docker exec scalr-backup scalr-backup"
_PLAYBOOK = re.compile(
    r"ansible-playbook scalr\.backup\.(\w+) --limit (?:'[^']*'|\S+)(?: -e db=(\S+))?( -e from_copy=true)?"
)
# The verb that does on the host what a playbook does, and whether it takes a container.
_VERBS = {"backup": True, "check": False, "prune": False, "status": False}
# How the playbook restores a snapshot; the verb has the same options.
_RESTORE = re.compile(r"(?<!\S)-e db=(\S+) -e snapshot=(?=\w)")
# Whole clauses that are about the role, and what is true without it. The longer ones first.
_CLAUSES = (
    (
        "correct the variable and run site.yml, or docker compose up without Ansible",
        f"do what the message says; after a change of a variable or a mount, run {_APPLY}",
    ),
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
    ("recovery_kit.yml generates a page for the safe", f"{GENERATE} says where it is"),
    (f"{GENERATE} generates one", PUT_BACK),
    (
        "the message says what was refused, and which variable to correct",
        "the message says what was refused, and what to correct",
    ),
    (
        "Run drill.yml from the controller, or the script drill in backup_directory on the host: both start the drill in a "
        "container that may",
        "Nothing drills on this host: the workflow drill.yml drills from its repository, in CI, or restore under another name "
        "with --database-as",
    ),
    ("drill it first (drill.yml)", "restore it under another name first (--database-as)"),
    (
        "run rotate_password.yml first, which gives it another one",
        "first add another one with scalr-backup key add, and put its password into secrets/password",
    ),
    ("backup_environment or backup_env_file", "backup_environment"),
    ("(-e target=)", "(--target)"),
    ("(target=)", "(--target)"),
    ("(safety_snapshot=false", "(--no-safety-snapshot"),
    ("keep_old=true", "--keep-old"),
    ("restore_strategy=replace", "--strategy replace"),
    ("strategy=replace", "--strategy replace"),
    ("with without_manifest=true (--without-manifest)", "with --without-manifest"),
    ("with without_manifest=true", "with --without-manifest"),
    ("with read_data_subset", "with --read-data-subset"),
    # On a host that only adds, prune.yml is another machine's.
    ("run prune.yml, or", "run scalr-backup prune, or"),
    ("backup.yml", "scalr-backup backup"),
    ("check.yml", "scalr-backup check"),
    ("site.yml", _APPLY),
)
# Neither a part of a name nor of a path, nor a name that a program has quoted.
_APART = r"(?<![\w\"'`/.:=@-])"
# A sentence may begin with it. All else is as it is written here: a variable in upper case has been translated already.
_EITHER = "|".join(f"(?i:{re.escape(clause[0])}){re.escape(clause[1:])}" for clause, _other in _CLAUSES)
_CLAUSE = re.compile(f"{_APART}(?:{_EITHER})")
_OTHERS = {clause.lower(): other for clause, other in _CLAUSES}
_VARIABLE = re.compile(rf"{_APART}backup_[a-z_]+\b(?![/@-]|\.\w)")


def words_here() -> Callable[[str], str]:
    """What turns the role's words into those of this agent: nothing, where a role has configured it."""
    return spoken if is_configured(os.environ) else str


def spoken(text: str) -> str:
    """A sentence or a command that names the role's variables and playbooks, in those of the environment and of Compose."""
    text = _CLAUSE.sub(lambda found: _like(found[0], _OTHERS[found[0].lower()]), text)
    text = _RESTORE.sub(r"--db \1 --snapshot ", _PLAYBOOK.sub(_called, text))
    return _VARIABLE.sub(lambda found: _named(found[0]), text)


def _like(before: str, after: str) -> str:
    """With a capital letter where a sentence begins."""
    return after[:1].upper() + after[1:] if before[:1].isupper() else after


def _called(found: re.Match[str]) -> str:
    playbook, container = found[1], found[2]
    if playbook not in _VERBS:
        return _APPLY if playbook == "site" else found[0]
    of_container = f" --db {shlex.quote(container)}" if container and _VERBS[playbook] else ""
    return f"{_VERB} {playbook}{of_container}{' --copy' if found[3] else ''}"


def _named(variable: str) -> str:
    """A setting is a variable in upper case, a secret a file; what is neither stays, such as a code."""
    name = variable.upper()
    file = FILE_VARIABLES.get(f"{name}_FILE")
    return f"secrets/{file}" if file else name if is_setting(name) else variable

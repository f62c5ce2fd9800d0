# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration as environment variables say it, where no role has written a file: its variables in upper case.

Nothing is judged here but names: what a value may be is decided where a file's values are, in config.py.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scalr_backup.core.address import objection
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.values import each_key_once

PREFIX = "BACKUP_"
PAGE = "docs/compose.md"
#: What generates a password where there is none.
GENERATE = "docker compose run --rm password"
#: What helps where there is none, since another password opens nothing of what was saved.
PUT_BACK = f"put your saved copy back; only a new installation may generate one with {GENERATE}"

# What a rule that is not set keeps, as the role has it.
_KEEP_NOTHING = dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), 0)
# An append-only host can still flood its repository: so recent snapshots stay regardless of the counts.
_KEEP_WITHIN_IF_APPEND_ONLY = "30d"
_ON = frozenset({"1", "true", "yes", "on", "y", "t"})
_OFF = frozenset({"0", "false", "no", "off", "n", "f", ""})


def _text(_name: str, value: str) -> str:
    return value


def _list(name: str, value: str) -> list[Any]:
    """A list, as JSON or with commas between."""
    if value.lstrip().startswith("["):
        # A list without its quotation marks would be one of globs that match nothing.
        return list(_decoded(name, value, list, _LIST_IN_JSON))
    return [item.strip() for item in value.split(",")] if value.strip() else []


def _mapping(name: str, value: str) -> dict[str, Any]:
    return dict(_decoded(name, value, dict, 'a mapping in JSON, such as {"daily": 30}'))


def _decoded(name: str, value: str, kind: type, wanted: str) -> Any:
    try:
        document = json.loads(value, object_pairs_hook=each_key_once(name))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, kind):
        raise ConfigurationError(f"{name} must be {wanted}.")
    return document


Reader = Callable[[str, str], Any]
# The agent's variables: the key of the configuration that each is, and how it is read. Numbers and switches stay text, which
# config.py reads as such.
_SETTINGS: Mapping[str, tuple[str, Reader]] = {
    "BACKUP_HOST": ("host", _text),
    "BACKUP_REPOSITORY": ("repository", _text),
    "BACKUP_REPOSITORY_ON_HOST_ACCEPTED": ("repository_on_host_accepted", _text),
    "BACKUP_CONTAINERS": ("containers", _list),
    "BACKUP_EXCLUDE": ("exclude", _list),
    "BACKUP_FILTER": ("filter", _text),
    "BACKUP_HOST_NAMESPACES_ACCEPTED": ("host_namespaces_accepted", _list),
    "BACKUP_CONNECTIONS": ("connections", _mapping),
    "BACKUP_REPORT_UNMATCHED": ("report_unmatched", _text),
    "BACKUP_ROW_COUNTS": ("row_counts", _text),
    "BACKUP_ROW_ORDER": ("row_order", _text),
    "BACKUP_ROW_ORDER_EXCEPT": ("row_order_except", _list),
    "BACKUP_SCHEDULE": ("schedule", _text),
    "BACKUP_TIMEZONE": ("timezone", _text),
    "BACKUP_SCHEDULE_SPREAD": ("spread_minutes", _text),
    "BACKUP_KEEP": ("keep", _mapping),
    "BACKUP_KEEP_WITHIN": ("keep_within", _text),
    "BACKUP_PRUNE_SCHEDULE": ("prune_schedule", _text),
    "BACKUP_CHECK_SCHEDULE": ("check_schedule", _text),
    "BACKUP_CHECK_WEEKS": ("check_weeks", _text),
    "BACKUP_PARALLEL": ("parallel", _text),
    "BACKUP_APPEND_ONLY": ("append_only", _text),
    "BACKUP_METRICS_PORT": ("metrics_port", _text),
    "BACKUP_METRICS_TEXTFILE": ("metrics_textfile", _text),
    "BACKUP_NOTIFY_EVENTS": ("notify_events", _list),
    "BACKUP_SHRINK_PERCENT": ("shrink_percent", _text),
    "BACKUP_DUMP_SIZE_FACTOR": ("dump_size_factor", _text),
    "BACKUP_NEARLY_FULL_PERCENT": ("nearly_full_percent", _text),
    "BACKUP_PASS_HOURS": ("pass_hours", _text),
    "BACKUP_LOCK_HOURS": ("lock_hours", _text),
}
# Those that decide a key together with others (_put_together).
_TOGETHER = ("BACKUP_COPY_REPOSITORY", "BACKUP_COPY_KEEP")
# The secrets: what each is a file of, by its name in the directory of the secrets.
_SECRETS: Mapping[str, str] = {
    "BACKUP_PASSWORD": "password",
    "BACKUP_ENVIRONMENT": "environment",
    "BACKUP_SSH_PRIVATE_KEY": "ssh_private_key",
    "BACKUP_SSH_KNOWN_HOSTS": "ssh_known_hosts",
    "BACKUP_CA_CERTIFICATE": "ca_certificate",
    "BACKUP_COPY_PASSWORD": "copy_password",
    "BACKUP_COPY_ENVIRONMENT": "copy_environment",
    "BACKUP_NOTIFY": "notify",
    "BACKUP_HEARTBEAT_URL": "heartbeat",
}
# Those that mean no backups, or no notifications, when empty, and what to do instead.
_MUST_HOLD: Mapping[str, str] = {
    "BACKUP_CONTAINERS": (
        "no container would be backed up by name: list containers or globs, or leave it out. To rely on the label "
        "scalr.backup=true alone, list a container that does not exist, such as labels-only"
    ),
    "BACKUP_KEEP": 'no snapshot would be kept: set counts, such as {"daily": 30}, or leave it out',
    "BACKUP_NOTIFY_EVENTS": "nobody would be notified: list events, or leave it out",
}
_NOTHING = ("", "[]", "{}")
_BLANKS = re.compile(r"\s+")
_LIST_IN_JSON = 'a list in JSON where it begins with [: a glob such as [a-z]*-db is ["[a-z]*-db"]'
# What compose.yaml itself makes something of; the agent sees it in the same file, and passes over it.
OF_COMPOSE = frozenset(
    {
        "BACKUP_APT_SNAPSHOT",
        "BACKUP_BASE_IMAGE",
        "BACKUP_CPUS",
        "BACKUP_DIRECTORY",
        "BACKUP_IMAGE",
        "BACKUP_MEMORY",
        "BACKUP_RESTIC_IMAGE",
    }
)
_NO_DRILL = "nothing drills on this host; the workflow drill.yml drills from its repository, in CI"
_NO_PRUNE = "prune.yml removes the snapshots of a host that only adds, from another machine"
# What only the role can do, and what there is instead.
OF_ROLE: Mapping[str, str] = {
    "BACKUP_STATE": "docker compose down removes the agent",
    "BACKUP_EXTRA_VARIABLES": "only Ansible has variables other than the role's",
    "BACKUP_PASSWORD_DIRECTORY": f"there is no controller; {GENERATE} generates a password on this host",
    "BACKUP_ESCROW_PASSWORD": "scalr-backup key add adds a second password",
    "BACKUP_ENV_FILE": "name a file of the store's variables in BACKUP_ENVIRONMENT_FILE",
    "BACKUP_PRUNE_FROM": _NO_PRUNE,
    "BACKUP_PRUNE_REPOSITORY": _NO_PRUNE,
    "BACKUP_PRUNE_ENVIRONMENT": _NO_PRUNE,
    "BACKUP_PRUNE_PASSWORD": _NO_PRUNE,
    "BACKUP_DRILL": _NO_DRILL,
    "BACKUP_DRILL_DAY": _NO_DRILL,
    "BACKUP_DRILL_TIME": _NO_DRILL,
    "BACKUP_DRILL_ASSERTIONS": _NO_DRILL,
    "BACKUP_DRILL_OVERDUE_DAYS": _NO_DRILL,
    "BACKUP_METRICS_PUBLISH": "set BACKUP_METRICS_PORT, and publish that port in the compose file",
    "BACKUP_NOTIFY_TEST": "scalr-backup notify --test sends a test message",
    "BACKUP_FLEET_NAME": "it is for the page that status.yml writes",
    "BACKUP_SOCKET_PROXY": "the compose file decides what access the agent has to Docker",
    "BACKUP_ENGINE_SOCKET": "set DOCKER_SOCKET, which the compose file reads",
    "BACKUP_IMAGE_FROM": "docker compose build or docker compose pull gets the image",
    "BACKUP_IMAGE_ID": "name the image by its digest in BACKUP_IMAGE",
    "BACKUP_UPGRADE_WAIT": "docker compose up gives a running pass two minutes to end",
}
# Credentials as restic takes them from its own environment, which the agent's is not.
_OF_STORES = ("AWS_", "AZURE_", "B2_", "GOOGLE_", "OS_", "RCLONE_", "RESTIC_", "ST_")

# Those that the role takes from the inventory, or from another variable.
_NOT_OF_ROLE = frozenset({"BACKUP_HOST", "BACKUP_METRICS_PORT"})

AGENT_VARIABLES = (*_SETTINGS, *_TOGETHER)
FILE_VARIABLES: Mapping[str, str] = {f"{name}_FILE": file for name, file in _SECRETS.items()}


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether the environment has a variable that is for the agent, or looks like one."""
    return any(name.startswith(PREFIX) and name not in OF_COMPOSE for name in environment)


def settings_of(environment: Mapping[str, str]) -> dict[str, Any]:
    """The configuration document that the variables say, as the role would have written it to a file.

    Raises ConfigurationError for the first variable that nobody knows, that does not belong there, or that is no JSON.
    """
    for name in sorted(environment):
        if name.startswith(PREFIX):
            _refuse_unknown(name)
        elif name.upper().startswith(PREFIX):
            # As the role has it: passed over, it would look as if it counted.
            _refuse_unknown(name.upper())
            raise ConfigurationError(f"The agent does not know the variable {name}: did you mean {name.upper()}?")
        elif name.startswith(_OF_STORES):
            raise ConfigurationError(
                f"{name} is in the environment, which docker inspect shows and restic does not get: move it to the file "
                f"environment beside the password, a line NAME=VALUE each ({PAGE})."
            )
    given = {name: environment[name] for name in AGENT_VARIABLES if name in environment}
    if not given.get("BACKUP_HOST", "").strip():
        raise ConfigurationError(
            "BACKUP_HOST is not set: give this host a name of its own, which its snapshots have for good."
        )
    _refuse_values(given)
    settings = {key: read(name, given[name]) for name, (key, read) in _SETTINGS.items() if name in given}
    return _put_together(settings, given)


def _refuse_unknown(name: str) -> None:
    if name in AGENT_VARIABLES or name in FILE_VARIABLES or name in OF_COMPOSE:
        return
    if name in _SECRETS:
        raise ConfigurationError(
            f"{name} is a secret, and docker inspect would show it: put it into the file {_SECRETS[name]} beside the "
            f"password, or name another file in {name}_FILE ({PAGE})."
        )
    if name in OF_ROLE:
        raise ConfigurationError(f"{name} is for the Ansible role only: {OF_ROLE[name]}.")
    known = [one.removeprefix(PREFIX) for one in (*AGENT_VARIABLES, *FILE_VARIABLES, *OF_COMPOSE)]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=0.75)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else f"{PAGE} lists those that it knows."
    raise ConfigurationError(f"The agent does not know the variable {name}: {hint}")


def _refuse_values(given: Mapping[str, str]) -> None:
    """Refuse what the role refuses before the agent sees it: values that mean no backups, and passwords in addresses."""
    for name, consequence in _MUST_HOLD.items():
        if _BLANKS.sub("", given.get(name, "x")) in _NOTHING:
            raise ConfigurationError(f"{name} is empty, so {consequence}.")
    if any(set(item) == {"*"} for item in map(str, _list("BACKUP_EXCLUDE", given.get("BACKUP_EXCLUDE", "")))):
        raise ConfigurationError(
            "BACKUP_EXCLUDE is *, which excludes every container: list only the containers to exclude."
        )
    for name in ("BACKUP_REPOSITORY", "BACKUP_COPY_REPOSITORY"):
        file = f"the file {_SECRETS[name.replace('REPOSITORY', 'ENVIRONMENT')]} beside the password"
        if refused := objection(name, given.get(name), file):
            raise ConfigurationError(refused)


def _put_together(settings: dict[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The keys that follow from several variables, as the role derives them."""
    document = {"repository": "/repository", **settings}
    keep = document.get("keep", {"daily": 30, "weekly": 4, "monthly": 6})
    document["keep"] = _KEEP_NOTHING | keep
    if not document.get("keep_within") and _is_on(given, "BACKUP_APPEND_ONLY"):
        document["keep_within"] = _KEEP_WITHIN_IF_APPEND_ONLY
    if document.get("spread_minutes") == "":
        del document["spread_minutes"]
    # No database is overdue where nothing drills.
    document["drill_overdue_days"] = 0
    rules = _mapping("BACKUP_COPY_KEEP", given["BACKUP_COPY_KEEP"]) if given.get("BACKUP_COPY_KEEP") else {}
    if copy := given.get("BACKUP_COPY_REPOSITORY"):
        document["copy"] = {"repository": copy, "keep": _KEEP_NOTHING | (rules or keep)}
    return document


def _is_on(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "").strip().lower()
    if value not in _ON | _OFF:
        raise ConfigurationError(f"{name} must be true or false.")
    return value in _ON


def is_setting(name: str) -> bool:
    """Whether a variable of the role, in upper case, is one of the environment too: the agent's, or the compose file's."""
    return name in AGENT_VARIABLES or name in OF_COMPOSE


def role_variable_of(key: str) -> str:
    """The variable of the role that says a key of the configuration; of a key that no variable says alone, the key itself."""
    if key.startswith("copy."):
        return f"{PREFIX.lower()}copy_{key.removeprefix('copy.')}"
    whole, dot, part = key.partition(".")
    variable, _within = variable_of(whole)
    return f"{variable.lower()}{dot}{part}" if variable in AGENT_VARIABLES and variable not in _NOT_OF_ROLE else key


def variable_of(key: str) -> tuple[str, str]:
    """The variable that says a key of the configuration, and which part of its value: ``daily: `` for ``keep.daily``."""
    if key == "copy.repository":
        return "BACKUP_COPY_REPOSITORY", ""
    whole, _dot, part = key.removeprefix("copy.").partition(".")
    within = f"{part}: " if part else ""
    if key.startswith("copy.keep"):
        return "BACKUP_COPY_KEEP", within
    names = {one: name for name, (one, _read) in _SETTINGS.items()}
    return names.get(whole, "The environment"), within


def secret_file(environment: Mapping[str, str], name: str) -> Path | None:
    """Where a variable says that a secret is, by its name among the secrets; None where none does.

    Raises ConfigurationError when there is no such file.
    """
    variable = next(one for one, file in FILE_VARIABLES.items() if file == name)
    if not (said := environment.get(variable)):
        return None
    path = Path(said)
    try:
        is_file = path.is_file()
    except OSError as error:
        raise ConfigurationError(f"{variable} is {said}, which cannot be read: {error.strerror} ({PAGE}).") from None
    if not is_file:
        raise ConfigurationError(f"{variable} is {said}, but the container has no such file: mount it there.")
    return path

"""The compose file as Docker Compose reads it, and what it says in the words of ``docker_container``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def variables() -> set[str]:
    """The variables that the file takes out of .env."""
    return {match[1] for match in _VARIABLE.finditer(FILE.read_text())}


def compose(given: Mapping[str, str]) -> dict[str, Any]:
    """The file with these variables; one that has to be given and is not is a KeyError."""

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        return given[name] if kind == "?" or name in given else default or ""

    return filled(yaml.safe_load(FILE.read_text()), value)


def filled(node: Any, value: Any) -> Any:
    """A part of the document with its variables replaced."""
    if isinstance(node, dict):
        return {key: filled(one, value) for key, one in node.items()}
    if isinstance(node, list):
        return [filled(one, value) for one in node]
    return _VARIABLE.sub(value, node) if isinstance(node, str) else node


# What each field of a service is called by docker_container.
_NAMES = {
    "cap_drop": "cap_drop",
    "command": "command",
    "container_name": "name",
    "cpu_shares": "cpu_shares",
    "cpus": "cpus",
    "entrypoint": "entrypoint",
    "environment": "env",
    "group_add": "groups",
    "hostname": "hostname",
    "image": "image",
    "init": "init",
    "mem_limit": "memory",
    "network_mode": "network_mode",
    "pids_limit": "pids_limit",
    "read_only": "read_only",
    "restart": "restart_policy",
    "security_opt": "security_opts",
    "stop_signal": "stop_signal",
    "tmpfs": "tmpfs",
    "volumes": "volumes",
}


def as_docker_container(document: Mapping[str, Any], service: str) -> dict[str, Any]:
    """A service in the words of the module; a field that nobody has thought of stays under its own name."""
    told = dict(document["services"][service])
    found = {_NAMES[field]: told.pop(field) for field in list(told) if field in _NAMES}
    if "stop_grace_period" in told:
        found["stop_timeout"] = int(told.pop("stop_grace_period").removesuffix("s"))
    if "healthcheck" in told:
        assert told.pop("healthcheck") == {"disable": True}
        found["healthcheck"] = {"test": ["NONE"]}
    logging = told.pop("logging", None)
    if logging:
        found |= {"log_driver": logging["driver"], "log_options": logging["options"]}
    if "cpus" in found:
        found["cpus"] = float(found["cpus"])
    names = {volume: told_of["name"] for volume, told_of in document["volumes"].items()}
    found["volumes"] = [
        ":".join([names.get(source, source), *rest])
        for source, *rest in (mount.split(":") for mount in found["volumes"])
    ]
    return found | {f"compose: {field}": value for field, value in told.items()}

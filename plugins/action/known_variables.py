# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses variables that no playbook and no role of the collection knows, before anything is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.scalr.backup.plugins.plugin_utils._variables import (
    LOOKED_AT,
    PLAYBOOKS,
    SERIAL,
    WITH_E_ONLY,
    Known,
    from_inventory,
    names_used,
    playbooks_alone,
    refuse_extra,
    refuse_unknown_of_host,
    refuse_values_of_host,
)

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # Before ansible-core 2.19, a string itself has its position.
    Origin = None

_COLLECTION = Path(__file__).resolve().parents[2]
_ROLES = ("backup", "docker", "monitoring")
# Among a host's variables, but not the operator's.
_NO_VARIABLES = ("ansible_facts", "hostvars", "vars", "groups", "group_names", "omit", "playbook_dir", "role_path")


class ActionModule(ActionBase):
    """The extra variables of a playbook, or what a host has for a role."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with a sentence for each variable that makes no sense."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, wanted = self.validate_argument_spec(
            {"playbook": {"type": "str", "choices": sorted(PLAYBOOKS)}, "role": {"type": "str", "choices": _ROLES}},
            required_one_of=[("playbook", "role")],
            mutually_exclusive=[("playbook", "role")],
        )
        variables = task_vars or {}
        if wanted["playbook"]:
            extra = load_extra_vars(self._loader)
            refused, warnings = self._refuse_of_playbook(wanted["playbook"], extra, variables)
            result |= {"given": sorted(WITH_E_ONLY & set(extra)), "warnings": warnings}
        else:
            refused = self._refuse_of_host(wanted["role"], variables)
        if refused:
            return {**result, "failed": True, "msg": f"{' '.join(refused)} Nothing was done."}
        return {**result, "changed": False}

    def _refuse_of_playbook(
        self, playbook: str, extra: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> tuple[list[str], list[str]]:
        """Sentences that refuse, and sentences that only warn."""
        of_hosts = {host: variables["hostvars"].raw_get(host) for host in variables["ansible_play_hosts_all"]}
        hosts = list(of_hosts.values())
        known = Known(
            own=PLAYBOOKS[playbook],
            roles=self._options_of(_ROLES),
            used=set().union(*map(_used_in, [extra, *hosts])),
            others=self._names_of_others(variables),
        )
        elsewhere = {name: hosts[0][name] for name in known.own if name in hosts[0] and name not in extra}
        refused = refuse_extra(playbook, extra, known, alone=_is_alone(), elsewhere=elsewhere)
        unwanted, warnings = from_inventory(playbook, extra.keys(), of_hosts)
        return [*refused, *unwanted], warnings

    def _refuse_of_host(self, role: str, variables: Mapping[str, Any]) -> list[str]:
        options = self._options_of([role])
        known = Known(
            # Extra variables of the playbook are variables of its hosts, too.
            own=SERIAL,
            roles=self._options_of(_ROLES),
            used=_used_in(variables) | names_within(_COLLECTION / "roles" / role, self._loader),
            others=self._names_of_others(variables),
        )
        own = {name: variables[name] for name in sorted(options) if name in variables}
        mappings = sorted(name for name, option in options.items() if option.get("type") == "dict")
        # A text may be a template that makes a mapping.
        texts = [name for name in mappings if isinstance(own.get(name), str)]
        own |= {name: self._templar.template(own[name]) for name in (*LOOKED_AT, *texts) if own.get(name) is not None}
        return [
            *refuse_unknown_of_host(role, variables, known, _origins(variables)),
            *refuse_values_of_host(own, mappings),
        ]

    def _options_of(self, roles: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The variables of some roles, of all their entry points, and what is documented of each."""
        options: dict[str, Mapping[str, Any]] = {}
        for role in roles:
            specs = self._loader.load_from_file(str(_COLLECTION / f"roles/{role}/meta/argument_specs.yml"))
            for entry in specs["argument_specs"].values():
                options |= entry.get("options", {})
        return options

    def _names_of_others(self, variables: Mapping[str, Any]) -> Collection[str]:
        """What the operator claims as their own, by name or glob."""
        named = self._templar.template(variables.get("backup_extra_variables") or [])
        return [name.strip() for name in (named.split(",") if isinstance(named, str) else named)]


def names_within(role: Path, loader: DataLoader) -> set[str]:
    """A role's internal variables, which nobody sets but everybody sees while it runs, from the files that Ansible reads."""
    files = loader.find_vars_files(str(role / "vars"), "main")
    return {name for file in files for name in loader.load_from_file(file) or ()}


def _is_alone() -> bool:
    """Whether only playbooks of the collection run."""
    arguments = [str(argument) for argument in context.CLIARGS.get("args") or ()]
    paths = [
        argument if argument.startswith("scalr.backup.") else str(Path(argument).resolve()) for argument in arguments
    ]
    return playbooks_alone(paths, str(_COLLECTION / "playbooks"))


def _used_in(variables: Mapping[str, Any]) -> set[str]:
    """The names used in the templates of some variables, except a role's internal ones."""
    return set().union(
        *(
            names_used(value)
            for name, value in variables.items()
            if name not in _NO_VARIABLES and not name.startswith("__")
        )
    )


def _origins(variables: Mapping[str, Any]) -> dict[str, str]:
    """The file and the line that each variable was read from, if Ansible knows."""
    return {str(name): where for name in variables if (where := _origin(name))}


def _origin(name: object) -> str | None:
    """Where a name was read from. How Ansible says so depends on its version."""
    if Origin is not None:
        origin = Origin.get_tag(name)
        return f"{origin.path}:{origin.line_num}" if origin and origin.path and origin.line_num else None
    path, line, _column = getattr(name, "ansible_pos", (None, None, None))
    return f"{path}:{line}" if path and line else None

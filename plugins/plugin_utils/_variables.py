# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which variables the playbooks and the roles know, and what to say about all others. Decisions only.

Ansible ignores a misspelled variable: ``restore.yml -e databse=shop`` would restore every database of the container. So a
playbook rejects unknown variables before it does anything.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.scalr.backup.plugins.module_utils._address import objection
from ansible_collections.scalr.backup.plugins.module_utils._together import PLAYBOOKS as TOGETHER
from ansible_collections.scalr.backup.plugins.module_utils._together import Rules, objections
from ansible_collections.scalr.backup.plugins.plugin_utils._page_file import PageError, parse_mode

# The kind of value that a playbook's variable takes.
TEXT, NAME, LIST, FLAG, MAPPING = "text", "name", "list", "flag", "mapping"

_SOURCE = {
    "from_host": TEXT,
    "from_repository": TEXT,
    "from_password": TEXT,
    "from_environment": MAPPING,
    "from_copy": FLAG,
}
#: How many hosts at a time: of the playbooks that can go through the hosts in batches.
SERIAL: Mapping[str, str] = {"backup_serial": TEXT}
#: The extra variables of each playbook. A test compares them with what the playbooks use.
PLAYBOOKS: Mapping[str, Mapping[str, str]] = {
    "backup": {"db": LIST, "extra_tags": LIST, "tags": LIST, **SERIAL},
    "check": {"read_data_subset": TEXT, "from_copy": FLAG, **SERIAL},
    "drill": {"db": LIST, "database": TEXT, "snapshot": TEXT, "image": TEXT, **_SOURCE},
    "prune": {"remove": LIST, "accept_late": FLAG, "read_all": FLAG, **SERIAL},
    "recovery_kit": {"kit": TEXT, "with_credentials": FLAG, "replace": FLAG, "escrow": FLAG},
    "restore": {
        "db": NAME,
        "database": TEXT,
        "snapshot": TEXT,
        "target": NAME,
        "database_as": TEXT,
        "restore_strategy": TEXT,
        "strategy": TEXT,
        "keep_old": FLAG,
        "safety_snapshot": FLAG,
        "without_manifest": FLAG,
        "on_error": TEXT,
        "confirm": TEXT,
        "undo": TEXT,
        **_SOURCE,
    },
    "rotate_password": {"new_password": TEXT, "keep_old": FLAG, "gone": LIST},
    "site": {**SERIAL},
    "status": {"report": TEXT, "report_mode": TEXT},
}
#: What every playbook knows besides its own.
EVERYWHERE = {"backup_hosts": TEXT, "backup_extra_variables": LIST}
#: Words that inventories use, too, and clouds' inventory plugins set by themselves: these count only with ``-e``.
WITH_E_ONLY = frozenset(
    {"confirm", "database", "db", "image", "remove", "replace", "snapshot", "strategy", "tags", "target", "undo"}
)
# What is overwritten or removed must not depend on whether somebody has read a warning.
_REFUSE_OTHERS = frozenset({"prune", "restore"})
#: What each is for; where playbooks differ, under ``playbook.name``.
MEANINGS: Mapping[str, str] = {
    "accept_late": "trust snapshots that appeared late",
    "backup_extra_variables": "names or globs of your own variables that must not be rejected",
    "backup_hosts": "run on this group of the inventory only",
    "backup_serial": "how many hosts at a time",
    "backup.db": "a container or a glob, or several; default all",
    "confirm": "answers the question beforehand: the container's name",
    "database": "one database of the container; default all",
    "database_as": "restore it under this name",
    "drill.db": "a container or a glob, or several; default all",
    "drill.snapshot": "which snapshot to restore, by time, id, run or tag; default the newest",
    "escrow": "`false`: no second password; the page shows the hosts' own, and becomes invalid when that changes",
    "extra_tags": "additional tags for the snapshots; `pinned` keeps them forever",
    "from_copy": "use the second repository",
    "from_environment": "the credentials of that repository's store",
    "from_host": "the host that made the snapshots",
    "from_password": "the password of that repository",
    "from_repository": "use this repository instead of the host's",
    "gone": "hosts, separated by commas, that have snapshots in a shared repository but no longer exist",
    "image": "the image to restore into; default the source's",
    "keep_old": "keep the replaced database under another name, for `undo`",
    "kit": "where to write the page; required",
    "new_password": "the password to change to; best passed in a vaulted file",
    "on_error": "`skip`: leave out objects that cannot be restored, never rows; default `stop`",
    "read_all": "read every file of the repository again, not only what is new",
    "read_data_subset": "how much data to read back, such as `5%` or `2G`",
    "remove": "ids of one host's snapshots to remove, regardless of the rules",
    "replace": "revoke the passwords of older pages, once the new page is written",
    "report": "where to write a page about the fleet",
    "report_mode": "who can read that page; default `0600`",
    "restore_strategy": "`replace`: drop the live database first, if there is no space for both; default `beside`",
    "restore.db": "the container; required, except with `undo`",
    "restore.snapshot": "which snapshot, by time, id, run or tag; default the newest good one of each database",
    "rotate_password.keep_old": "the old password keeps opening the repository",
    "safety_snapshot": "`false`: do not back up what is replaced",
    "target": "restore into this container instead",
    "undo": "swap back what this run replaced and kept",
    "with_credentials": "put the store's credentials on the page, too",
    "without_manifest": "ignore a manifest that cannot be read",
}
#: Words that Ansible reserves and warns about. They still work, but are not advertised.
OLD_NAMES = frozenset({"tags", "strategy"})
#: Facts that playbooks record under names with the role's prefix. A test compares them.
NOTED = frozenset(
    {
        "backup_known",
        "backup_result",
        "backup_rows",
        "backup_has_none",
        "backup_failure",
        "backup_outcome",
        "backup_notes",
    }
)

# From Ansible itself, from its launchers (AWX, Automation Controller, Semaphore), and from vaults by convention.
_OF_OTHERS = ("ansible_*", "awx_*", "tower_*", "semaphore_*", "vault_*")
_ROLE = "backup_"
_TEMPLATE = re.compile(r"\{\{|\{%")
_WORD = re.compile(r"[A-Za-z_]\w*")
_GLOB = re.compile(r"[*?\[\]]")
# Empty values, as a command line turns them into strings.
_NOTHING = ("", "[]", "{}", "None", "none", "null", "~")


@dataclass(frozen=True)
class Known:
    """The known names: a playbook's own variables, the roles', and those of others.

    *used* are the names that the inventory's own templates mention, *others* globs over names that the operator claims
    as their own.
    """

    own: Mapping[str, str] = field(default_factory=dict)
    roles: Collection[str] = ()
    used: Collection[str] = ()
    others: Collection[str] = ()

    def has(self, name: str) -> bool:
        """Whether a variable is known."""
        return (
            name in self.own
            or name in EVERYWHERE
            or name in self.roles
            or name in NOTED
            or name in self.used
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in (*_OF_OTHERS, *self.others))
        )

    def nearest(self, name: str, least: int = 0) -> str | None:
        """The known name that a misspelled one probably means.

        The number of errors allowed depends on its length; with *least*, a guess is good enough.
        """
        names = {*self.own, *EVERYWHERE, *self.roles} - OLD_NAMES
        candidates = []
        for known in sorted(names):
            wanted, found = _bare(known), _bare(name)
            allowed = max(least, min(len(wanted), len(found)) // 4)
            lacks_only_the_prefix = least > 0 and wanted == _bare(_ROLE) + found
            distance = 0 if lacks_only_the_prefix else _distance(wanted, found, allowed)
            if distance <= allowed:
                candidates.append((distance, known))
        return min(candidates)[1] if candidates else None


def refuse_extra(
    playbook: str, given: Mapping[str, Any], known: Known, *, alone: bool, elsewhere: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with a playbook's extra variables, one sentence each.

    If another playbook runs too (not *alone*), a variable may belong to that, unless it looks like one of ours.
    *elsewhere* are variables from the inventory, which the playbook also uses, except those that count only with ``-e``.
    """
    elsewhere = {name: value for name, value in (elsewhere or {}).items() if name not in WITH_E_ONLY}
    unknown = [name for name in given if not known.has(name)]
    refused = [name for name in unknown if alone or name.startswith(_ROLE) or known.nearest(name)]
    sentences = [_unknown_extra(playbook, name, known) for name in refused]
    own = {name: value for name, value in given.items() if name in known.own or name in EVERYWHERE}
    kinds = {**EVERYWHERE, **known.own}
    sentences += [sentence for name, value in own.items() if (sentence := _wrong_value(name, value, kinds[name]))]
    values = {**elsewhere, **own}
    sentences += filter(None, [objection(name, values.get(name)) for name in ADDRESSES])
    sentences += filter(None, [_wrong_mode(name, values[name]) for name in ("report_mode",) if name in values])
    if sentences:
        return sentences
    inherited = {name: value for name, value in elsewhere.items() if name in known.own and not is_nothing(value)}
    effective = {name: _switch(value) if kinds[name] == FLAG else value for name, value in (inherited | own).items()}
    # A switch set to its default counts as not set.
    told = {
        name: value for name, value in effective.items() if value is not (name in _ON_BY_DEFAULT) or kinds[name] != FLAG
    }
    return list(objections(TOGETHER.get(playbook, Rules()), told))


def from_inventory(
    playbook: str, given: Collection[str], hosts: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Which of the *hosts*' variables a playbook takes only with ``-e``: sentences that refuse, and that warn.

    *given* are the names of the extra variables. What cannot be meant for the playbook is ignored without a word.
    """
    sentences = []
    for name in sorted(WITH_E_ONLY & set(PLAYBOOKS[playbook]) - set(given)):
        where = [host for host, variables in hosts.items() if _may_be_meant(name, variables.get(name))]
        if where:
            sentences.append(
                f"{name} comes from the inventory (host {where[0]}), but {playbook}.yml takes it only with -e"
            )
    if playbook in _REFUSE_OTHERS:
        return [f"{sentence}: pass it there, or use another name in the inventory." for sentence in sentences], []
    return [], [f"{sentence}: it is ignored." for sentence in sentences]


def _may_be_meant(name: str, value: Any) -> bool:
    """Whether somebody can have set it for the playbook. Clouds have mappings and lists of tags for each host."""
    return not is_nothing(value) and not isinstance(value, Mapping) and (name != "tags" or isinstance(value, str))


# Switches that are on by default; all others are off.
_ON_BY_DEFAULT = ("safety_snapshot", "escrow")


def _switch(value: Any) -> Any:
    """A switch as a boolean, or its raw value if it is not one."""
    try:
        return boolean(value)
    except TypeError:
        return value


def _unknown_extra(playbook: str, name: str, known: Known) -> str:
    sentence = f"{playbook}.yml does not know the variable {name}"
    if near := known.nearest(name, least=1):
        return f"{sentence}: did you mean {near}?"
    own = sorted(set(known.own) - OLD_NAMES)
    knows = f"it knows {', '.join(own)} and the variables of the roles" if own else "it knows only those of the roles"
    return f"{sentence}: {knows}. If {name} is your own variable, add it to backup_extra_variables."


def _wrong_value(name: str, value: Any, kind: str) -> str | None:
    """Why a value makes no sense; an empty one would mean everything, or nothing."""
    if is_nothing(value):
        # An empty confirmation is a wrong one, and is reported as such.
        return None if name == "confirm" else f"{name} is empty: give it a value, or leave it out."
    if kind == FLAG and not isinstance(_switch(value), bool):
        return f"{name} is {value}, but must be true or false."
    if kind == LIST and any(is_nothing(item) for item in _items(value)):
        return f"{name} has an empty item: remove it."
    if kind == NAME and isinstance(value, str) and _GLOB.search(value):
        return f"{name} is {value}, but globs are not allowed here: name one container."
    return _wrong_form(name, value, kind)


def _wrong_form(name: str, value: Any, kind: str) -> str | None:
    if kind == MAPPING and not isinstance(value, Mapping):
        return _no_mapping(name)
    if kind in (TEXT, NAME) and not isinstance(value, (str, int, float)):
        return f"{name} must be a single value, not a {'mapping' if isinstance(value, Mapping) else 'list'}."
    return None


def _no_mapping(name: str) -> str:
    """Without the value, which may be secret."""
    example = '{"daily": 7}' if name.endswith("keep") else '{"NAME": "value"}'
    return (
        f"{name} is not a mapping: with -e, pass JSON, such as -e '{{\"{name}\": {example}}}', or a file, as -e @FILE."
    )


def _wrong_mode(name: str, value: Any) -> str | None:
    """Why the permissions of a file are none; what a template makes of it is seen where it is used."""
    if is_nothing(value) or names_used(value):
        return None
    try:
        parse_mode(name, value)
    except PageError as error:
        return str(error)
    return None


def is_nothing(value: Any) -> bool:
    """Whether a value is empty, however it was written."""
    if isinstance(value, str):
        return value.strip() in _NOTHING
    return value is None or (isinstance(value, (list, tuple, Mapping)) and not value)


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",")
    return list(value) if isinstance(value, (list, tuple)) else [value]


def refuse_unknown_of_host(
    role: str, names: Iterable[str], known: Known, origins: Mapping[str, str] | None = None
) -> list[str]:
    """Which of a host's variables look like a role's but are unknown, one sentence each.

    Everything that begins with ``backup_`` is considered ours. The prefixes of the other roles are common words that other
    collections use as well: there, only what looks misspelled is rejected.
    """
    sentences = []
    for name in names:
        if known.has(name) or not _looks_like(role, name):
            continue
        near = known.nearest(name)
        if near is None and not name.startswith(_ROLE):
            continue
        where = (origins or {}).get(name)
        place = f", which {where} sets" if where else ""
        way_out = f"did you mean {near}?" if near else "if it is your own, add it to backup_extra_variables."
        sentences.append(f"The role scalr.backup.{role} does not know the variable {name}{place}: {way_out}")
    return sentences


def _looks_like(role: str, name: str) -> bool:
    """Whether a name begins like a role's variables, or nearly so."""
    word = name.lower().partition("_")[0]
    return name.lower().startswith(role) or _distance(word.rstrip("s"), role, 1) <= 1


#: Variables of the role backup that mean no backups, or no notifications, when empty, and what to do instead.
MUST_HOLD = {
    "backup_containers": (
        "no container would be backed up by name: list containers or globs, or leave it out. To rely on the label "
        "scalr.backup=true alone, list a container that does not exist, such as labels-only"
    ),
    "backup_keep": "no snapshot would be kept: set counts, such as daily: 30, or leave it out",
    "backup_notify_events": "nobody would be notified: list events, or leave it out",
}
#: The variables that hold the address of a repository, of the role and of playbooks.
ADDRESSES = ("backup_repository", "backup_copy_repository", "backup_prune_repository", "from_repository")
#: The variables whose values are checked.
LOOKED_AT = (*MUST_HOLD, "backup_exclude", *ADDRESSES)


def refuse_values_of_host(values: Mapping[str, Any], mappings: Collection[str] = ()) -> list[str]:
    """Which of a role's variables have no value, or one that would mean no backups; one sentence each.

    *mappings* are those that must be one: ``-e NAME={...}`` makes a text of it.
    """
    sentences = [
        f"{name} has no value: give it one, or leave it out." for name, value in values.items() if value is None
    ]
    sentences += [
        f"{name} is empty, so {consequence}."
        for name, consequence in MUST_HOLD.items()
        if values.get(name) is not None and is_nothing(values[name])
    ]
    sentences += [
        _no_mapping(name)
        for name in mappings
        if not is_nothing(values.get(name)) and not isinstance(values[name], Mapping)
    ]
    sentences += filter(None, [objection(name, values.get(name)) for name in ADDRESSES])
    if any(re.fullmatch(r"\*+", str(item).strip()) for item in _items(values.get("backup_exclude") or [])):
        sentences.append("backup_exclude is *, which excludes every container: list only the containers to exclude.")
    return sentences


def names_used(value: Any) -> set[str]:
    """Every word that a template in a value mentions."""
    if isinstance(value, str):
        return set(_WORD.findall(value)) if _TEMPLATE.search(value) else set()
    if isinstance(value, Mapping):
        return set().union(*map(names_used, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_used, value))
    return set()


def playbooks_alone(arguments: Iterable[str], directory: str) -> bool:
    """Whether the command line names only the collection's playbooks, which are in *directory*."""
    return all(_is_ours(argument, directory) for argument in arguments)


def _is_ours(argument: str, directory: str) -> bool:
    name = argument.removeprefix("scalr.backup.")
    if name != argument:
        return name in PLAYBOOKS
    parent, _slash, file = argument.rpartition("/")
    return parent == directory and file.removesuffix(".yml") in PLAYBOOKS


def _bare(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _distance(one: str, other: str, most: int) -> int:
    """How many letters are wrong, missing, superfluous or swapped; more than *most* counts as *most* + 1."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        now = [row]
        for column, wanted in enumerate(other, start=1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != wanted))
            swapped = row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted
            now.append(min(cost, before[column - 2] + 1) if swapped else cost)
        before, last = last, now
    return last[-1]

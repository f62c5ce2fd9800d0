# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options go together: one table for the agent's verbs, the modules and the playbooks.

The agent and the collection cannot import each other, so each has this file, word for word; a test holds both equal.
Options have the names that modules and playbooks know them by; a verb writes them in its own way (``--from-host``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class OneOf:
    """At least one of these must be given."""

    names: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class Apart:
    """An option that none of the others goes with."""

    name: str
    others: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class Needs:
    """An option that means nothing without the others."""

    name: str
    others: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class Only:
    """An option that has a meaning with some values of another one only; None stands for that one not being given."""

    name: str
    choice: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Rules:
    """What holds for the options of one verb, module or playbook."""

    one_of: tuple[OneOf, ...] = ()
    apart: tuple[Apart, ...] = ()
    needs: tuple[Needs, ...] = ()
    only: tuple[Only, ...] = ()

    def without_needs_of(self, *names: str) -> Rules:
        """The same where something else than an option, such as the inventory, may give what these need."""
        needs = tuple(rule for rule in self.needs if rule.name not in names)
        return Rules(self.one_of, self.apart, needs, self.only)


_WHOSE = "it says whose snapshots to use"
_WHICH = "it says which repository to use"
_FROM_ANOTHER = (
    Needs("from_repository", ("from_host",), _WHOSE),
    Needs("from_password", ("from_repository",), _WHICH),
    Needs("from_environment", ("from_password",), "the agent's own password comes with its own environment"),
)
_TWO_SOURCES = Apart("from_repository", ("from_copy",), "both name a repository to read from")
_ELSEWHERE = ("from_host", "from_password", "keep", "keep_within", "accept_late", "read_all")
_OWN_RULES = "a host's own repository follows its own rules"
_FORGET = Rules(
    apart=(
        Apart(
            "snapshots",
            ("accept_late", "read_all", "remove_future"),
            "exactly what is named is removed, whatever its age",
        ),
        Apart("from_repository", ("copy",), "both name a repository to work on"),
    ),
    needs=(
        Needs(
            "from_repository",
            ("from_host", "from_password", "keep"),
            "they say whose snapshots to use, what opens the repository, and how many to keep",
        ),
        *(Needs(name, ("from_repository",), _OWN_RULES) for name in _ELSEWHERE),
    ),
)
_RESTORE = Rules(
    one_of=(OneOf(("db", "undo"), "the container to restore, or the restore to undo"),),
    apart=(
        Apart(
            "undo",
            (
                "database",
                "database_as",
                "snapshot",
                "target",
                "from_host",
                "from_repository",
                "from_password",
                "from_environment",
                "from_copy",
                "strategy",
                "restore_strategy",
                "keep_old",
                "safety_snapshot",
                "without_manifest",
                "on_error",
            ),
            "an undo swaps back every database that the restore kept, and keeps what it replaces",
        ),
        _TWO_SOURCES,
    ),
    needs=_FROM_ANOTHER,
    only=(
        # With replace, the old one is dropped first.
        Only("keep_old", "strategy", ("beside", None)),
        Only("keep_old", "restore_strategy", ("beside", None)),
    ),
)
_OLD_NAME = "they are the old and the new name of one option"

VERBS = {
    "restore": _RESTORE,
    "drill": Rules(apart=(_TWO_SOURCES,), needs=_FROM_ANOTHER),
    "forget": _FORGET,
    "check": Rules(
        apart=(Apart("scheduled", ("copy", "read_data_subset"), "the schedule itself decides what is checked"),)
    ),
    "prune": Rules(apart=(Apart("scheduled", ("copy",), "the schedule itself decides what is pruned"),)),
    "validate": Rules(apart=(Apart("addresses", ("containers",), "either says what to validate"),)),
    "key": Rules(
        only=(
            Only("key", "action", ("remove",)),
            Only("unused_by", "action", ("remove",)),
            Only("escrow", "action", ("add",)),
        )
    ),
}

MODULES = {
    "database_restore": _RESTORE,
    "database_drill": VERBS["drill"],
    "repository": Rules(
        apart=_FORGET.apart,
        needs=(
            *_FORGET.needs,
            *_FROM_ANOTHER[1:],
            Needs("ca_certificate", ("from_repository",), "the agent knows its own store"),
            Needs("image", ("from_repository",), "the agent maintains its own repository"),
        ),
        only=(
            Only("copy", "action", ("init", "check")),
            Only("read_data_subset", "action", ("check",)),
            *(
                Only(name, "action", ("forget",))
                for name in (
                    "prune",
                    "snapshots",
                    "accept_late",
                    "read_all",
                    "keep",
                    "keep_within",
                    "from_host",
                    "from_repository",
                    "from_password",
                    "from_environment",
                    "ca_certificate",
                    "image",
                )
            ),
        ),
    ),
    "repository_key": Rules(
        one_of=(OneOf(("password", "key"), "the key's password, or its id"),),
        apart=(Apart("password", ("key",), "either names the key"),),
        only=(
            Only("key", "state", ("absent",)),
            Only("unused_by", "state", ("absent",)),
            Only("escrow", "state", ("present", None)),
        ),
    ),
}

PLAYBOOKS = {
    "backup": Rules(apart=(Apart("extra_tags", ("tags",), _OLD_NAME),)),
    "drill": VERBS["drill"],
    "prune": Rules(apart=(Apart("remove", ("accept_late", "read_all"), "what is named is removed, whatever its age"),)),
    "recovery_kit": Rules(only=(Only("replace", "escrow", (True, None)),)),
    # The inventory may know the repository and the password of the host that made the snapshots, and the container.
    "restore": Rules(
        (),
        (*_RESTORE.apart, Apart("restore_strategy", ("strategy",), _OLD_NAME)),
        _RESTORE.needs,
        _RESTORE.only,
    ).without_needs_of("from_password", "from_environment"),
    "rotate_password": Rules(apart=(Apart("keep_old", ("gone",), "keep_old removes no passwords"),)),
}


def objections(rules: Rules, given: Mapping[str, Any], spell: Callable[[str], str] = str) -> Iterator[str]:
    """A sentence for each rule that the *given* options break; *spell* writes an option's name as its user does."""
    for one_of in rules.one_of:
        if not any(name in given for name in one_of.names):
            yield f"Give {' or '.join(map(spell, one_of.names))}{_as(': ', one_of.why)}."
    for apart in rules.apart:
        found = [spell(name) for name in apart.others if name in given]
        if apart.name in given and found:
            yield f"{spell(apart.name)} cannot be combined with {', '.join(found)}{_as(': ', apart.why)}."
    for needs in rules.needs:
        missing = [spell(name) for name in needs.others if name not in given]
        if needs.name in given and missing:
            yield f"{spell(needs.name)} needs {', '.join(missing)} as well{_as(': ', needs.why)}."
    for only in rules.only:
        if only.name in given and given.get(only.choice) not in only.values:
            yield f"{spell(only.name)} works only with {_choices(only, spell)}."


def _choices(only: Only, spell: Callable[[str], str]) -> str:
    return " or ".join(f"{spell(only.choice)}={value}" for value in only.values if value is not None)


def _as(before: str, text: str) -> str:
    return f"{before}{text}" if text else ""

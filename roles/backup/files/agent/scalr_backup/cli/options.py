# SPDX-License-Identifier: GPL-3.0-or-later
"""How verbs are parsed and explained, and what is checked first: no option is empty, all go together (``together.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from scalr_backup.core.address import objection
from scalr_backup.core.errors import UsageError
from scalr_backup.core.together import VERBS, Rules, objections

Function = TypeVar("Function", bound=Callable[..., Any])

# The table's name for an option, where the verb has another one.
_NAMES_IN_TABLE = {
    "from_secrets": "from_password",
    "no_safety_snapshot": "safety_snapshot",
    "undo_run": "undo",
}
_NAMES_IN_TABLE_OF = {"forget": {"snapshot": "snapshots"}}
# What the help of each verb ends with.
EXAMPLE = "Example: "
# An empty one is a word that was not given, and is answered as such.
_MAY_BE_EMPTY = ("confirm",)


@dataclass(frozen=True)
class Call:
    """The options that were given on the command line, and how every option of the verb is written, by its name."""

    given: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


_CALL: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039 (nobody changes it)


def _without_type_of_flags(params: Sequence[Any]) -> list[Any]:
    """The same, with nothing to fill in after an option that takes no value."""
    for one in params:
        if isinstance(one, TyperOption) and one.is_flag:
            one.metavar = ""
    return list(params)


class Verb(TyperCommand):
    """A command that notes which options the command line gave, and not what an option is by default."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, that of the help included."""
        return _without_type_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Note it, and run."""
        sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
        given = {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
        _CALL.set(Call(given, {str(option.name): option.opts[0] for option in self.params}))
        return super().invoke(ctx)


class VerbGroup(TyperGroup):
    """The command that has all verbs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, that of the help included."""
        return _without_type_of_flags(super().get_params(ctx))


class Verbs(typer.Typer):
    """The verbs of the command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=VerbGroup, context_settings={"help_option_names": ["--help", "-h"]}, **settings)

    def command(self, name: str | None = None, *, example: str = "", **settings: Any) -> Callable[[Function], Function]:
        """A further one; its help ends with the *example*."""
        return super().command(name, **{"cls": Verb, "epilog": f"{EXAMPLE}{example}", **settings})


def require_sound(verb: str) -> None:
    """Refuse options that are empty or do not go together. Raises UsageError with all that is wrong."""
    call = _CALL.get()
    empty = [name for name, value in call.given.items() if _is_empty(value) and name not in _MAY_BE_EMPTY]
    sentences = [f"{call.written[name]} is empty: give it a value, or leave it out." for name in empty]
    names = {
        name: _NAMES_IN_TABLE_OF.get(verb, {}).get(name) or _NAMES_IN_TABLE.get(name, name) for name in call.written
    }
    written = {names[name]: text for name, text in call.written.items()}
    given = {names[name]: value for name, value in call.given.items()}
    sentences += objections(VERBS.get(verb, Rules()), given, lambda name: written.get(name, name))
    address = objection(
        written.get("from_repository", ""), given.get("from_repository"), "the environment that goes with it"
    )
    sentences += [address] if address else []
    if sentences:
        raise UsageError(" ".join(sentences))


def _is_empty(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(one, str) and not one.strip() for one in values)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of a call must be before its verb begins: none empty, and such as go together (``together.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

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
# An empty one is a word that was not given, and is answered as such.
_MAY_BE_EMPTY = ("confirm",)


@dataclass(frozen=True)
class Call:
    """The options that were given on the command line, and how every option of the verb is written, by its name."""

    given: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


_CALL: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039 (nobody changes it)


class Verb(TyperCommand):
    """A command that notes what was given, and not what an option is without that."""

    def invoke(self, ctx: Any) -> Any:
        """Note it, and run."""
        sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
        given = {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
        _CALL.set(Call(given, {str(option.name): option.opts[0] for option in self.params}))
        return super().invoke(ctx)


class Verbs(typer.Typer):
    """The verbs of the command."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """A further one."""
        return super().command(name, **{"cls": Verb, **settings})


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
    if sentences:
        raise UsageError(" ".join(sentences))


def _is_empty(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(one, str) and not one.strip() for one in values)

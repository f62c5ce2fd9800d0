# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what was read to the shape that it is declared to have.

A record keeps what this release does not know of it: a newer release may have written that. So what is read is compared with
its type and handed on as it is, never rebuilt from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# A sentence names so many places, and shows so much of a name.
_MOST_NAMED = 3
_LONGEST_NAME = _LONGEST_WORDS = 120


class MomentCheck:
    """Lets pydantic take a text only where it is a time with its zone, as the agent writes all of them."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], Any]) -> Any:
        """The schema of a text, and the check after it."""
        from pydantic_core import core_schema  # noqa: PLC0415 (only who validates pays for it)

        return core_schema.no_info_after_validator_function(_require_moment, handler(source))


# A time as the agent writes it: ISO 8601, with its zone.
Moment = Annotated[str, MomentCheck]


@dataclass(frozen=True)
class Fault:
    """What is wrong in a record: where, by the keys that lead there, and what was expected."""

    where: tuple[str | int, ...]
    why: str

    def __str__(self) -> str:
        place = " > ".join(str(step) for step in self.where)
        return f"{place[:_LONGEST_NAME]} ({self.why})" if place else self.why


def faults(kind: Any, value: object) -> list[Fault]:
    """What keeps a value from being of a declared type; empty where it is one."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [Fault(one["loc"], one["msg"].removeprefix("Value error, ")[:_LONGEST_WORDS]) for one in found]
    except RecursionError:
        return [Fault((), "it is nested too deeply")]
    return []


def listed(found: list[Fault]) -> str:
    """The first of several faults, and how many more there are."""
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(str(one) for one in found[:_MOST_NAMED]) + more


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made when it is first needed: most verbs read one record, and some none."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(kind)


def _require_moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no time zone")
    return text

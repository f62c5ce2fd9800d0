# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container answers, held to limits and to the expected shape: it may be broken, or under somebody else's control.

Whatever its programs print is data. What is too much, is no JSON, or is not of the declared shape, is an InvalidAnswerError:
that container's own failure, and nobody else's. Nothing else is raised here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from scalr_backup.core.errors import InvalidAnswerError
from scalr_backup.core.records.reading import Fault
from scalr_backup.core.text import decoded, encoded
from scalr_backup.core.units import human_bytes

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema

# Rows of half a million tables fit, as in a manifest.
MOST_BYTES = 32 * 1024 * 1024
# What has a row for each table or sequence, and goes into no manifest, may be longer.
MOST_OF_TABLES = 256 * 1024 * 1024
# What a program may complain of while it answers one question.
MOST_COMPLAINTS = 16 * 1024 * 1024
# Lists and objects take some twenty times as much memory as text.
_MOST_LISTS = 1_000_000
# PostgreSQL's own limit is 63 bytes, unless somebody has built it otherwise.
_LONGEST_NAME = 255
_LARGEST = 2**63 - 1

Said = TypeVar("Said")


def parse(lines: Sequence[bytes], subject: str) -> list[Any]:
    """The JSON documents that *subject* has printed, one a line; empty lines count for nothing.

    Raises InvalidAnswerError.
    """
    if sum(line.count(b"[") + line.count(b"{") for line in lines) > _MOST_LISTS:
        raise no_sense(subject, "it lists too much")
    try:
        return [json.loads(decoded(line), parse_constant=_refuse) for line in lines if line]
    except (ValueError, RecursionError, MemoryError) as error:
        deep = isinstance(error, RecursionError)
        raise no_sense(subject, "it is nested too deeply" if deep else "it is not valid JSON") from None


class Shape(Generic[Said]):
    """What each row of an answer has to be."""

    def __init__(self, kind: Any, most_rows: int | None = None) -> None:
        self._kind = kind
        self._most_rows = most_rows

    def of(self, rows: Sequence[Any], subject: str) -> list[Said]:
        """The rows, if all are so. Raises InvalidAnswerError."""
        # Only who asks pays for pydantic: a producer starts for each database, and asks nothing.
        from pydantic import ValidationError  # noqa: PLC0415

        if self._most_rows is not None and len(rows) > self._most_rows:
            raise no_sense(subject, f"it has {len(rows):,} rows, but at most {self._most_rows:,} are allowed")
        try:
            return self._rows.validate_python(list(rows))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            fault = Fault(first["loc"][1:], first["msg"].removeprefix("Value error, ")[:120])
            raise no_sense(subject, str(fault)) from None
        except RecursionError:
            raise no_sense(subject, "it is nested too deeply") from None

    def one(self, rows: Sequence[Any], subject: str) -> Said:
        """The only row. Raises InvalidAnswerError."""
        found = self.of(rows, subject)
        if len(found) != 1:
            raise no_sense(subject, f"it has {len(found)} rows and should have one")
        return found[0]

    @cached_property
    def _rows(self) -> TypeAdapter[list[Said]]:
        # Made when it is first needed: most verbs ask few questions.
        from pydantic import TypeAdapter  # noqa: PLC0415

        return TypeAdapter(cast("Any", list[self._kind]))  # type: ignore[name-defined]


def too_much(subject: str, most_bytes: int = MOST_BYTES) -> InvalidAnswerError:
    """The error for who prints more than it may; it has been ended."""
    return InvalidAnswerError(f"{subject} printed more than {human_bytes(most_bytes)} and was stopped; {_CURE}.")


def no_sense(subject: str, why: str) -> InvalidAnswerError:
    """The error for an answer that cannot be understood."""
    return InvalidAnswerError(f"The answer of {subject} is invalid: {why}; {_CURE}.")


_CURE = "check what runs in that container in place of PostgreSQL's programs"


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and the infinities are no JSON.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text was expected")
    if not value.isascii():
        try:
            encoded(value)
        except UnicodeEncodeError:
            raise ValueError("a text has an invalid character") from None
    if "\0" in value:
        raise ValueError("a text holds a null byte")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if not 0 < len(encoded(name)) <= _LONGEST_NAME:
        raise ValueError("a name is empty or too long")
    return name


@dataclass(frozen=True)
class Checked:
    """Lets pydantic take what a function of ours returns for it, and refuse what that one raises ValueError for."""

    check: Callable[[object], object]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """How pydantic asks."""
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.no_info_plain_validator_function(self.check)


@dataclass(frozen=True)
class Whole:
    """Lets pydantic take nothing but whole numbers within these bounds."""

    least: int
    most: int = _LARGEST

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """How pydantic asks."""
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.int_schema(strict=True, ge=self.least, le=self.most)


class OnlyTruth:
    """Lets pydantic take nothing but true and false."""

    @staticmethod
    def __get_pydantic_core_schema__(_source: Any, _handler: Any) -> CoreSchema:
        """How pydantic asks."""
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.bool_schema(strict=True)


# A text that can go back to the container as it came; bytes of no known encoding are kept in it.
Text = Annotated[str, Checked(_text)]
# What a database, a role, a table or the like is called.
Name = Annotated[str, Checked(_name)]
Count = Annotated[int, Whole(0)]
Number = Annotated[int, Whole(-_LARGEST - 1)]
Flag = Annotated[bool, OnlyTruth]

TEXTS, NAMES = Shape[str](Text), Shape[str](Name)
FLAGS, COUNTS = Shape[bool](Flag), Shape[int](Count)
PAIRS = Shape[tuple[str, str]](tuple[Name, Text])
COUNTED = Shape[tuple[str, int]](tuple[Name, Count])

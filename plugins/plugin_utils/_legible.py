# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is shown of many hosts, whatever one of them answers: one that cannot be read is like one that gave no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_Shown = TypeVar("_Shown")
Answer = Mapping[str, Any]

# No size, age or count is larger, and sums of those that are not stay numbers.
_MOST = 2**63


def each_for_itself(
    show: Callable[[list[Answer]], _Shown], answers: Iterable[Answer], silent: Callable[[Answer, str], Answer]
) -> _Shown:
    """What *show* makes of all answers; of each that it cannot read, what is *silent* for this reason takes the place."""
    given = list(answers)
    try:
        return show(given)
    except Exception:  # noqa: BLE001 (whatever it is, it is looked for)
        reasons = [why_not_shown(show, answer) for answer in given]
    return show([silent(answer, why) if why else answer for answer, why in zip(given, reasons, strict=True)])


def why_not_shown(show: Callable[[list[Answer]], object], answer: Answer) -> str:
    """Why *show* cannot read this answer; empty if it can."""
    try:
        show([answer])
    except Exception as error:  # noqa: BLE001 (whatever a host says, it must not cost the others their place)
        cause = f"{type(error).__name__}: {error}"
        return f"The answer of this host cannot be read ({cause}): run site.yml, which updates its agent."
    return ""


def number(entry: Answer, name: str) -> float | None:
    """A number out of an answer that is held against those of other hosts; None where it is not known.

    Raises ValueError if it is anything else.
    """
    value = entry.get(name)
    if value is None:
        return None
    # Neither NaN nor infinity is less than anything.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _MOST:
        raise ValueError(f"{name} is {value!r:.40}")
    return value

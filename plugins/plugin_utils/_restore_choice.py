# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which host a restore is for: each host's answer, and the conclusion."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How well a host fits: it can do it; it has the container or run but refuses; it does not have it.
_DOES, _REFUSES, _KNOWS_NOTHING = 2, 1, 0
#: The agent's codes for not having what was asked for.
_UNKNOWN = ("", "unknown_", "unknown_database", "unknown_run")
#: Of a host whose run ended before an answer was noted: it must not cost the others their restore.
_NO_ANSWER = {"can": _KNOWS_NOTHING, "names": [], "silence": "gave no answer (its error is above)", "reason": ""}


def restore_answer(discovered: Mapping[str, Any], tried: Mapping[str, Any], db: str) -> dict[str, Any]:
    """A host's answer: its list of containers, or the result of the trial, one of which was skipped."""
    names = [str(one["name"]) for one in discovered.get("containers") or []]
    code = tried.get("code") or ""
    answered = "containers" in discovered or "plan" in tried or bool(code)
    told = discovered if tried.get("skipped") else tried
    return {
        "can": _fit(db in names or "plan" in tried, code),
        "names": names,
        "silence": "" if answered else _silence(told),
        "reason": tried.get("msg") or "",
    }


def _fit(does: bool, code: str) -> int:
    # If a host refuses for any other reason than not having it, the reason counts.
    return _DOES if does else _KNOWS_NOTHING if code in _UNKNOWN else _REFUSES


def _silence(told: Mapping[str, Any]) -> str:
    if told.get("unreachable"):
        return "was not reached"
    return f"gave no answer ({told.get('msg') or 'no reason given'})"


@dataclass(frozen=True)
class Wish:
    """What is wanted: a container, another one to restore into, or a restore to undo."""

    db: str = ""
    target: str = ""
    undo: str = ""

    @property
    def verb_and_object(self) -> tuple[str, str, str]:
        """What a fitting host does: the verb for one, the verb for several, and the rest."""
        if self.undo:
            return "knows", "know", f"a restore {self.undo} that can be undone"
        if self.target:
            return "can", "can", f"restore into a container {self.target}"
        return "has", "have", f"a database container {self.db}"


def restore_choice(
    answers: Sequence[Mapping[str, Any]], db: str = "", target: str = "", undo: str = ""
) -> dict[str, str]:
    """The host that a restore is for, or why there is none; and a warning about hosts that gave no answer.

    Each answer has the name of its ``host``, and the result of ``restore_answer`` as ``answer``, if the host came so far.
    """
    answers = [{"answer": _NO_ANSWER, **answer} for answer in answers]
    wish = Wish(db, target, undo)
    one, many, rest = wish.verb_and_object
    best = max((answer["answer"]["can"] for answer in answers), default=_KNOWS_NOTHING)
    able = [answer["host"] for answer in answers if answer["answer"]["can"] == best]
    # Several refusals leave no choice: list them.
    if best == _KNOWS_NOTHING or (best == _REFUSES and len(able) > 1):
        return _refused(f"No host {one} {rest}: {_overview(answers, wish)}")
    if len(able) > 1:
        return _refused(f"{len(able)} hosts {many} {rest}; choose one with --limit: {_overview(answers, wish)}")
    return {"host": able[0], "refusal": "", "warning": _warning(answers, wish)}


def _refused(sentence: str) -> dict[str, str]:
    return {"host": "", "refusal": sentence, "warning": ""}


def _overview(answers: Sequence[Mapping[str, Any]], wish: Wish) -> str:
    """All hosts' answers, in one sentence."""
    told = "; ".join(f"{answer['host']} {_told(answer['answer'], wish)}" for answer in answers)
    # A reason is a sentence with its own full stop.
    return re.sub(r"[.]([.;])", r"\1", f"{told}.")


def _told(answer: Mapping[str, Any], wish: Wish) -> str:
    if answer["silence"]:
        return str(answer["silence"])
    if answer["reason"]:
        return f"says: {answer['reason']}"
    return f"has {', '.join(answer['names']) or wish.target or 'none'}"


def _warning(answers: Sequence[Mapping[str, Any]], wish: Wish) -> str:
    silent = [f"{answer['host']} {answer['answer']['silence']}" for answer in answers if answer["answer"]["silence"]]
    if not silent:
        return ""
    container = wish.target or wish.db
    return f"WARNING: {'; '.join(silent)}. If a container {container} is there too, it is left unchanged."

# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Why something failed, as one sentence: out of a module's result, of one that died without a result, or of the agent's.

Decisions depend only on a result's fields and on exit codes. Words are only shortened for people.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from typing import Any

from ansible_collections.scalr.backup.plugins.module_utils._address import redact
from ansible_collections.scalr.backup.plugins.plugin_utils._build_log import why_not_built
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

#: How much of a program's output goes into a sentence.
_MOST_CHARACTERS = 400
#: What Ansible adds to a result if the module printed none.
_OF_THE_DEAD = ("module_stdout", "module_stderr")
#: The Docker Engine's own message is at the end of its library's message, in brackets and quotation marks.
_ENGINE_SAID = re.compile(r'\("(.+?)"\)[^"]*\Z', re.DOTALL)
#: An address of the engine's API, or a Python object: useless to an operator.
_NOISE = re.compile(r"\b(?:https?\+docker://\S+|<[\w.]+ object at 0x[0-9a-f]+>)\s*")
_NOT_FOUND, _KILLED = 127, 128


def reason(result: Mapping[str, Any], doing: str = "") -> str:
    """One sentence about a failed result; *doing* is the name of the task that it comes from."""
    failed = _failed_item(result)
    if failed.get("unreachable"):
        return f"The host was not reached: {_said(failed.get('msg', ''))}"
    what = f"{doing}: " if doing else ""
    if is_dead(failed):
        return f"{what}{death(failed)}"
    if "cmd" in failed and failed.get("stderr", "").strip():
        return f"{what}{_said(_last_line(failed['stderr']))}"
    if failed.get("code"):
        return _said(failed["msg"])  # The agent's own sentence is enough.
    if why := why_not_built(str(failed.get("msg"))):
        return f"{what}it ended with: {_line(why, from_end=True)}"
    return f"{what}{_said(failed.get('msg') or 'it gave no reason')}"


def is_dead(result: Mapping[str, Any]) -> bool:
    """Whether a result is Ansible's, because the module has ended without one."""
    return any(name in result for name in _OF_THE_DEAD)


def death(result: Mapping[str, Any]) -> str:
    """How a module ended without a result."""
    code = result.get("rc")
    said = _last_line(result.get("module_stderr") or "") or _last_line(result.get("module_stdout") or "")
    told = f" It said: {_said(said)}" if said else ""
    if code == _NOT_FOUND:
        return f"Python was not found on the host (exit code {code}); set ansible_python_interpreter to its path.{told}"
    if isinstance(code, int) and (code < 0 or code > _KILLED):
        number = -code if code < 0 else code - _KILLED
        hint = ", as happens when the host runs out of memory" if number == signal.SIGKILL else ""
        return f"the module was killed on the host by {_signal_name(number)}{hint}; run this again.{told}"
    how = f" (exit code {code})" if code is not None else ""
    return f"the module ended on the host without a result{how}, or the connection broke; run this again.{told}"


def without_rubble(result: dict[str, Any], doing: str) -> dict[str, Any]:
    """A module's result; if the module died, a short one with a sentence instead of all its output."""
    if not is_dead(result):
        return result
    sentence = death(result)
    kept: dict[str, Any] = {name: result[name] for name in ("rc", "warnings", "deprecations") if name in result}
    return {**kept, "failed": True, "changed": False, "msg": f"{doing}: {sentence}"}


def agent_result(result: Mapping[str, Any], image: str) -> dict[str, Any]:
    """The result of an agent's verb that ran in a container of *image*; a failure if there is none."""
    line = (result.get("stdout") or "").strip().rpartition("\n")[2]
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("event") == "result":
        told = {name: said.get(name) for name in ("ok", "changed", "error", "data")}
        if isinstance(told["error"], dict):
            told["error"] = {**told["error"], "message": printable(redact(str(told["error"].get("message"))))}
        return told
    why = _last_line(result.get("stderr") or "") or result.get("msg") or f"exit code {result.get('rc')}"
    sentence = f"Failed to run the image {image}: {_said(why)}"
    return {"ok": False, "changed": False, "error": {"code": None, "message": sentence}, "data": {}}


def _failed_item(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a loop, the first item that failed."""
    for item in result.get("results") or []:
        if isinstance(item, dict) and item.get("failed"):
            return item
    return result


def _said(text: str) -> str:
    """A message as the end of a sentence: one line, not too long, with the engine's own words if there are any."""
    words = _ENGINE_SAID.search(text)
    return _line(words[1] if words else text)


def _line(text: str, *, from_end: bool = False) -> str:
    """One line of a text, as a sentence; of a long one its head, or of a log its end, from a whole word on."""
    line = printable(" ".join(_NOISE.sub("", redact(text)).split()))
    if len(line) > _MOST_CHARACTERS:
        head, end = line[:_MOST_CHARACTERS].rstrip(), line[-_MOST_CHARACTERS:].partition(" ")[2]
        line = f"…{end}" if from_end else f"{head}…"
    return line if line.endswith((".", "…", "!", "?")) else f"{line}."


def _last_line(text: object) -> str:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    # Where the docker command ends with a hint about its own help, that is not what went wrong.
    telling = [line for line in lines if not line.startswith(("See 'docker", "Run 'docker"))]
    return telling[-1] if telling else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Why an image could not be built. community.docker puts the whole log into its message; the reason is at the log's end."""

from __future__ import annotations

import ast
import re

#: What community.docker.docker_image says: the engine's own message, and the log as a list of Python's.
_FAILED = re.compile(r"Error building .*?message: (?P<message>.*?), logs: (?P<log>.*)\Z", re.DOTALL)
#: The log is in colours.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Where a step begins; Podman shouts.
_STEP = re.compile(r"step \d+/\d+ ?:", re.IGNORECASE)
#: What the engine says of its own work, and what apt does while all is well ("Reading package lists...").
_OF_NO_INTEREST = re.compile(r"-+> |Removing intermediate container |.*\.\.\.\Z")


def why_not_built(message: str) -> str:
    """What the step that failed has printed; if that is nothing, the engine's word. Empty if this is no build's message."""
    failed = _FAILED.match(message)
    if not failed:
        return ""
    return " ".join(_of_last_step(_lines(failed["log"]))) or failed["message"]


def _lines(log: str) -> list[str]:
    try:
        pieces = [str(piece) for piece in ast.literal_eval(log)]
    except (ValueError, SyntaxError):
        pieces = [log]
    return [_COLOUR.sub("", line).strip() for piece in pieces for line in piece.splitlines()]


def _of_last_step(lines: list[str]) -> list[str]:
    """The step's own lines. What is written in colours comes in pieces, so a line may be a part of one."""
    begins = max((number for number, line in enumerate(lines) if _STEP.match(line)), default=-1)
    return [line for line in lines[begins + 1 :] if line and not _OF_NO_INTEREST.match(line)]

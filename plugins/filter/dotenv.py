# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: dotenv
short_description: Read the variables in an env file
version_added: 0.1.0
description:
  - Turns the text of an env file, such as C(.env.shared), into a dictionary.
  - A line is C(NAME=value) or C(export NAME=value). Empty lines and lines that begin with C(#) are ignored.
  - A value in single quotes is taken literally. In double quotes, C(\n), C(\t), C(\"), C(\$) and C(\\) mean what
    they usually do. Quoted values may span lines. Without quotes, spaces around the value are cut off, and so is a
    comment, which begins with C(#) after a space.
  - Nothing is executed, and references such as C($HOME) stay as they are.
  - When a name occurs twice, the last one counts.
options:
  _input:
    description: Text of the file.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Read an env file of the controller
  ansible.builtin.set_fact:
    settings: "{{ lookup('ansible.builtin.file', '.env.shared') | scalr.backup.dotenv }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The variables.
  type: dict
  sample: {AWS_ACCESS_KEY_ID: AKIAIOSFODNN7EXAMPLE}
"""

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SINGLE_QUOTED = re.compile(r"'(?P<value>[^']*)'")
_DOUBLE_QUOTED = re.compile(r'"(?P<value>(?:\\.|[^"\\])*)"', re.DOTALL)
_AFTER_QUOTES = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "$": "$", "`": "`", "\\": "\\", "\n": ""}


def dotenv(text: str) -> dict[str, str]:
    """The variables of an env file. What cannot be read is an error that names the line, never its content."""
    if not isinstance(text, str):
        raise AnsibleFilterError("dotenv expects text.")
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    variables: dict[str, str] = {}
    position = 0
    while position < len(text):
        line, after = _line(text, position)
        if not line.strip() or line.lstrip().startswith("#"):
            position = after
            continue
        assignment = _ASSIGNMENT.match(text, position)
        if assignment is None:
            raise _unreadable(text, position, "is not NAME=value")
        value, position = _value(text, assignment.end())
        variables[assignment.group("name")] = value
    return variables


def _line(text: str, position: int) -> tuple[str, int]:
    """The line that begins at a position, with its end, and where the next line begins."""
    end = text.find("\n", position) + 1 or len(text)
    return text[position:end], end


def _value(text: str, position: int) -> tuple[str, int]:
    """The value that begins at a position, and where the next line begins."""
    quote = text[position : position + 1]
    if quote not in ("'", '"'):
        line, after = _line(text, position)
        return _COMMENT.sub("", line.rstrip("\n")).strip(), after

    quoted = (_SINGLE_QUOTED if quote == "'" else _DOUBLE_QUOTED).match(text, position)
    if quoted is None:
        raise _unreadable(text, position, f"opens a {quote} that is never closed")
    rest = _AFTER_QUOTES.match(text, quoted.end())
    if rest is None:
        raise _unreadable(text, position, "continues after its closing quote")
    value = quoted.group("value")
    if quote == '"':
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape.group(1), escape.group()), value)
    return value, rest.end()


def _unreadable(text: str, position: int, what: str) -> AnsibleFilterError:
    number = text.count("\n", 0, position) + 1
    return AnsibleFilterError(f"Line {number} of the env file {what}.")


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"dotenv": dotenv}

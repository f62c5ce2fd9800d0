"""Commands as the documentation shows them: a test that runs one takes it from here.

``tests/unit/test_docs.py`` reads the calls of ``documented`` out of all tests, so that no command is shown that no
test runs, and none is run that is no longer shown.
"""

from __future__ import annotations

from collections.abc import Mapping


def documented(command: str, names: Mapping[str, str] | None = None) -> str:
    """A command of the documentation, word for word, with a test's names in place of the example's."""
    for example, name in (names or {}).items():
        assert example in command, f"{command!r} does not hold {example!r}"
        command = command.replace(example, name)
    return command

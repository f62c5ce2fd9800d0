#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the JSON Schema of each verb's result line, ``docs/schemas/VERB.json``, from the types that the agent answers in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
DIRECTORY = CHECKOUT / "docs/schemas"
sys.path.insert(0, str(CHECKOUT / "roles/backup/files/agent"))


def schema_of(verb: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    """The schema of a verb's last line with ``--json``; one that failed before it had an answer has no data."""
    from pydantic import TypeAdapter  # noqa: PLC0415 (the agent's path is known only now)
    from scalr_backup.core.answers import Result  # noqa: PLC0415

    named = {str(number): kind for number, kind in enumerate(kinds)} | {"result": Result}
    answers, shared = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(kind)) for name, kind in named.items()]
    )
    line = shared["$defs"].pop("Result")
    line["properties"] |= {
        "event": {"const": "result"},
        "verb": {"const": verb},
        "exit_code": {"enum": [0, 1, 2, 3]},
        "data": {
            "anyOf": [*(answers[name, "validation"] for name in named if name != "result"), {"maxProperties": 0}],
            "title": "What the verb answers; empty where it failed before it had an answer.",
        },
    }
    line["required"] = sorted({*line["required"], "event"})
    line["title"] = f"scalr-backup {verb} --json: the last line"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **line, "$defs": shared["$defs"]}


def texts() -> dict[str, str]:
    """What belongs into each file, by its name."""
    from scalr_backup.core.verbs import ANSWERS  # noqa: PLC0415

    return {
        f"{verb}.json": json.dumps(schema_of(verb, kinds), indent=1, sort_keys=True) + "\n"
        for verb, kinds in sorted(ANSWERS.items())
    }


def main() -> None:
    """Write them all, and remove those of verbs that are no more."""
    DIRECTORY.mkdir(exist_ok=True)
    wanted = texts()
    for old in DIRECTORY.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (DIRECTORY / name).write_text(text)


if __name__ == "__main__":
    main()

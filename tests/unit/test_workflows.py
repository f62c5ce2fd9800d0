# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows, where GitHub does not run them: a context that it does not know in a place keeps a workflow from starting.

Source of the table: docs.github.com, "Contexts reference", Context availability.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
RUN = {"github", "inputs", "vars"}
JOB = {*RUN, "needs", "strategy", "matrix"}
STEP = {*JOB, "job", "runner", "env", "secrets", "steps"}
# By the keys from the top, a star for a job's name or a step; the longest that fits counts.
KNOWN = {
    ("run-name",): RUN,
    ("concurrency",): RUN,
    ("env",): {*RUN, "secrets"},
    ("jobs", "*", "concurrency"): JOB,
    ("jobs", "*", "container"): JOB,
    ("jobs", "*", "continue-on-error"): JOB,
    ("jobs", "*", "defaults"): JOB | {"env"},
    ("jobs", "*", "env"): JOB | {"secrets"},
    ("jobs", "*", "environment"): JOB,
    ("jobs", "*", "if"): {*RUN, "needs"},
    ("jobs", "*", "name"): JOB,
    ("jobs", "*", "outputs"): STEP,
    ("jobs", "*", "runs-on"): JOB,
    ("jobs", "*", "steps"): STEP,
    ("jobs", "*", "steps", "*", "if"): STEP - {"secrets"},
    ("jobs", "*", "strategy"): {*RUN, "needs"},
    ("jobs", "*", "timeout-minutes"): JOB,
}
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STRING = re.compile(r"'(?:[^']|'')*'")
CONTEXT = re.compile(r"(?<![\w.-])([a-z]+)(?=[.\[])")


def unknown(document: Any) -> list[str]:
    """What a workflow asks for where GitHub does not have it, as ``place: context``."""
    return [
        f"{'.'.join(place)}: {context}"
        for place, text in texts(document)
        for context in contexts(place, text)
        if context not in known(place)
    ]


def texts(document: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """All texts of a document with the keys to them."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from texts(value, (*place, str(key)))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from texts(value, (*place, str(index)))
    elif isinstance(document, str):
        yield place, document


def contexts(place: tuple[str, ...], text: str) -> list[str]:
    """The contexts that a text's expressions name; a condition is an expression as a whole."""
    expressions = EXPRESSION.findall(text) or ([text] if place[-1] == "if" else [])
    return [context for one in expressions for context in CONTEXT.findall(STRING.sub("", one))]


def known(place: tuple[str, ...]) -> set[str]:
    """The contexts that GitHub has in a place."""
    fitting = [
        keys
        for keys in KNOWN
        if len(keys) <= len(place) and all(key in {"*", there} for key, there in zip(keys, place, strict=False))
    ]
    return KNOWN[max(fitting, key=len)] if fitting else set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_asks_only_for_what_github_has_there(path: Path) -> None:
    assert unknown(yaml.safe_load(path.read_text())) == []


def test_what_it_does_not_have_there_is_found() -> None:
    step = {"env": {"A": "${{ runner.temp }}/x"}, "if": "secrets.B != '' && runner.os == 'Linux'"}
    job = {
        "env": {"C": "${{ vars.D }} ${{ runner.temp }}", "E": "${{ env.F }}"},
        "if": "matrix.g == 'env.h'",
        "steps": [step],
    }
    assert unknown(
        {"jobs": {"one": job}, "env": {"I": "${{ secrets['J'] }}", "K": "${{ format('{0}', job.status) }}"}}
    ) == [
        "jobs.one.env.C: runner",
        "jobs.one.env.E: env",
        "jobs.one.if: matrix",
        "jobs.one.steps.0.if: secrets",
        "env.K: job",
    ]

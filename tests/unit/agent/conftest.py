# SPDX-License-Identifier: GPL-3.0-or-later
"""Every answer that a verb gives in these tests is held to its declared type, and so to its schema in the docs."""

from __future__ import annotations

import json

import pytest
from scalr_backup.cli.output import JsonOutput
from scalr_backup.core.records.reading import faults, listed
from scalr_backup.core.verbs import ANSWERS


@pytest.fixture(autouse=True, scope="session")
def _answers_are_as_declared():
    print_result = JsonOutput.result

    def result(self, verb, outcome):
        data = json.loads(json.dumps(outcome.data, default=str))
        found = [faults(kind, data) for kind in ANSWERS.get(verb, ())] if data else []
        assert not found or [] in found, f"{verb} answers otherwise: {'; or '.join(map(listed, found))}"
        print_result(self, verb, outcome)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonOutput, "result", result)
        yield

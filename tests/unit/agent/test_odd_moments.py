# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says of a database that is being dropped, or whose DROP was interrupted, costs its other databases nothing."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.config import Config
from scalr_backup.core.errors import InvalidAnswerError
from scalr_backup.core.model import Container
from scalr_backup.tools import postgres

DOCUMENT = {"Id": "1", "Name": "/scalr-shop-db", "State": {"Status": "running"}, "Config": {"Image": "postgres:17"}}


def test_the_size_of_a_database_without_files_is_asked_for_as_a_number():
    """PostgreSQL says null of it."""
    text = "".join(path.read_text() for path in Path(postgres.__file__).parent.glob("*.py"))
    asked = re.findall(r"(\S*)pg_database_size\([^)]*\)(.{3})", text)
    assert len(asked) >= 3
    assert {(before.split("(")[-2], after) for before, after in asked} == {("COALESCE", ", 0")}


@pytest.mark.parametrize(("code", "seconds"), [("invalid_answer", 20), (None, 100), ("late_answer", 100)])
def test_what_has_answered_nonsense_is_asked_again_in_no_more_time_than_at_first(code, seconds):
    asked = []

    class Doors(Discovery):
        def postgres(self, _container, _credentials, _application, *, seconds):
            asked.append(round(seconds))
            return SimpleNamespace(server_version=lambda: "17.6", databases=lambda: ((), ()), kept_open=nullcontext)

    engine = SimpleNamespace(inspect=lambda _one: DOCUMENT, power=lambda _document, accepted: None)
    was = Container("1", "scalr-shop-db", "postgres:17", "sha256:aa", "running", "unreachable", "nonsense", code=code)
    container, cluster = Doors(Config(host="h", repository="/r", look_seconds=20), engine).look_again(was, "look")
    assert (container.status, asked) == ("ok", [seconds])
    assert cluster is not None


def test_what_answers_nonsense_twice_is_told_so():
    class Doors(Discovery):
        def postgres(self, _container, _credentials, _application, *, seconds):
            assert seconds > 0
            return SimpleNamespace(
                server_version=lambda: (_ for _ in ()).throw(InvalidAnswerError("nonsense")), kept_open=nullcontext
            )

    engine = SimpleNamespace(inspect=lambda _one: DOCUMENT, power=lambda _document, accepted: None)
    was = Container(
        "1", "scalr-shop-db", "postgres:17", "sha256:aa", "running", "unreachable", "x", code="invalid_answer"
    )
    container, cluster = Doors(Config(host="h", repository="/r"), engine).look_again(was, "look")
    assert (container.status, container.code, cluster) == ("unreachable", "invalid_answer", None)
    assert container.reason == "nonsense"

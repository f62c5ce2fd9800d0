# SPDX-License-Identifier: GPL-3.0-or-later
"""What verbs answer is declared, and the schemas in the docs are made of that."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scalr_backup.actions.backup.result import PassResult
from scalr_backup.actions.drill.result import DatabaseDrill, DrillResult
from scalr_backup.actions.health.status import judge
from scalr_backup.actions.opening import Opened, Rehearsal, Which
from scalr_backup.actions.repository.copy import Copied
from scalr_backup.actions.repository.keys import KeyList
from scalr_backup.actions.repository.maintenance import Cared
from scalr_backup.actions.restore.result import DatabaseRestore
from scalr_backup.actions.retention.pins import Pinned
from scalr_backup.actions.retention.policy import Decision
from scalr_backup.actions.retention.run import Forgotten
from scalr_backup.cli.app import app
from scalr_backup.cli.tables import TABLES
from scalr_backup.core.answers import RestoredAnswer
from scalr_backup.core.config import Config
from scalr_backup.core.model import DatabaseBackup, Failure, Key, Snapshot, Volume
from scalr_backup.core.records.reading import faults, listed
from scalr_backup.core.verbs import ANSWERS

CHECKOUT = Path(__file__).resolve().parents[3]
RECORDS = Path(__file__).parent / "records"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAILURE = Failure("dump_failed", "It ended.")
SNAPSHOT = Snapshot("a" * 64, NOW, "web1", "/scalr-shop-db/shop.dump", ("scalr-shop-db", "run=r", "nightly"), 9)


def status_of(release):
    document = json.loads((RECORDS / release / "state.json").read_text())
    config = Config(host="web1", repository="/repository", copy={"repository": "s3:https://s3.example/copy"})
    return judge(config, "/repository", document, NOW, NOW).as_dict()


def a_pass():
    databases = [
        DatabaseBackup("c", "good", ok=True, snapshot_id="a"),
        DatabaseBackup("c", "bad", ok=False, error=FAILURE),
    ]
    return PassResult(
        "r", "nightly", "web1", NOW, NOW, databases, error=FAILURE, copy=Copied("s3:x", ok=False, time=NOW.isoformat()),
        matches={"gone": [], "stopped": [], "states": {}, "kept": []}, roles={"c": None, "d": FAILURE},
        volumes={"c": Volume("/d", 1, 2), "d": None},
    ).as_dict()  # fmt: skip


REAL = {
    "a pass": ("backup", a_pass()),
    "a copy": ("copy", Copied("s3:x", ok=True, time=NOW.isoformat(), copied=2, removed=("a",)).as_dict()),
    "a drill": (
        "drill",
        DrillResult("r", "web1", NOW, NOW, [DatabaseDrill("c", "d", "a", NOW, error=FAILURE)]).as_dict(),
    ),
    "a forget": ("forget", Forgotten(("a",), 3, pruned=True, decisions=(Decision(SNAPSHOT, keep=True, why=("daily",)),)).as_dict()),
    "a pin": ("pin", Pinned("a", "b", pinned=True, changed=True).as_dict()),
    "keys": ("key", KeyList("/r", "id", (Key("k", "scalr-backup", "web1", "2026", current=True),), ("db2",)).as_dict()),
    "a rehearsal": (
        "rehearse",
        Rehearsal({Which.REPOSITORY: Opened("/r", created=False, repository_id="id")}).as_dict(),
    ),
    "a check": ("check", Cared("r", (1, 2), 4).as_dict()),
    "snapshots": ("snapshots", {"snapshots": [SNAPSHOT.as_dict()]}),
    **{f"a status of {path.name}": ("status", status_of(path.name)) for path in sorted(RECORDS.iterdir()) if path.is_dir()},
}  # fmt: skip


def schemas():
    spec = importlib.util.spec_from_file_location("make_schemas", CHECKOUT / "tools/make_schemas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.texts()


def test_the_schemas_in_the_docs_are_those_of_the_types():
    there = {path.name: path.read_text() for path in (CHECKOUT / "docs/schemas").glob("*.json")}
    assert there == schemas(), "make them anew: tools/make_schemas.py"


def test_each_verb_that_answers_has_declared_what():
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(ANSWERS) == set(TABLES) == verbs - {"serve", "version"}


@pytest.mark.parametrize("name", REAL)
def test_a_real_answer_is_as_declared(name):
    verb, data = REAL[name]
    answer = json.loads(json.dumps(data))
    found = [faults(kind, answer) for kind in ANSWERS[verb]]
    assert [] in found, [listed(one) for one in found]
    declared = [kind for kind, wrong in zip(ANSWERS[verb], found, strict=True) if not wrong]
    assert set(answer) <= set().union(*(kind.__annotations__ for kind in declared)), "all of it is declared"


def test_what_a_restore_came_to_is_as_declared():
    assert not faults(RestoredAnswer, DatabaseRestore("d", "a", seconds={"data": 1.0}, error=FAILURE).as_dict())

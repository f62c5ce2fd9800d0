"""What is stable is written down, and the code is held to it: see docs/stability.md."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.unit.test_docs import section, table

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/stability.md"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_surface", CHECKOUT / "tools/make_surface.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load_tool()


@pytest.fixture(scope="module")
def now() -> dict[str, list[str]]:
    """What the code has."""
    return TOOL.surface()


def test_nothing_that_is_stable_is_gone(now: dict[str, list[str]]) -> None:
    lost = TOOL.gone(TOOL.written(), now)
    version = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]
    wanted = "major" if int(version.split(".")[0]) else "minor (before 1.0.0)"
    assert not lost, (
        f"{lost} is gone, was renamed or has another type. That breaks whoever uses it, so semantic versioning demands a new "
        f"{wanted} version: bring it back, or keep the old one beside the new one and deprecate it (docs/stability.md)."
    )


def test_what_is_new_is_written_down(now: dict[str, list[str]]) -> None:
    assert TOOL.new(TOOL.written(), now) == [], "new, and stable from the next release on: run tools/make_surface.py"


def test_the_file_is_as_the_tool_writes_it(now: dict[str, list[str]]) -> None:
    assert TOOL.SURFACE.read_text() == json.dumps(now, indent=1, ensure_ascii=False) + "\n"


def test_the_page_explains_every_part_of_the_list(now: dict[str, list[str]]) -> None:
    assert table(PAGE, "part") == set(now)


def test_what_is_said_not_to_be_stable_is_so() -> None:
    text = section(PAGE, "What is not stable")
    for module in TOOL.INTERNAL_MODULES:
        assert f"`{module}`" in text
        assert not [line for line in TOOL.written()["modules"] if line.startswith(module)]
    no_release = re.search(r"\*\*(.*)\*\*, which no release contains", text)
    assert no_release
    ignored = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["build_ignore"]
    assert {name.strip("/") for name in re.findall(r"`([\w/]+)`", no_release[1])} <= set(ignored)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("role variables", "backup: backup_schedule (str)"),
        ("role variables", "backup: backup_row_order = off"),
        ("role variables", "backup: backup_containers (list of str)"),
        ("playbooks", "restore"),
        ("playbook variables", "restore: confirm (text)"),
        ("playbook variables", "every playbook: backup_hosts (text)"),
        ("modules", "database_backup: db (list of str)"),
        ("modules", "database_backup: agent (str)"),
        ("modules", "database_restore: from_host (str)"),
        ("modules", "database_backup returns databases (list)"),
        ("verbs", "restore --snapshot"),
        ("verbs", "pin SNAPSHOT"),
        ("exit codes", "3 some_databases_failed"),
        ("error codes", "wrong_password"),
        ("findings", "backup_too_old"),
        ("doctor's checks", "unmatched"),
        ("JSON", "doctor: data.checks[].verdict = skipped"),
        ("JSON", "status: data.findings[].code (string)"),
        ("JSON", "status: error.code (string)"),
        ("metrics", "scalr_backup_findings{severity, code, container, database} gauge"),
        ("log", "field run"),
        ("log", "level error"),
        ("labels", "scalr.backup"),
        ("labels", "scalr.backup.name"),
        ("labels", "scalr.backup.user"),
        ("environment", "BACKUP_SCHEDULE"),
        ("environment", "BACKUP_COPY_KEEP"),
        ("environment", "BACKUP_PASSWORD_FILE"),
        ("environment", "BACKUP_MEMORY"),
        ("environment", "DOCKER_SOCKET"),
        ("repository", "path /<container>/<database>.dump"),
        ("repository", "tag pinned"),
        ("on the host", "container scalr-backup"),
    ],
)
def test_the_list_has_what_people_rely_on(now: dict[str, list[str]], part: str, line: str) -> None:
    assert line in now[part]


def test_every_part_is_in_the_list(now: dict[str, list[str]]) -> None:
    """One that is empty has lost the way to the code."""
    assert not [part for part, lines in now.items() if not lines]


def test_no_variable_is_in_the_list_that_the_agent_refuses(now: dict[str, list[str]]) -> None:
    from scalr_backup.core import environment

    assert not set(now["environment"]) & {*environment._SECRETS, *environment.OF_ROLE}


def test_a_field_that_becomes_optional_null_or_another_word_is_seen() -> None:
    def fields(**changes: object) -> set[str]:
        schema = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"items": {"properties": {"c": {"type": "integer"}}}}},
            "required": ["a", "b"],
            **changes,
        }
        return set(TOOL._fields("", schema, {"A": {"enum": ["x", "y"], "type": "string"}}))

    whole = fields()
    assert whole == {"a (string)", "a = x", "a = y", "b (object)", "b[].c? (integer)"}
    assert whole - fields(required=["b"]) == {"a (string)"}
    nullable = {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}
    assert fields(properties=nullable) == {"a (null or string)"}


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A list of two lines."""
    path = tmp_path / "stability.json"
    path.write_text(json.dumps({"verbs": ["backup", "restore"]}))
    monkeypatch.setattr(TOOL, "SURFACE", path)
    return path


def test_what_is_new_is_added(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOOL, "surface", lambda: {"verbs": ["backup", "doctor", "restore"], "labels": ["l"]})
    assert TOOL.main([]) == 0
    assert json.loads(file.read_text()) == {"verbs": ["backup", "doctor", "restore"], "labels": ["l"]}


def test_what_is_gone_is_taken_out_only_by_whoever_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TOOL, "surface", lambda: {"verbs": ["backup"]})
    assert TOOL.main([]) == 1
    assert "verbs: restore" in capsys.readouterr().err
    assert json.loads(file.read_text()) == {"verbs": ["backup", "restore"]}
    assert TOOL.main(["--remove"]) == 0
    assert json.loads(file.read_text()) == {"verbs": ["backup"]}

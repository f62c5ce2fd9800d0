"""The generated reference is that of the code, and what it is generated from is complete."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils import _variables
from scalr_backup.actions import documents
from scalr_backup.core import naming, order_wish
from scalr_backup.core.connection import LABEL_PREFIX, Connection
from scalr_backup.core.kinds import KINDS
from scalr_backup.core.labels import LABELS

from tests.unit.agent.test_findings import WRONG
from tests.unit.agent.test_floors import PACKAGE

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", CHECKOUT / "tools/make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_code(tool: ModuleType) -> None:
    there = {str(path.relative_to(DOCS)): path.read_text() for path in (DOCS / "reference").glob("*.md")}
    wanted = tool.texts()
    assert set(there) == set(wanted)
    different = [name for name, text in wanted.items() if there[name] != text]
    assert not different, "make them anew: tools/make_reference.py"


def test_the_first_page_is_that_of_the_navigation(tool: ModuleType) -> None:
    assert (DOCS / "README.md").read_text() == tool.first_page(), "make it anew: tools/make_reference.py"


def test_every_page_has_one_place_in_the_navigation(tool: ModuleType) -> None:
    import navigation

    places = [page for section in navigation.SECTIONS for page in section.pages()]
    there = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"README"}
    assert sorted(places) == sorted(there)


def test_words_become_no_markup(tool: ModuleType) -> None:
    assert tool.plain("``a_b`` <c> d_e *f*") == r"`a_b` \<c\> d_e \*f\*"
    assert tool.table(["a"], [["x | y\nz"]]) == "| a |\n| --- |\n| x \\| y z |"


def test_every_finding_is_one_that_the_agent_makes() -> None:
    """By its code as the source has it, and by how severe the examples of the findings' own tests are."""
    source = "".join(
        path.read_text()
        for path in [*PACKAGE.rglob("actions/health/*.py"), CHECKOUT / "plugins/modules/status_info.py"]
    )
    words = {
        node.value
        for node in ast.walk(ast.parse(source.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.Constant)
    }
    # Made of the name of what failed.
    composed = {f"{where}{what}_failed" for where in ("", "copy_") for what in ("forget", "prune", "check")}
    assert {code for code in KINDS if code not in words} <= composed
    for code, (_state, severity, *_rest) in WRONG.items():
        assert KINDS[code].severity == severity, code


def test_the_page_of_alerts_says_of_findings_what_the_code_says() -> None:
    text = (DOCS / "alerts.md").read_text().split("| finding |")[1].split("\n\n")[0]
    told = {}
    for line in text.splitlines()[2:]:
        codes, severity, meaning = line.strip("| ").split(" | ", 2)
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning)
        told |= dict.fromkeys(re.findall(r"`([a-z_]+)`", codes), (severity, words))
    assert told == dict(KINDS)


def test_the_labels_are_those_that_the_agent_reads() -> None:
    of_the_connection = {f"{LABEL_PREFIX}{name}" for name in Connection.model_fields}
    assert set(LABELS) == {documents.LABEL, order_wish.LABEL, *naming.LABELS, *of_the_connection}


def test_every_variable_of_a_playbook_says_what_it_is_for() -> None:
    own = {(playbook, name) for playbook, names in _variables.PLAYBOOKS.items() for name in names}
    told = {
        f"{playbook}.{name}" if f"{playbook}.{name}" in _variables.MEANINGS else name
        for playbook, name in own
        if name not in _variables.OLD_NAMES
    }
    assert told | set(_variables.EVERYWHERE) == set(_variables.MEANINGS)

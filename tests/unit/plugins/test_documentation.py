# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says is what the code does."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.role_variables import role_variables, variable_files

CHECKOUT = Path(__file__).resolve().parents[3]
ROLE = CHECKOUT / "roles/backup"
ACTIONS = {path.stem for path in (CHECKOUT / "plugins/action").glob("*.py")}
# A module without a main function is the documentation of an action plugin that does it all.
MODULES = sorted(
    path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py") if "\ndef main()" in path.read_text()
)
FILTERS = sorted(path.stem for path in (CHECKOUT / "plugins/filter").glob("*.py"))
PLAYBOOKS = sorted((CHECKOUT / "playbooks").glob("*.yml"))


def read_yaml(path: str) -> Any:
    return yaml.safe_load((CHECKOUT / path).read_text())


def module_named(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.scalr.backup.plugins.modules.{name}")


def documented_options(name: str) -> dict[str, Any]:
    """The options of a module, with those of the fragments that it extends."""
    documentation = yaml.safe_load(module_named(name).DOCUMENTATION)
    options = dict(documentation.get("options", {}))
    for fragment in documentation["extends_documentation_fragment"]:
        _namespace, _collection, file, *section = fragment.split(".")
        plugin = importlib.import_module(f"ansible_collections.scalr.backup.plugins.doc_fragments.{file}")
        text = getattr(plugin.ModuleDocFragment, section[0].upper() if section else "DOCUMENTATION")
        options.update(yaml.safe_load(text).get("options", {}))
    return options


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a module hands to AnsibleModule."""
    captured = {}

    class CapturedError(Exception):
        pass

    def capture(**arguments):
        captured.update(arguments)
        raise CapturedError

    module = module_named(name)
    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(CapturedError):
        module.main()
    assert captured["supports_check_mode"] is True
    return captured["argument_spec"]


def test_the_modules_are_found():
    assert {"database_backup", "database_info", "database_restore", "repository", "snapshot_info"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_the_documented_options_are_those_that_the_module_takes(name, monkeypatch):
    facets = ("type", "default", "required", "choices", "elements")

    documented = {
        option: {facet: facts[facet] for facet in facets if facet in facts}
        for option, facts in documented_options(name).items()
    }

    # Documentation has no word for no_log.
    taken = {
        option: {facet: facts[facet] for facet in facts if facet != "no_log"}
        for option, facts in argument_spec(name, monkeypatch).items()
    }
    assert documented == taken


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_in_the_action_group(name):
    assert name in read_yaml("meta/runtime.yml")["action_groups"]["backup"]


def test_the_action_group_names_no_other_module():
    assert read_yaml("meta/runtime.yml")["action_groups"]["backup"] == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_examples_and_return_values(name):
    module = module_named(name)
    examples, returned = yaml.safe_load(module.EXAMPLES), yaml.safe_load(module.RETURN)

    assert any(f"scalr.backup.{name}" in task for task in examples)
    assert all(value["description"] and value["returned"] and value["type"] for value in returned.values())


@pytest.mark.parametrize("name", MODULES)
def test_every_description_is_text_for_ansible_doc_too(name):
    """A colon in an unquoted sentence makes a mapping of it, which ansible-doc refuses as a whole."""
    options = yaml.safe_load(module_named(name).DOCUMENTATION).get("options") or {}
    described = [sentence for option in options.values() for sentence in option["description"]]
    assert all(isinstance(sentence, str) for sentence in described)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_every_action_plugin_is_documented_by_a_module(name):
    assert yaml.safe_load(module_named(name).DOCUMENTATION)["module"] == name


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_the_one_that_its_file_names(name):
    plugin = importlib.import_module(f"ansible_collections.scalr.backup.plugins.filter.{name}")

    assert list(plugin.FilterModule().filters()) == [name]
    assert yaml.safe_load(plugin.DOCUMENTATION)["name"] == name


def test_modules_and_their_utility_import_nothing_from_third_parties():
    allowed = {"__future__", "collections", "contextlib", "dataclasses", "ipaddress", "json", "pathlib", "re", "socket"}
    allowed |= {"math", "os", "struct", "typing", "urllib"}
    allowed |= {"ansible", "ansible_collections"}
    for path in [*(CHECKOUT / "plugins/modules").glob("*.py"), *(CHECKOUT / "plugins/module_utils").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in allowed, path


def role_options() -> dict[str, Any]:
    return read_yaml("roles/backup/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def test_every_variable_of_the_role_is_specified_with_its_default():
    specified = {name: option["default"] for name, option in role_options().items()}

    assert specified == read_yaml("roles/backup/defaults/main.yml")


def test_every_variable_of_the_role_stands_in_its_readme():
    readme = (ROLE / "README.md").read_text()

    missing = [name for name in role_options() if f"`{name}`" not in readme]

    assert missing == []


def test_the_readme_names_no_variable_that_does_not_exist():
    readme = (ROLE / "README.md").read_text()

    assert set(re.findall(r"\bbackup_[a-z_]+\b", readme)) <= set(role_options())


def test_the_role_uses_no_variable_that_is_not_specified():
    used = set()
    for path in [*(ROLE / "tasks").glob("*.yml"), *variable_files(ROLE)]:
        used |= set(re.findall(r"(?<![\w.])backup_[a-z_]+\b", path.read_text()))

    entries = read_yaml("roles/backup/meta/argument_specs.yml")["argument_specs"].values()
    assert used <= {name for entry in entries for name in entry["options"]}


@pytest.mark.parametrize("role", sorted((CHECKOUT / "roles").iterdir()), ids=lambda role: role.name)
def test_no_internal_variable_stands_in_two_files(role):
    """The last one would count, without a word."""
    names = [name for path in variable_files(role) for name in yaml.safe_load(path.read_text())]

    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_versions_agree():
    version = read_yaml("galaxy.yml")["version"]

    assert role_variables(ROLE)["__backup_version"] == version
    assert version in read_yaml("changelogs/changelog.yaml")["releases"]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)
def test_every_playbook_runs_on_the_hosts_that_backup_hosts_names_and_there_has_to_be_one(path):
    first = yaml.safe_load(path.read_text())[0]

    some = "scalr.backup.some_hosts(groups, ansible_limit | default(''))"
    assert first["hosts"] == f"{{{{ backup_hosts | default('all') | {some} }}}}"


def test_the_playbook_that_restores_fits_on_two_screens():
    """What chooses, compares or builds lines for people is code with tests of its own."""
    text = (CHECKOUT / "playbooks/restore.yml").read_text()
    assert text.count("\n") < 120
    assert "{%" not in text

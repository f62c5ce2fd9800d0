"""What the tests keep of Ansible's modules (tests/support/compiled) says the same as the sources that it was made from."""

from __future__ import annotations

import ast
import atexit
import gc
import importlib.util
import subprocess
import sys
import zipimport
from pathlib import Path
from types import ModuleType

import ansible
import pytest
from ansible.executor.module_common import ModuleDepFinder

CHECKOUT = Path(__file__).resolve().parents[2]
COMPILED = CHECKOUT / "tests" / "support" / "compiled"
OWN = CHECKOUT / "plugins"
COLLECTIONS = CHECKOUT / ".ansible" / "collections" / "ansible_collections"
CORE = Path(ansible.__file__).parent
FOLDERS = (
    OWN / "modules",
    OWN / "module_utils",
    CORE / "modules",
    CORE / "module_utils",
    COLLECTIONS / "community/docker/plugins",
)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The code; what it does to a Python when it is read is undone in this one."""
    finders, limits, compiles = list(sys.meta_path), gc.get_threshold(), zipimport._compile_source
    spec = importlib.util.spec_from_file_location("tests_compiled", COMPILED / "sitecustomize.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.meta_path[:], zipimport._compile_source = finders, compiles
    gc.set_threshold(*limits)
    atexit.unregister(gc.freeze)
    return module


def found(tree: ast.Module, package: bool) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """What Ansible sends along with a module of this tree, and what of it the module can do without."""
    finder = ModuleDepFinder("ansible_collections.scalr.backup.plugins.modules.one", tree, package)
    return finder.submodules, finder.optional_imports


def test_ansible_finds_the_same_imports_in_what_is_kept(compiled: ModuleType) -> None:
    sources = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
    assert len(sources) > 100

    differing = []
    for path in sources:
        tree = ast.parse(path.read_bytes())
        kept = ast.parse(compiled._imports_of(tree))
        package = path.name == "__init__.py"
        if found(kept, package) != found(ast.parse(path.read_bytes()), package):
            differing.append(path)
    assert differing == []


def test_an_import_that_a_module_can_do_without_stays_one(compiled: ModuleType) -> None:
    source = """
METADATA = "schema_version: 1"
from ansible.module_utils.basic import AnsibleModule
try:
    from ansible.module_utils.urls import fetch_url
except ImportError:
    def lacking():
        match fetch_url:
            case None:
                import ansible.module_utils.facts
"""
    assert compiled._imports_of(ast.parse(source)).splitlines() == [
        "METADATA = 'schema_version: 1'",
        "from ansible.module_utils.basic import AnsibleModule",
        "if True:",
        "    from ansible.module_utils.urls import fetch_url",
        "    import ansible.module_utils.facts",
    ]


def test_it_is_what_ansible_parses_with_and_a_changed_source_is_parsed_anew(compiled: ModuleType) -> None:
    """In a Python of its own, as a playbook has it."""
    program = """
import ast, sys
from ansible.executor import module_common
assert module_common.compile.__name__ == "_parse_once"
for word in ("one", "two", "one"):
    source = f"from ansible.module_utils.{word} import thing\\nx = 1\\n"
    [node] = module_common.compile(source, "a file", "exec", ast.PyCF_ONLY_AST).body
    assert node.module == f"ansible.module_utils.{word}", ast.dump(node)
try:
    module_common.compile("this is no Python", "a file", "exec", ast.PyCF_ONLY_AST)
except SyntaxError as error:
    print(error.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(COMPILED)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "a file\n"), done.stderr

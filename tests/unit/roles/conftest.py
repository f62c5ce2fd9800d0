"""What role backup makes of its variables, without a host."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from tests.support.ansible_core import load_variables, templar
from tests.support.role_variables import variable_files


def collection_filters() -> dict[str, Callable[..., Any]]:
    """The collection's filters by their names."""
    files = (Path(__file__).resolve().parents[3] / "plugins/filter").glob("*.py")
    modules = [import_module(f"ansible_collections.scalr.backup.plugins.filter.{path.stem}") for path in files]
    return {name: function for module in modules for name, function in module.FilterModule().filters().items()}


@pytest.fixture(scope="session")
def derived(checkout: Path):
    """Evaluate derived variables of the role, as they would be on a host."""
    loader = DataLoader()
    role = checkout / "roles/backup"
    known: dict[str, Any] = {}
    for file in (role / "defaults/main.yml", *variable_files(role)):
        known.update(load_variables(loader, str(file)))

    evaluates = templar(loader, {f"scalr.backup.{name}": function for name, function in collection_filters().items()})

    def derive(name: str, host: str = "web1", **variables: Any) -> Any:
        evaluates.available_variables = {**known, "inventory_hostname": host, **variables}
        return evaluates.template(known[name])

    return derive

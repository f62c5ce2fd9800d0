"""What role backup makes of its variables, without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.support.ansible_core import load_variables
from tests.support.role_variables import variable_files


@pytest.fixture(scope="session")
def derived(checkout: Path):
    """Evaluate derived variables of the role, as they would be on a host."""
    loader = DataLoader()
    role = checkout / "roles/backup"
    known: dict[str, Any] = {}
    for file in (role / "defaults/main.yml", *variable_files(role)):
        known.update(load_variables(loader, str(file)))

    def derive(name: str, host: str = "web1", **variables: Any) -> Any:
        return Templar(loader, variables={**known, "inventory_hostname": host, **variables}).template(known[name])

    return derive

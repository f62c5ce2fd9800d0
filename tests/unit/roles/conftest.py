"""What role backup makes of its variables, without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.support.ansible_core import load_variables


@pytest.fixture(scope="session")
def derived(checkout: Path):
    """Evaluate derived variables of the role, as they would be on a host."""
    loader = DataLoader()
    known: dict[str, Any] = {}
    for file in ("defaults", "vars"):
        known.update(load_variables(loader, str(checkout / "roles/backup" / file / "main.yml")))

    def derive(name: str, host: str = "web1", **variables: Any) -> Any:
        return Templar(loader, variables={**known, "inventory_hostname": host, **variables}).template(known[name])

    return derive

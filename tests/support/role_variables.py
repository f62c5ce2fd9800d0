"""The internal variables of a role: one file, or a directory of one file for each topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def variable_files(role: Path) -> list[Path]:
    """The files that Ansible reads, in its order."""
    directory, file = role / "vars/main", role / "vars/main.yml"
    if directory.is_dir():
        return sorted(directory.glob("*.yml"))
    return [file] if file.is_file() else []


def role_variables(role: Path) -> dict[str, Any]:
    """The variables, not evaluated."""
    return {name: value for file in variable_files(role) for name, value in yaml.safe_load(file.read_text()).items()}

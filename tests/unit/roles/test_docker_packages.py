"""What role docker would install where: every family that it promises, without a machine of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.support.ansible_core import load_variables

CE = ["docker-ce", "docker-ce-cli", "containerd.io", "iptables"]


def derived(checkout: Path, name: str, distribution: str, family: str, **variables: Any) -> Any:
    """Evaluate one of the role's derived variables as it would be on a host of this distribution."""
    loader = DataLoader()
    known = {}
    for file in ("defaults", "vars"):
        known.update(load_variables(loader, str(checkout / "roles/docker" / file / "main.yml")))
    known.update(variables, ansible_facts={"distribution": distribution, "os_family": family})
    return Templar(loader, variables=known).template(known[name])


@pytest.mark.parametrize(
    ("distribution", "family", "packages"),
    [
        ("Debian", "Debian", ["docker.io", "iptables"]),
        ("Ubuntu", "Debian", ["docker.io", "iptables"]),
        ("RedHat", "RedHat", CE),
        ("Rocky", "RedHat", CE),
        ("AlmaLinux", "RedHat", CE),
        ("CentOS", "RedHat", CE),
        ("Fedora", "RedHat", CE),
    ],
)
def test_packages_by_default(checkout: Path, distribution: str, family: str, packages: list[str]) -> None:
    assert derived(checkout, "docker_packages_in_use", distribution, family) == packages


@pytest.mark.parametrize("distribution", ["Debian", "Ubuntu"])
def test_packages_from_docker(checkout: Path, distribution: str) -> None:
    found = derived(checkout, "docker_packages_in_use", distribution, "Debian", docker_package_source="docker")
    assert found == CE


def test_packages_that_the_user_names(checkout: Path) -> None:
    found = derived(checkout, "docker_packages_in_use", "Debian", "Debian", docker_packages=["docker.io=26*"])
    assert found == ["docker.io=26*"]


@pytest.mark.parametrize(
    ("distribution", "family", "directory"),
    [
        ("Debian", "Debian", "debian"),
        ("Ubuntu", "Debian", "ubuntu"),
        ("RedHat", "RedHat", "rhel"),
        ("Rocky", "RedHat", "centos"),
        ("OracleLinux", "RedHat", "centos"),
        ("Fedora", "RedHat", "fedora"),
    ],
)
def test_repository_directory(checkout: Path, distribution: str, family: str, directory: str) -> None:
    assert derived(checkout, "docker_repository_distribution", distribution, family) == directory

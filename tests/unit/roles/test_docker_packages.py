"""What role docker would install where: every family that it promises, without a machine of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.support.ansible_core import load_variables, trusted

CE = ["docker-ce", "docker-ce-cli", "containerd.io", "iptables"]


def derived(checkout: Path, name: str, distribution: str, family: str, **variables: Any) -> Any:
    """Evaluate one of the role's derived variables as it would be on a host of this distribution."""
    known = derived_all(checkout, distribution, family, **variables)
    return known.template(known.available_variables[name])


def derived_all(checkout: Path, distribution: str, family: str, **variables: Any) -> Templar:
    """What evaluates expressions as they would be on a host of this distribution."""
    loader = DataLoader()
    known = {}
    for file in ("defaults", "vars"):
        known.update(load_variables(loader, str(checkout / "roles/docker" / file / "main.yml")))
    known.update(variables, ansible_facts={"distribution": distribution, "os_family": family})
    return Templar(loader, variables=known)


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


@pytest.mark.parametrize(
    ("distribution", "family", "changes", "refused"),
    [
        ("Debian", "Debian", {}, False),
        ("Ubuntu", "Debian", {}, False),
        ("Linux Mint", "Debian", {}, True),
        ("Linux Mint", "Debian", {"docker_package_source": "distribution"}, False),
        ("Linux Mint", "Debian", {"docker_install_engine": False}, False),
        ("Kali", "Debian", {}, True),
        *(
            (distribution, "RedHat", {}, False)
            for distribution in ("RedHat", "CentOS", "Rocky", "AlmaLinux", "OracleLinux")
        ),
        ("Fedora", "RedHat", {}, False),
        # Of the same family, but with releases of its own: there is no engine for them.
        ("Amazon", "RedHat", {}, True),
        ("Amazon", "RedHat", {"docker_package_source": "distribution"}, True),
        ("openEuler", "RedHat", {}, True),
        ("Amazon", "RedHat", {"docker_install_engine": False}, False),
        # Another sentence is for other families.
        ("Alpine", "Alpine", {}, False),
    ],
)
def test_a_distribution_that_docker_has_no_packages_for_is_refused(
    checkout: Path, distribution: str, family: str, changes: dict[str, Any], refused: bool
) -> None:
    """Before a repository is added that has nothing for it, which the package manager would stumble over from then on."""
    tasks = yaml.safe_load((checkout / "roles/docker/tasks/preflight.yml").read_text())
    [task] = [task for task in tasks if task["name"] == "Reject a distribution that Docker has no packages for"]
    given = {"docker_install_engine": True, "docker_package_source": "docker", "inventory_hostname": "web1", **changes}
    known = derived_all(checkout, distribution, family, **given)
    holds = [str(known.template(trusted(f"{{{{ {condition} }}}}"))) == "True" for condition in task["when"]]
    assert all(holds) is refused
    sentence = known.template(trusted(task["ansible.builtin.fail"]["msg"]))
    assert sentence.startswith(f"Docker's repository has no packages for {distribution}, the distribution of web1: ")
    assert ("docker_package_source: distribution" in sentence) is (family == "Debian")


@pytest.mark.parametrize(
    ("family", "changes", "lacks"),
    [
        ("Debian", {}, True),
        ("Debian", {"docker_command_missing": False}, False),
        ("Debian", {"docker_is_dockers": True}, False),
        ("Debian", {"docker_engine_answers": False}, False),
        # Nothing would install it there, so nothing is foretold either.
        ("RedHat", {}, False),
    ],
)
def test_the_command_alone_is_installed_where_there_is_a_package_of_it(
    checkout: Path, family: str, changes: dict[str, bool], lacks: bool
) -> None:
    found = {"docker_engine_answers": True, "docker_command_missing": True, "docker_is_dockers": False, **changes}
    assert derived(checkout, "docker_lacks_command", family, family, **found) is lacks


@pytest.mark.parametrize(
    ("url", "changes", "refused"),
    [
        ("https://me:canary@mirror.example.com/docker", {}, True),
        ("https://canary@mirror.example.com/docker", {}, True),
        ("https://mirror.example.com/docker", {}, False),
        # Where it would not be used, it does no harm.
        ("https://me:canary@mirror.example.com/docker", {"docker_install_engine": False}, False),
        ("https://me:canary@mirror.example.com/docker", {"docker_package_source": "distribution"}, False),
    ],
)
def test_an_address_with_a_password_reaches_no_package_manager(
    checkout: Path, url: str, changes: dict[str, Any], refused: bool
) -> None:
    """In a sentence that does not repeat it, and before anything is installed."""
    tasks = yaml.safe_load((checkout / "roles/docker/tasks/preflight.yml").read_text())
    [task] = [task for task in tasks if task["name"] == "Reject a password in the repository's address"]
    given = {"docker_install_engine": True, "docker_package_source": "docker", **changes}
    known = derived_all(checkout, "Debian", "Debian", docker_repository_url=url, inventory_hostname="web1", **given)
    holds = [str(known.template(trusted(f"{{{{ {condition} }}}}"))) == "True" for condition in task["when"]]
    assert all(holds) is refused
    sentence = known.template(trusted(task["ansible.builtin.fail"]["msg"]))
    assert "every user on web1 could read" in sentence
    assert "canary" not in sentence

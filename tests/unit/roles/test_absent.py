# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role backup reports when it has removed the agent from a host."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.role_variables import role_variables


def test_the_report_names_what_is_left_of_what_was_read_and_removed(derived: Any, tmp_path: Path) -> None:
    secrets = derived("__backup_secrets_directory")
    contents = {f"{secrets}/password": "of the host\n", f"{secrets}/copy_password": "of the copies\n"}
    lines = [f"{base64.b64encode(text.encode()).decode()} {path}" for path, text in contents.items()]
    read = {"stdout_lines": lines}
    orphans = derived("__backup_orphans", **known_to(tmp_path), __backup_read=read)
    in_use = {"item": "scalr-backup-state", "failed": True, "msg": "Error: volume is in use - [5f0c]"}

    report = derived(
        "__backup_farewell",
        ansible_check_mode=False,
        backup_password_directory=str(tmp_path),
        backup_copy_repository="/mnt/copy",
        __backup_saved=[orphan["path"] for orphan in orphans],
        __backup_saved_in_use=next(orphan["path"] for orphan in orphans if orphan["in_use"]),
        __backup_read=read,
        __backup_removed_volumes={"results": [in_use, {"item": "scalr-backup-cache", "changed": True}]},
    )

    assert report == [
        "web1 no longer has an agent, and nothing backs up its databases. What remains:",
        "  the repository /repository, the Docker volume scalr-backup-repository there",
        f"  its password, in {tmp_path}/web1.password on this controller",
        "  the second repository /mnt/copy",
        "  the Docker volume scalr-backup-state, which another container uses",
        f"  another password that only the host had, in {tmp_path}/web1.copy_password on this controller",
        "To read it: docker run --rm -it --volume scalr-backup-repository:/repository restic/restic:0.19.1 "
        "--repo /repository snapshots --host web1",
        "For the next steps, see docs/restore-without-us.md in the collection.",
    ]
    assert not any("of the host" in line or "of the copies" in line for line in report)


def test_the_password_that_opens_the_repository_is_the_one_that_the_agent_had(derived: Any, tmp_path: Path) -> None:
    report = derived(
        "__backup_farewell",
        ansible_check_mode=False,
        backup_password_directory=str(tmp_path),
        backup_password="given, and another one",
        __backup_saved=["/p/web1.copy_password", "/p/web1.password.on-host"],
        __backup_saved_in_use="/p/web1.password.on-host",
        __backup_read={"stdout_lines": []},
        __backup_removed_volumes={"changed": False, "skipped": True},
    )

    assert report[2:-2] == [
        "  its password, in /p/web1.password.on-host on this controller",
        "  another password that only the host had, in /p/web1.copy_password on this controller",
    ]


def known_to(passwords: Path, **more: Any) -> dict[str, Any]:
    """What is known when the host's files have been read."""
    there = {"results": [{"stat": {"exists": True}}, {"stat": {"exists": True, "isdir": True}}]}
    known = {"__backup_directory_found": there, "__backup_controller_passwords": []}
    return {"backup_password_directory": str(passwords), **known, **more}


@pytest.mark.parametrize("variable", ["backup_password", "backup_copy_password"])
def test_a_password_that_a_variable_holds_needs_no_file(derived: Any, tmp_path: Path, variable: str) -> None:
    path = derived("__backup_password_file")
    read = {"stdout_lines": [f"{base64.b64encode(b'given').decode()} {path}"]}

    assert derived("__backup_orphans", **known_to(tmp_path, **{variable: "given"}), __backup_read=read) == []


@pytest.mark.parametrize(("place", "is_saved"), [("/opt/app", False), ("/opt/scalr/services/backup/config", True)])
def test_an_env_file_that_goes_with_the_agent_keeps_no_password(
    derived: Any, tmp_path: Path, place: str, is_saved: bool
) -> None:
    contents = {derived("__backup_password_file"): "given", f"{place}/.env": "RESTIC_PASSWORD=given"}
    lines = [f"{base64.b64encode(text.encode()).decode()} {path}" for path, text in contents.items()]
    known = known_to(tmp_path, backup_env_file=f"{place}/.env", __backup_read={"stdout_lines": lines})

    assert bool(derived("__backup_orphans", **known)) is is_saved


@pytest.mark.parametrize("written", ["/srv/backup", "/srv/backup/", "//srv///backup//"])
def test_slashes_too_many_make_no_difference(derived: Any, written: str) -> None:
    assert derived("__backup_directory", backup_directory=written) == "/srv/backup"
    assert derived("__backup_secrets_directory", backup_directory=written) == "/srv/backup/secrets"


def test_nothing_is_removed_before_what_is_saved_has_been_read_back(checkout: Path) -> None:
    names = [task["name"] for task in yaml.safe_load((checkout / "roles/backup/tasks/absent.yml").read_text())]
    looks_again = names.index("Fail if a password would be lost")
    assert names.index("Save what only the host has on the controller") < looks_again
    assert [name for name in names[:looks_again] if name.startswith("Remove")] == []


def test_without_an_engine_no_volume_was_tried(derived: Any, tmp_path: Path) -> None:
    report = derived(
        "__backup_farewell",
        ansible_check_mode=True,
        backup_password_directory=str(tmp_path),
        backup_password="given",
        __backup_saved=[],
        __backup_saved_in_use="",
        __backup_read={"stdout_lines": []},
        __backup_removed_volumes={"changed": False, "skipped": True},
    )

    assert report[0].startswith("web1 would no longer have an agent, ")
    assert report[2:-2] == ["  its password, set in backup_password or backup_env_file"]


def test_what_stays_outside_of_the_agents_directory_is_on_the_page(checkout: Path, derived: Any) -> None:
    left = (checkout / "docs/how-to/uninstall.md").read_text().split("## 3. What is left")[1].split("\n## ")[0]

    archive = role_variables(checkout / "roles/backup")["__backup_archive"]
    assert "'~/.cache') | expanduser ~ '/scalr-backup/'" in " ".join(archive.split())
    assert "`~/.cache/scalr-backup/` on the controller" in left
    assert f"`{Path(derived('backup_directory')).parent}` on the host" in left

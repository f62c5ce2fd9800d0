# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role backup reports when it has removed the agent from a host."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.support.role_variables import role_variables


def test_the_report_names_what_is_left_of_what_was_read_and_removed(derived: Any, tmp_path: Path) -> None:
    secrets = derived("__backup_secrets_directory")
    contents = {f"{secrets}/password": "of the host\n", f"{secrets}/copy_password": "of the copies\n"}
    lines = [f"{base64.b64encode(text.encode()).decode()} {path}" for path, text in contents.items()]
    in_use = {"item": "scalr-backup-state", "failed": True, "msg": "Error: volume is in use - [5f0c]"}

    report = derived(
        "__backup_farewell",
        ansible_check_mode=False,
        backup_password_directory=str(tmp_path),
        backup_copy_repository="/mnt/copy",
        __backup_kept_passwords=[],
        __backup_read={"stdout_lines": lines},
        __backup_removed_volumes={"results": [in_use, {"item": "scalr-backup-cache", "changed": True}]},
    )

    assert report == [
        "web1 has no agent any more, and nothing backs up its databases. What remains:",
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


def test_without_an_engine_no_volume_was_tried(derived: Any, tmp_path: Path) -> None:
    report = derived(
        "__backup_farewell",
        ansible_check_mode=True,
        backup_password_directory=str(tmp_path),
        backup_password="given",
        __backup_kept_passwords=[],
        __backup_read={"stdout_lines": []},
        __backup_removed_volumes={"changed": False, "skipped": True},
    )

    assert report[0].startswith("web1 would have no agent any more, ")
    assert report[2:-2] == ["  its password, set in backup_password or backup_env_file"]


def test_what_stays_outside_of_the_agents_directory_is_on_the_page(checkout: Path, derived: Any) -> None:
    left = (checkout / "docs/how-to/uninstall.md").read_text().split("## 3. What is left")[1].split("\n## ")[0]

    archive = role_variables(checkout / "roles/backup")["__backup_archive"]
    assert "'~/.cache') | expanduser ~ '/scalr-backup/'" in " ".join(archive.split())
    assert "`~/.cache/scalr-backup/` on the controller" in left
    assert f"`{Path(derived('backup_directory')).parent}` on the host" in left

"""What a start of the agent takes: every call of a verb pays for what is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "roles/backup/files/agent"


def imported(verb: str, *arguments: str) -> set[str]:
    """The packages of others that a verb has imported by its end; it fails here, for want of a configuration."""
    program = f"""
import sys
from scalr_backup.cli.app import main
sys.argv = ["scalr-backup", {verb!r}, *{arguments!r}]
try:
    main()
except SystemExit:
    print(sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True, check=True
    )
    return set(eval(done.stderr.splitlines()[-1]))  # noqa: S307 (it is ours)


def test_a_program_does_not_wait_for_what_draws_tables() -> None:
    assert "rich" not in imported("status", "--json")
    assert "rich" in imported("status")

"""The benchmarks run: as small as they can be, on real servers and real repositories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import figures


def run(checkout: Path, *command: str) -> str:
    """A benchmark's standard output."""
    done = subprocess.run([sys.executable, *command], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nights_are_counted_drawn_and_told(checkout: Path, tmp_path: Path) -> None:
    printed = run(
        checkout, "benchmarks/nights", "recent", "--nights=2", "--scale=0.02", "--arms", "auto", f"--results={tmp_path}"
    )

    results = figures.from_json((tmp_path / "nights.json").read_text())
    first, second = results.courses[0].nights
    assert first.database_bytes <= second.database_bytes
    assert first.arms["auto"].new_bytes >= first.arms["auto"].dump_bytes > 2_000_000
    assert second.arms["auto"].repository_bytes > first.arms["auto"].repository_bytes
    assert printed == figures.table(results)
    assert "heap" not in printed
    assert ET.parse(tmp_path / "nights.svg").getroot().get("role") == "img"  # noqa: S314 (of our own making)


@pytest.mark.thorough
def test_passes_are_timed(checkout: Path, tmp_path: Path) -> None:
    size = ["--gigabytes=0.02", "--databases=2", "--runs=1"]
    printed = run(checkout, "benchmarks/pass", *size, f"--results={tmp_path}")

    assert "| 0.02 GB, new data | first design's script |" in printed
    assert "| 0.02 GB, the same again | pass, key order |" in printed
    assert "| 0.02 GB, rows scattered, the same again | pass, key order |" in printed
    assert "| 2 databases of one table | pass, key order |" in printed
    assert (tmp_path / "pass.json").exists()

"""Each supported line of ansible-core, in virtual environments of its own below ``.cache/cores``."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# Those of the checkout's own environment, and the others.
PINS = (CHECKOUT / "requirements/controller.txt", CHECKOUT / "requirements/cores.txt")
#: The interpreters that a line runs on as a controller, the oldest first.
PYTHONS = {
    "2.16": ("3.10", "3.11", "3.12"),
    "2.17": ("3.10", "3.11", "3.12"),
    "2.18": ("3.11", "3.12", "3.13"),
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.12", "3.13", "3.14"),
    "2.21": ("3.12", "3.13", "3.14"),
}
# What every environment has beside its ansible-core.
_BESIDE = CHECKOUT / "requirements/cores-beside.txt"


def pins() -> dict[str, str]:
    """The version of each line, by the line."""
    return {
        version.rpartition(".")[0]: version
        for file in PINS
        for version in re.findall(r"^ansible-core==(\S+)", file.read_text(), re.MULTILINE)
    }


def older() -> list[str]:
    """The lines that the checkout's own environment never has, the oldest first."""
    return re.findall(r"^ansible-core==(\d+\.\d+)", PINS[1].read_text(), re.MULTILINE)


def programs(line: str, python: str = "") -> Path:
    """The directory of this line's programs; the environment is made where it is not there yet.

    With *python*, an interpreter such as ``3.12``, it is an environment for that one, else for the oldest that is here.
    """
    environment = CHECKOUT / ".cache/cores" / (f"{line}-{python}" if python else line)
    environment.parent.mkdir(parents=True, exist_ok=True)
    interpreter = _interpreter(line, python)
    wanted = f"{pins()[line]} {interpreter} {environment}\n{_BESIDE.read_text()}"
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = environment / "made"
        if not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(environment, ignore_errors=True)
            _make(environment, interpreter, pins()[line])
            mark.write_text(wanted)
    return environment / "bin"


def _make(environment: Path, interpreter: str, version: str) -> None:
    subprocess.run([interpreter, "-m", "venv", environment], check=True)
    pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"ansible-core=={version}", f"--requirement={_BESIDE}"], check=True)


def interpreter(version: str) -> str:
    """An interpreter of a version, on the PATH or where pyenv keeps its own; empty where this machine has none."""
    candidates = [shutil.which(f"python{version}"), *map(str, _of_pyenv(version)), shutil.which("python3")]
    return next((candidate for candidate in candidates if candidate and _version_of(candidate) == version), "")


def _interpreter(line: str, python: str) -> str:
    """An interpreter that the line runs on."""
    for version in [python] if python else PYTHONS[line]:
        found = interpreter(version)
        if found:
            return found
    pytest.skip(f"ansible-core {line} needs one of Python {', '.join(PYTHONS[line])}, and this machine has none.")


def _of_pyenv(version: str) -> list[Path]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return sorted(root.glob(f"versions/{version}.*/bin/python3"))


def _version_of(interpreter: str) -> str:
    look = "import ensurepip, venv, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", look], check=False, capture_output=True, text=True)
    return done.stdout.strip()

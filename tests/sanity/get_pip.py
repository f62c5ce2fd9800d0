"""Stands in for get-pip.py, which ansible-test fetches from a host that is not everywhere within reach.

It unpacks the interpreter's own pip, and lets that one install the version that ansible-test asks for. ansible-test makes an
environment for each of its tests, and takes pip away again once that has installed what the test needs: the first one keeps
a copy of its pip, compiled, beside itself for the others.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
packages = Path(sysconfig.get_path("purelib"))
kept = Path(__file__).parent / f"pip-{hashlib.sha256(' '.join([sys.version, *wanted]).encode()).hexdigest()}"

if not kept.exists():
    subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
    unfinished = Path(tempfile.mkdtemp(dir=kept.parent))
    shutil.copytree(packages, unfinished / "packages")
    unfinished.rename(kept)
else:
    shutil.copytree(kept / "packages", packages, dirs_exist_ok=True)

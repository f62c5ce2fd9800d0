"""Stands in for get-pip.py, which ansible-test fetches from a host that is not everywhere within reach.

It unpacks the interpreter's own pip, and lets that one install the version that ansible-test asks for.
"""

from __future__ import annotations

import subprocess
import sys

wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)

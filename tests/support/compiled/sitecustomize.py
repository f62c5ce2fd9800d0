"""Python reads this where ``PYTHONPATH`` names its directory: what was compiled once is not compiled again.

Ansible sends a module to a host as an archive of sources, and Python compiles what it imports out of an archive each time,
a hundred times in a playbook: a quarter of the processors' time of the end-to-end tests. The same code runs; it is only
kept, under the name of its content, for whatever version of Python it was compiled by. A product's user has none of this.

Nor does it look for garbage as often: Ansible's processes live for a moment and leave little, and looking for it took a
sixth of their time.
"""

import contextlib
import gc
import hashlib
import marshal
import os
import sys
import zipimport

_KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 3, ".cache", "compiled")
_compile = zipimport._compile_source


def _compile_once(path, source):
    """The code of a source in an archive."""
    content = hashlib.sha256(sys.implementation.cache_tag.encode() + b"\n" + source).hexdigest()
    kept = os.path.join(_KEPT, content)
    try:
        with open(kept, "rb") as file:
            return marshal.loads(file.read())
    except (OSError, EOFError, ValueError, TypeError):
        code = _compile(path, source)
    with contextlib.suppress(OSError):
        _keep(kept, marshal.dumps(code))
    return code


def _keep(path, content):
    """Write a file that others see whole or not at all."""
    import tempfile  # Takes as long as all else here, and only a first run needs it.

    os.makedirs(_KEPT, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=_KEPT)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)


zipimport._compile_source = _compile_once
gc.set_threshold(200_000, 50, 50)

# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m scalr_backup`` is the same as the ``scalr-backup`` command."""

import gc

from scalr_backup.core import stopping

if __name__ == "__main__":
    # Before what takes time to import: whoever is told to end meanwhile says so in a result line.
    stopping.listen()

    # What the imports make stays for good: searching it for garbage, again and again, would only delay the start.
    gc.disable()
    from scalr_backup.cli.app import main

    gc.freeze()
    gc.enable()

    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m scalr_backup`` is the same as the ``scalr-backup`` command."""

from scalr_backup.core import stopping

if __name__ == "__main__":
    # Before what takes time to import: whoever is told to end meanwhile says so in a result line.
    stopping.listen()

    from scalr_backup.cli.app import main

    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m scalr_backup`` is the same as the ``scalr-backup`` command."""

from scalr_backup.cli import main

if __name__ == "__main__":
    main()

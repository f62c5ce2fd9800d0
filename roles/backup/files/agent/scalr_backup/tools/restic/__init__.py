# SPDX-License-Identifier: GPL-3.0-or-later
"""restic, and the stores that it writes to."""

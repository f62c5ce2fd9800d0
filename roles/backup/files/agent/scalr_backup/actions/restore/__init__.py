# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: planned, loaded beside the live database, compared, and only then swapped in; and its undo."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: planned, filled beside what is live, compared, and only then swapped in; and its undoing."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of scalr.backup: backs up and restores the PostgreSQL containers of one Docker host."""

__version__ = "0.8.0"

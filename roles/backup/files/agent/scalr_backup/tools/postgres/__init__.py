# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server, and its programs in its container."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of pg_dump's archives."""

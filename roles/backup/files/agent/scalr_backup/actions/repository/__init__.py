# SPDX-License-Identifier: GPL-3.0-or-later
"""The care of a repository: its keys, its checks and prunes, and its second copy."""

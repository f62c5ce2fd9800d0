# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door of operators and modules: parses, calls actions, prints, and chooses the exit code."""

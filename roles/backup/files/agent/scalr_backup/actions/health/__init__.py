# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong, since when, and where it is reported."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine, and what is run in its containers."""

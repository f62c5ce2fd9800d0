# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: a restore into a throwaway server, and what is tried there."""

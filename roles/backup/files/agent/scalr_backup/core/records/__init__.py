# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of everything that the agent writes and reads again, whichever release of it wrote it."""

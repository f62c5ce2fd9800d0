# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with an installation: checks of all that the agent relies on, and how they are judged."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""What an installation can have wrong: looks at all that the agent relies on, and what is to be thought of it."""

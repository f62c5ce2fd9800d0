# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does: decisions and their order, using tools only; no processes, no sockets, no program arguments."""

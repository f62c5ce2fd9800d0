# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does: decides and orders, by means of tools alone; no process, no socket, no arguments of programs."""

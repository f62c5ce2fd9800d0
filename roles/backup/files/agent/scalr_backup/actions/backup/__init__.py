# SPDX-License-Identifier: GPL-3.0-or-later
"""A pass: what is dumped, in which order, and what is recorded of it."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data and pure rules, validated once, at the door; knows nothing of the floors above."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door that stays open: the schedule, its metrics and its look-outs; decides nothing about data."""

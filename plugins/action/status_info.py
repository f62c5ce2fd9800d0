# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name; where that one dies, its end is a sentence."""

from __future__ import annotations

from ansible_collections.scalr.backup.plugins.plugin_utils._agent_action import ModuleActionBase


class ActionModule(ModuleActionBase):
    """The module."""

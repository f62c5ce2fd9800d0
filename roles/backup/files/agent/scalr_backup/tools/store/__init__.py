# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a repository as a store keeps them, past restic: listed, read, added and removed one by one."""

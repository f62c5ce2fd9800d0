# SPDX-License-Identifier: GPL-3.0-or-later
"""One file or folder for each thing outside: its arguments, exit codes and quirks; decides nothing about backups."""

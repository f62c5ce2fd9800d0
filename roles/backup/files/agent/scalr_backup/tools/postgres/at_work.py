# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs have a client program at work in a container, by the environment of each."""

from __future__ import annotations

# The variable that tells the server, and whoever looks, whose a client program is.
APPLICATION = "PGAPPNAME"
# Prints the values of the variable that begin with $1. One that a killed run left waits for ever to
# write into a pipe that nobody reads. Only sh, tr and grep are needed, which every image of PostgreSQL has.
LIST_CLIENTS = """
for process in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' < "$process/cmdline" 2>/dev/null)" in
    pg_dump*|pg_restore*|psql*|*/pg_dump*|*/pg_restore*|*/psql*|sh*scalr-backup-watch*) ;;
    *) continue ;;
  esac
  name="$(tr '\\0' '\\n' < "$process/environ" 2>/dev/null | grep "^PGAPPNAME=$1")" || continue
  echo "${name#PGAPPNAME=}"
done
:
"""

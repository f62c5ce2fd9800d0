# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of processes in a container that have a mark in their environment, without harm to the server beside them.

In the official images the container's first process is the postmaster. A process whose parent dies first becomes its child,
and when such a child ends by a signal, or with an exit status other than 0 and 1, the postmaster takes it for a server
process that has crashed: it ends every session and recovers the whole cluster (PostgreSQL, src/backend/postmaster/postmaster.c,
CleanupBackend and HandleChildCrash up to 17, process_pm_child_exit since 18). What the engine starts by itself has its parent
outside of the container, and may be ended in any way; what that has started in turn may not, unless its parent sees to it.

So it goes from the last child upwards, and a parent has time to notice. pg_dump and pg_restore are asked first: both exit with
1 then, and so do the workers of a pg_restore (src/bin/pg_dump/parallel.c, sigTermHandler).
"""

from __future__ import annotations

# Ends the processes whose variable $1 has a value that begins with what the regular expression $2 says, and all that these
# have started. Prints "ended" and the number of each, and at last "left", number and name of those which are still there.
# Needs sh, tr and grep, which every image of PostgreSQL has.
END_MARKED = r"""
mark="^$1=$2"
IFS= read -r first < /proc/1/comm
case "$first" in postgres|postmaster) crashes=1 ;; *) crashes= ;; esac
asked=" " sent=" "

# Of process $1: its parent, its state, and how it has ended; its name, which comes before, may hold anything.
look() {
  line=
  { while IFS= read -r part || [ -n "$part" ]; do line=$part; done < "/proc/$1/stat"; } 2>/dev/null
  [ -n "$line" ] || return 1
  code=${line##* }
  line=${line##*) }
  state=${line%% *}
  line=${line#* }
  parent=${line%% *}
}

# All processes, and those that are ours: by their mark, or because they descend from one that is.
find_ours() {
  all= ours=" "
  for process in /proc/[0-9]*; do
    id=${process#/proc/}
    [ "$id" = 1 ] && continue
    tr '\0' '\n' 2>/dev/null < "$process/environ" | grep -q -- "$mark" && ours="$ours$id "
  done 2>/dev/null
  [ "$ours" = " " ] && return 1
  for process in /proc/[0-9]*; do
    look "${process#/proc/}" && all="$all ${process#/proc/}:$parent:$state:$code"
  done
  grown=1
  while [ -n "$grown" ]; do
    grown=
    for entry in $all; do
      split "$entry"
      case "$ours" in *" $id "*) continue ;; esac
      case "$ours" in *" $parent "*) ours="$ours$id " grown=1 ;; esac
    done
  done
}

split() {
  id=${1%%:*} code=${1##*:}
  parent=${1#*:} parent=${parent%%:*}
  state=${1%:*} state=${state##*:}
}

# Whether it was asked to end, and its parent as well: it ends with 1, whether its parent lives or not.
is_worker() {
  case "$asked" in *" $id "*) ;; *) return 1 ;; esac
  case "$asked" in *" $parent "*) ;; *) return 1 ;; esac
}

# The parents that have something to wait for: of any child, of one that was killed, of one that has died but not well.
find_parents() {
  busy=" " waits=" " unreaped=" " living=
  for entry in $all; do
    split "$entry"
    case "$ours" in *" $id "*) ;; *) continue ;; esac
    case "$state" in Z|X)
      case "$code" in 0|256) ;; *) unreaped="$unreaped$parent " ;; esac
      continue ;;
    esac
    living="$living $entry"
    case "$sent" in *" $id "*) waits="$waits$parent " ;; esac
    is_worker || busy="$busy$parent "
  done
}

# Ask those which end with 1 when they are asked.
ask() {
  for entry in $living; do
    split "$entry"
    IFS= read -r name 2>/dev/null < "/proc/$id/comm" || continue
    case "$name" in pg_dump|pg_restore) ;; *) continue ;; esac
    while read -r key value; do
      # Bit 15 of those that it catches: before it has connected it catches none.
      [ "$key" = SigCgt: ] && case "$value" in *[4567cdef]???) kill "$id" && asked="$asked$id " ;; esac
    done < "/proc/$id/status"
  done 2>/dev/null
}

# Kill what has no child, as long as its parent is there to notice. What always starts another has to be killed at last
# while it has one, which was sent nothing and ends by itself.
end() {
  for entry in $living; do
    split "$entry"
    if [ -n "$crashes" ]; then
      [ "$parent" = 1 ] && continue
      case "$unreaped$waits" in *" $id "*) continue ;; esac
      is_worker && continue
      if [ "$1" -lt 6 ]; then
        case "$busy" in *" $id "*) continue ;; esac
      else
        case "$ours" in *" $parent "*) continue ;; esac
      fi
    fi
    kill -9 "$id" 2>/dev/null && sent="$sent$id "
  done
}

for round in 1 2 3 4 5 6 7; do
  find_ours || exit 0
  find_parents
  [ -n "$living" ] || exit 0
  if [ "$round" = 1 ]; then
    for entry in $living; do echo "found ${entry%%:*}"; done
    ask
  fi
  if [ "$round" != 1 ] || [ "$asked" = " " ]; then end "$round"; fi
  sleep 0.1 2>/dev/null || sleep 1
done
find_ours || exit 0
find_parents
for entry in $living; do
  split "$entry"
  IFS= read -r name 2>/dev/null < "/proc/$id/comm" && echo "left $id $name"
done
:
"""


def argv(variable: str, value: str) -> list[str]:
    """The command that ends what has a *variable* whose value begins with what a regular expression says."""
    return ["sh", "-c", END_MARKED, "sh", variable, value]


def ended(said: bytes) -> int:
    """How many processes the command has ended, by what it said."""
    return len(_numbers(said, b"found") - _numbers(said, b"left"))


def left(said: bytes) -> list[str]:
    """The number and the name of each process that is left, because its end would harm the server."""
    lines = said.decode("utf-8", "replace").splitlines()
    return [line.removeprefix("left ") for line in lines if line.startswith("left ")]


def _numbers(said: bytes, what: bytes) -> set[bytes]:
    return {line.split()[1] for line in said.splitlines() if line.startswith(what + b" ") and len(line.split()) > 1}

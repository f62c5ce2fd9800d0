# SPDX-License-Identifier: GPL-3.0-or-later
"""What helps against a failure, by its code: the cure that docs/troubleshooting.md gives, and the command to run next.

Only failures that something is found wrong by are here: those of passes, drills, copies and the repository's upkeep.
"""

from __future__ import annotations

import shlex

_DOCS = "https://github.com/scalr/ansible-backup/blob/main/docs"
# The pages with a place for every code of a failure, and of a finding.
TROUBLESHOOTING = f"{_DOCS}/troubleshooting.md"
ALERTS = f"{_DOCS}/alerts.md"

# The words are those of the page's table, which a test holds to be the same.
_CURES = {
    "amcheck_failed": "read its words; run check.yml with read_data_subset, and drill an older snapshot",
    "assertions_failed": "look at the data of that day, then at the file",
    "busy": "wait for it; scalr-backup backup --wait does",
    "call_refused": (
        "give that container the label scalr.backup=true, or let backup_containers name it; docker logs "
        "scalr-backup-socket-proxy lists what was refused"
    ),
    "command_lost": "the sentence says what the engine knows of the container; look at its log, then run it again",
    "configuration": "correct the variable, run site.yml",
    "container_gone": "the next pass has it if it is back; else stop expecting it",
    "container_paused": "end the pause and run the command again",
    "container_restarting": "look at that container's log",
    "container_stopped": "start it and run the command again",
    "copy_failed": "look at that store; scalr-backup copy copies again",
    "credentials": "look whether the secret is mounted in that container",
    "docker_unreachable": "docker ps on the host; then site.yml",
    "dump_failed": "read pg_dump's words in the sentence; run backup.yml again",
    "forged_snapshots": (
        "read Forged snapshots before you do anything; where a clock was ahead, scalr-backup forget --remove-future removes "
        "what it has dated in the future"
    ),
    "internal": "report it with the sentence and the log",
    "interrupted": "run it again",
    "manifest": "run backup.yml again; a restore cannot count rows without it",
    "missing_extension": "restore into a container whose image has it (-e target=)",
    "missing_role": "create the role that the sentence names",
    "nothing_saved": "start the containers, or leave them out with backup_exclude",
    "older_server": "restore into a container of that version or a newer one (-e target=)",
    "postgres": (
        "read them and the container's log; where it refuses the login, the role in POSTGRES_USER is not the one that the "
        "volume was initialised with"
    ),
    "repository_locked": "wait; if nothing runs anywhere, scalr-backup unlock removes stale locks",
    "repository_missing": (
        "is the address right, the disk mounted, the bucket there? Only if it is really gone: scalr-backup init"
    ),
    "repository_refused": "the sentence says which, and the variable to correct",
    "repository_unreachable": "check network, name servers, backup_repository",
    "repository_unreadable": (
        "check.yml tells which; where a host only adds, Coming back tells how to undo what was done to it"
    ),
    "restic": "read them; check.yml tells whether the repository is intact",
    "restic_version": "set backup_restic_image to 0.19 or newer",
    "restore_failed": "read pg_restore's words",
    "roles_not_saved": "read pg_dumpall's words in the sentence; run backup.yml again",
    "too_many_keys": "remove some, see keys",
    "two_hosts": "give each host a name, or a repository, of its own",
    "unreachable": (
        "look at that container's log; where it says that a role does not exist, POSTGRES_USER is not the role that the volume "
        "was initialised with"
    ),
    "unreadable_archive": "it is older than the server that was dumped: use the same major version",
    "unreadable_globals": "report it; meanwhile restore with without_manifest=true, which takes the roles of another pass",
    "unreadable_manifest": "try again; if it stays so, read A manifest that cannot be read",
    "verification_failed": "compare the two; try an older snapshot; run check.yml with read_data_subset",
    "wrong_password": "put the right one back, from your copy",
}

_THE_CONTAINERS_LOG = {
    "command_lost",
    "container_gone",
    "container_restarting",
    "credentials",
    "postgres",
    "unreachable",
}
_ANOTHER_DEPLOYMENT = {
    "configuration", "repository_missing", "repository_refused", "repository_unreachable", "restic_version",
    "two_hosts", "wrong_password",
}  # fmt: skip
_A_CHECK = {"amcheck_failed", "repository_unreadable", "restic"}
_VERB = "docker exec scalr-backup scalr-backup"


def cure(code: str | None) -> str:
    """What helps, as a sentence; empty where nothing better is known than to read what happened."""
    words = _CURES.get(code or "", "")
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def page(cause: str, finding: str) -> str:
    """The address of what says more: of the failure where its cure is known, else of what was found."""
    return f"{TROUBLESHOOTING}#{cause}" if cause in _CURES else f"{ALERTS}#{finding}"


def command(code: str | None, host: str, container: str = "") -> str | None:
    """The command to run next where the cause asks for another one than to try again; None where it does not.

    One that begins with ``ansible-playbook`` is for the controller, any other for the host.
    """
    if code in _THE_CONTAINERS_LOG and container:
        return f"docker logs --tail 20 {shlex.quote(container)}"
    if code == "container_stopped" and container:
        return f"docker start {shlex.quote(container)}"
    if code == "container_paused" and container:
        return f"docker unpause {shlex.quote(container)}"
    if code in _ANOTHER_DEPLOYMENT:
        return f"ansible-playbook scalr.backup.site --limit {shlex.quote(host)}"
    if code in _A_CHECK:
        return f"ansible-playbook scalr.backup.check --limit {shlex.quote(host)}"
    return {
        "call_refused": "docker logs --tail 20 scalr-backup-socket-proxy",
        "docker_unreachable": "docker ps",
        "forged_snapshots": f"{_VERB} forget --remove-future",
        "internal": "docker logs --tail 50 scalr-backup",
        "repository_locked": f"{_VERB} unlock",
    }.get(code or "")

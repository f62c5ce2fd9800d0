# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a failure, by its code: the remedy that docs/troubleshooting.md gives, and the command to run next.

It has only failures that become findings: those of passes, drills, copies and the repository's maintenance.
"""

from __future__ import annotations

import shlex

_DOCS = "https://github.com/scalr/ansible-backup/blob/main/docs"
# The pages with a place for every code of a failure, and of a finding.
TROUBLESHOOTING = f"{_DOCS}/troubleshooting.md"
ALERTS = f"{_DOCS}/alerts.md"

# The words are those of the page's table, which a test holds to be the same.
_CURES = {
    "amcheck_failed": "read its output; run check.yml with read_data_subset, and drill an older snapshot",
    "assertions_failed": "check that day's data, then the SQL file",
    "busy": "wait for it; scalr-backup backup --wait does",
    "call_refused": (
        "label that container scalr.backup=true, or add it to backup_containers; docker logs scalr-backup-socket-proxy "
        "lists what was refused"
    ),
    "command_lost": "the message says what state the container is in; check its log, then run this again",
    "configuration": "correct the variable and run site.yml, or docker compose up without Ansible",
    "container_gone": "if it comes back, the next pass saves it; if not, stop expecting it",
    "container_paused": "unpause it and run the command again",
    "container_refused": (
        "remove that power from the container, or leave it out with backup_exclude; a namespace of the host may also be "
        "accepted with backup_host_namespaces_accepted"
    ),
    "container_restarting": "check the container's log",
    "container_stopped": "start it and run the command again",
    "copy_failed": "check that store; scalr-backup copy tries again",
    "credentials": "check that the secret is mounted in that container",
    "docker_unreachable": "run docker ps on the host, then site.yml",
    "dump_failed": "read pg_dump's error in the message; run backup.yml again",
    "dump_too_large": (
        "if the database really is that large (wide sparse tables, columnar storage, TOAST), raise backup_dump_size_factor "
        "and run site.yml; otherwise check what runs in that container"
    ),
    "forged_files": "read Forged files before you do anything: first revoke the host's key to the store",
    "forged_snapshots": (
        "read Forged snapshots before you do anything; if a clock was ahead, scalr-backup forget --remove-future "
        "removes the snapshots dated in the future"
    ),
    "internal": "report it with the message and the log",
    "interrupted": "run it again",
    "invalid_answer": "check what runs in that container in place of psql and pg_dump; recreate it from an image you trust",
    "late_answer": "check what its server is busy with (pg_stat_activity) and the container's log, then run backup.yml again",
    "look_unfinished": (
        "run prune.yml again: it continues from there; if no host has saved that much, find out who else writes there"
    ),
    "manifest": "run backup.yml again; without it, a restore cannot verify row counts",
    "missing_extension": "restore into a container whose image has it (-e target=)",
    "missing_role": "create the role that the message names",
    "nothing_saved": "start the containers, or leave them out with backup_exclude",
    "older_server": "restore into a container of that version or a newer one (-e target=)",
    "postgres": (
        "read its error and the container's log; if it refuses the login, the volume was initialised with a role "
        "other than POSTGRES_USER"
    ),
    "record_unwritable": (
        "free space in that volume, or make it writable; df -h /var/lib/scalr-backup in the agent's container shows how much it has"
    ),
    "repository_locked": (
        "wait; if nothing is running anywhere, scalr-backup unlock removes stale locks, with --copy in the second repository"
    ),
    "repository_missing": (
        "check the address, the mount, the bucket; only if the repository is really gone, run scalr-backup init"
    ),
    "repository_refused": "the message says what was refused, and which variable to correct",
    "repository_unreachable": "check the network, the name servers and backup_repository",
    "repository_unreadable": (
        "check.yml says which file; for an append-only host, Coming back says how to undo the damage"
    ),
    "restic": "read its error; check.yml says whether the repository is intact",
    "restic_version": "set backup_restic_image to 0.19 or newer",
    "restore_failed": (
        "read pg_restore's error in the message; if it names an object, see objects that no restore can make again"
    ),
    "roles_not_saved": "read pg_dumpall's error in the message; run backup.yml again",
    "row_order": "read the warning; if it names an index, rebuild that index, and look for other damage",
    "too_many_keys": "remove some, see keys",
    "two_hosts": "give each host its own name or its own repository",
    "unreachable": (
        "check the container's log; if it says that a role does not exist, the volume was initialised with a role "
        "other than POSTGRES_USER"
    ),
    "unreadable_archive": (
        "if pg_restore is older than the dumped server, use the same major version; if a statement cannot be parsed, use "
        "another snapshot, and find out who may write to the repository"
    ),
    "unreadable_globals": (
        "report it; meanwhile restore with without_manifest=true, which takes the roles from another pass"
    ),
    "unreadable_manifest": "try again; if it persists, read A manifest that cannot be read",
    "verification_failed": "compare the two databases; try an older snapshot; run check.yml with read_data_subset",
    "wrong_password": "restore the right one from your copy",
}

_THE_CONTAINERS_LOG = {
    "command_lost",
    "container_gone",
    "container_restarting",
    "credentials",
    "invalid_answer",
    "late_answer",
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
    """What to do, as a sentence; empty where reading the message is the best advice."""
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
        "forged_files": "read Forged files before you do anything: first revoke the host's key to the store",
        "forged_snapshots": f"{_VERB} forget --remove-future",
        "internal": "docker logs --tail 50 scalr-backup",
        "record_unwritable": "docker exec scalr-backup df -h /var/lib/scalr-backup",
        "repository_locked": f"{_VERB} unlock",
    }.get(code or "")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the engine, its socket proxy and the containers: pure functions of what was seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from scalr_backup.actions.doctor.examined import FAILED, OK, WARNING, Examined, listed
from scalr_backup.core import remedies
from scalr_backup.core.engine_facts import EngineFacts
from scalr_backup.core.model import Cluster, Container
from scalr_backup.core.recognition import WHAT_TO_DO, Unmatched, sentence
from scalr_backup.core.units import counted

# That of Docker Engine 20.10, the oldest one that is supported; Podman says the same of itself.
OLDEST_API = (1, 41)
_PROXY_LOG = "docker logs --tail 20 scalr-backup-socket-proxy"
_SITE = "ansible-playbook scalr.backup.site --limit {}"


class Probe(Enum):
    """What became of a look that the socket proxy must refuse."""

    REFUSED = "refused"
    LET_THROUGH = "let through"
    NOTHING_TO_REFUSE = "nothing to refuse"


@dataclass(frozen=True)
class ProxyFacts:
    """What stands between the agent and the engine: *address* is none where the agent has the engine's own socket.

    *between* says that what answers there is this product's proxy. *container* is the one that was looked at for the probe.
    """

    address: str | None
    between: bool
    probe: Probe
    container: str = ""


def of_engine(facts: EngineFacts) -> Examined:
    """Which engine answers, and whether it is new enough."""
    seen = f"{facts.name} {facts.version} answers, API {facts.api}."
    number = _numbers(facts.api)
    if number is not None and number < OLDEST_API:
        return Examined(
            WARNING,
            f"{seen} The agent is tested with API {'.'.join(map(str, OLDEST_API))} (Docker Engine 20.10) and newer.",
            cure="Update the engine.",
        )
    return Examined(OK, seen)


def _numbers(api: str) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in api.split("."))
    except ValueError:
        return None


def of_proxy(facts: ProxyFacts, host: str) -> Examined:
    """Whether the agent can do with the engine what it needs, and no more."""
    site = _SITE.format(host)
    if facts.address is None:
        return Examined(
            WARNING,
            "There is no socket proxy: the agent has the engine's own socket, so anyone who takes over the agent takes over the host.",
            cure="Set backup_socket_proxy to true, unless you have left it out on purpose.",
            command=site,
        )
    if facts.probe is Probe.LET_THROUGH:
        return Examined(
            FAILED,
            f"{facts.address} let the agent inspect {facts.container}, which is not one of its database containers: nothing "
            "keeps it from the rest of the host.",
            cure="Redeploy the socket proxy; if it is not this product's proxy, do not use it.",
            command=site,
        )
    if not facts.between:
        return Examined(
            WARNING,
            f"The proxy at {facts.address} is not this product's socket proxy, so it is unknown what it lets the agent do.",
            cure="Set backup_socket_proxy to true, or find out what that proxy refuses.",
            command=site,
        )
    if facts.probe is Probe.NOTHING_TO_REFUSE:
        return Examined(
            OK, f"The socket proxy answers at {facts.address}; there was no container to test a refusal with."
        )
    return Examined(OK, f"The socket proxy answers, and refuses what it must: inspecting {facts.container}.")


def of_containers(matches: Sequence[Container], patterns: Sequence[str], host: str) -> Examined:
    """Whether every container that matches can be backed up."""
    wanted = [one for one in matches if one.status != "excluded"]
    bad = [one for one in wanted if one.status in {"refused", "unreachable"}]
    stopped = [one for one in wanted if one.status == "stopped"]
    details = tuple(f"{one.name} is {one.status}: {one.reason}" for one in [*bad, *stopped])
    if bad:
        code = "container_refused" if any(one.status == "refused" for one in bad) else "unreachable"
        seen = f"{counted(len(bad), 'container')} of {len(wanted)} cannot be backed up."
        return Examined(FAILED, seen, details, remedies.cure(code), _next(code, host, bad[0]), code)
    if stopped:
        seen = f"{counted(len(stopped), 'container')} of {len(wanted)} that match {'is' if len(stopped) == 1 else 'are'} not running."
        cure = "Start them, or leave them out with backup_exclude."
        code = "container_stopped"
        return Examined(WARNING, seen, details, cure, _next(code, host, stopped[0]), code)
    if not wanted:
        return Examined(
            WARNING,
            f"No container on this host matches {listed(list(patterns)) or 'anything'}: there is nothing to back up.",
            cure="Start a database container, name yours in backup_containers, or label it scalr.backup=true.",
        )
    return Examined(OK, f"{counted(len(wanted), 'container')} to back up: {listed([one.name for one in wanted])}.")


def _next(code: str, host: str, container: Container) -> str:
    return remedies.command(code, host, container.called or container.name) or ""


def of_unmatched(unmatched: Sequence[Unmatched], patterns: Sequence[str], *, looked: bool) -> Examined:
    """Whether PostgreSQL runs here that nothing backs up."""
    if not looked:
        return Examined(
            OK, "The agent does not look for PostgreSQL that nothing backs up: backup_report_unmatched is false."
        )
    if not unmatched:
        return Examined(OK, "Every container that was found to run PostgreSQL is backed up, or left out on purpose.")
    names = [one.name for one in unmatched]
    details = tuple(f"{one.name}: {one.evidence}; {one.why}" for one in unmatched)
    return Examined(
        WARNING,
        f"{sentence(names)}.",
        details,
        f"{WHAT_TO_DO} To match them all, set backup_containers to {json.dumps([*patterns, *names])}.",
        "docker exec scalr-backup scalr-backup discover",
    )


def of_servers(containers: Sequence[Container], clusters: Sequence[Cluster], host: str) -> Examined:
    """Whether the servers in the matching containers let the agent in."""
    silent = [one for one in containers if one.status == "unreachable"]
    databases = sum(len(cluster.databases) for cluster in clusters)
    if silent:
        details = tuple(f"{one.name}: {one.reason}" for one in silent)
        asked = len(silent) + len(clusters)
        code = silent[0].code or "unreachable"
        return Examined(
            FAILED,
            f"{counted(len(silent), 'server')} of {asked} cannot be asked for its databases.",
            details,
            remedies.cure(code) or remedies.cure("unreachable"),
            _next(code, host, silent[0]),
            code,
        )
    if not clusters:
        return Examined(OK, "No matching container is running, so there is no server to ask.")
    return Examined(
        OK,
        f"The agent can log in to {counted(len(clusters), 'server')} and read {counted(databases, 'database')}.",
        tuple(
            f"{cluster.container.name}: PostgreSQL {cluster.server_version}, "
            f"{listed([one.name for one in cluster.databases]) or 'no database to back up'}"
            for cluster in clusters
        ),
    )

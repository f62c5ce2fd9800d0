# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks inspect: each look queries one thing, and leaves its result to the looks after it.

Nothing is changed: no lock is taken or removed, nothing is written to the repository, and databases are only queried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from scalr_backup import __version__
from scalr_backup.actions.discovery import Discovery, HostLook
from scalr_backup.actions.doctor import of_engine, of_host, of_store
from scalr_backup.actions.doctor.bounded import NothingToLookAtError
from scalr_backup.actions.doctor.examined import OK, Examined
from scalr_backup.actions.documents import exclusion, from_summary, may_match, texts
from scalr_backup.actions.health import status
from scalr_backup.actions.health.findings import is_current
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.repository.apart import require_another
from scalr_backup.core import power, schedule
from scalr_backup.core.address import redact_address
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    CallRefusedError,
    ContainerGoneError,
    ContainerStoppedError,
    ResticError,
    ScalrBackupError,
)
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools import own_container, place
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.restic import stores
from scalr_backup.tools.restic.calls import CACHE_DIRECTORY
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import STATE_DIRECTORY, State
from scalr_backup.tools.store.clock import ahead_of_store

Thing = TypeVar("Thing")

# Seconds that a database server has for its answers, and restic for a call that looks something up: somebody waits.
_LOOK_SECONDS, _ANSWER_SECONDS = 40, 40
# How many containers are tried that are gone by the time that they are looked at.
_MOST_PROBED = 5


@dataclass(frozen=True)
class Sources:
    """Where all that is looked at comes from; each may fail."""

    config: Callable[[], Config]
    secrets: Callable[[], Secrets]
    copy_secrets: Callable[[], Secrets]
    recipients: Callable[[], Recipients]
    engine: Callable[[], DockerHost]
    restic: Callable[[Config, Secrets, threading.Event], Restic]
    state: Callable[[], State]
    # In whose words it is said what to do: the role's, unless others are given.
    words: Callable[[str], str] = str


class Looks:
    """The looks, and what they got so far."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._config: Config | None = None
        self._docker: DockerHost | None = None
        self._look: HostLook | None = None
        self._restic: Restic | None = None
        self._secrets: Secrets | ScalrBackupError | None = None
        self._reading = threading.Lock()

    @property
    def host(self) -> str | None:
        """The host's name, where the configuration could be read."""
        return self._config.host if self._config else None

    def configuration(self, _stop: threading.Event) -> Examined:
        """Read the configuration."""
        config = self._config = self._sources.config()
        return Examined(OK, f"The configuration of {config.host} is valid.")

    def engine(self, _stop: threading.Event) -> Examined:
        """Ask the engine who it is."""
        docker = self._sources.engine()
        facts = docker.about()
        self._docker = docker
        return of_engine.of_engine(facts)

    def socket_proxy(self, _stop: threading.Event) -> Examined:
        """Try one look that the proxy must refuse."""
        docker, config = self._engine(), self._configured()
        probe, container = of_engine.Probe.NOTHING_TO_REFUSE, ""
        between = False
        if docker.address:
            between = docker.refused() is not None
            probe, container = _probe(docker, config)
        address = redact_address(docker.address) if docker.address else None
        return of_engine.of_proxy(of_engine.ProxyFacts(address, between, probe, container), config.host)

    def containers(self, _stop: threading.Event) -> Examined:
        """Look at every container."""
        docker, config = self._engine(), self._configured()
        look = Discovery(config, docker).look()
        self._look = look
        return of_engine.of_containers(look.matches, config.containers, config.host)

    def unmatched(self, _stop: threading.Event) -> Examined:
        """What that look has found that nothing backs up."""
        config, look = self._configured(), _got(self._look, "the list of containers")
        return of_engine.of_unmatched(look.unmatched, config.containers, looked=config.report_unmatched)

    def servers(self, stop: threading.Event) -> Examined:
        """Ask each server what it holds."""
        docker, config = self._engine(), self._configured()
        # Nobody can be asked where the containers cannot be listed.
        _got(self._look, "the list of containers")
        quick = config.model_copy(update={"look_seconds": min(config.look_seconds, _LOOK_SECONDS)})
        found = Discovery(quick, docker, stop).clusters()
        # What was refused before anything was asked is another check's.
        asked = [one for one in found.containers if one.status in {"ok", "unreachable"}]
        return of_engine.of_servers(asked, found.clusters, config.host)

    def repository(self, stop: threading.Event) -> Examined:
        """Open the repository."""
        config = self._configured()
        restic = self._sources.restic(_quick(config), self._own_secrets(), stop)
        version = restic.format_version()
        self._restic = restic
        return of_store.of_repository(restic.repository, version)

    def locks(self, stop: threading.Event) -> Examined:
        """List the repository's locks."""
        del stop
        config, restic = self._configured(), self._opened()
        locks = restic.locks()
        oldest = restic.oldest_lock(locks) if locks else None
        return of_store.of_locks(len(locks), oldest, utc_now(), config.lock_hours)

    def password(self, stop: threading.Event) -> Examined:
        """List whose passwords open the repository."""
        del stop
        return of_store.of_password(self._opened().list_keys())

    def copy(self, stop: threading.Event) -> Examined:
        """Open the second repository, and see whether it is another one than the first."""
        config = self._configured()
        if config.copy_to is None:
            return Examined(
                OK, "There is no second repository.", cure="backup_copy_repository is for one at another provider."
            )
        secrets = self._reported_secrets()  # What the copy has no secret of its own for is the first one's.
        other = config.model_copy(update={"repository": config.copy_to.repository})
        restic = self._sources.restic(_quick(other), self._sources.copy_secrets(), stop)
        examined = of_store.of_repository(restic.repository, restic.format_version())
        # What keeps the first one from being opened, the repository's own check says.
        with suppress(ResticError):
            require_another(self._sources.restic(_quick(config), secrets, stop), restic)
        return examined

    def place(self, _stop: threading.Event) -> Examined:
        """Find out where the repository lies."""
        config = self._configured()
        strict = config.model_copy(update={"repository_on_host_accepted": False, "copy_to": None})
        lost, on_host = place.is_lost_with_the_host(config), place.is_lost_with_the_host(strict)
        return of_store.of_place(config, lost_with_host=lost, on_host=on_host)

    def deletion(self, _stop: threading.Event) -> Examined:
        """Whether this host may remove."""
        return of_store.of_deletion(self._configured())

    def clock(self, _stop: threading.Event) -> Examined:
        """Compare the clock with the store's, or with what the heartbeat's server has said lately."""
        config, secrets = self._configured(), self._reported_secrets()
        ahead = ahead_of_store(config.repository, secrets.environment, secrets.authority, utc_now)
        if ahead is not None:
            return of_store.of_clock(of_store.Skew(ahead, "the repository's store"))
        told = self._sources.state().read().get("clock")
        if is_current(told, utc_now()):
            return of_store.of_clock(of_store.Skew(told["skew_seconds"], "the heartbeat server"))
        return of_store.of_clock(None)

    def schedule(self, _stop: threading.Event) -> Examined:
        """Whether passes begin by themselves."""
        config, state, now = self._configured(), self._sources.state(), utc_now()
        document = state.read()
        started = document.get("nightly_started")
        last_started = datetime.fromisoformat(started) if started else None
        # One that is due now may still begin.
        settled = now - schedule.grace(schedule.interval_at(config, now))
        missed = schedule.missed(config, settled, last_started, _known_since(document, now))
        facts = of_host.ScheduleFacts(
            serving=own_container.is_serving(),
            next_pass=schedule.next_pass(config, now),
            last_started=last_started,
            missed=schedule.previous_pass(config, settled) if missed else None,
            under_way=state.locks.under_way(),
        )
        return of_host.of_schedule(facts, config)

    def backups(self, _stop: threading.Event) -> Examined:
        """What the passes have put on record."""
        config, state, now = self._configured(), self._sources.state(), utc_now()
        document, repository = state.read(), redact_address(config.repository)
        since = _known_since(document, now)
        return of_host.of_backups(status.judge(config, repository, document, since, now, damage=state.damage()))

    def room(self, _stop: threading.Event) -> Examined:
        """Measure where the agent writes."""
        places = [("the state", str(STATE_DIRECTORY)), ("the cache", str(CACHE_DIRECTORY))]
        config = self._config
        if config and stores.kind(config.repository) == "local":
            path = config.repository.removeprefix("local:")
            # Whether it is there, the repository's own check says.
            places += [("the repository", path)] if Path(path).is_dir() else []
        rooms = [own_container.written_to(what, path) for what, path in places]
        return of_host.of_room(rooms, config.nearly_full_percent if config else 100)

    def memory(self, _stop: threading.Event) -> Examined:
        """Read the limit of memory."""
        return of_host.of_memory(own_container.memory_limit())

    def versions(self, stop: threading.Event) -> Examined:
        """Ask the programs for their versions."""
        nowhere = Config(host="localhost", repository="/nonexistent")
        restic = self._sources.restic(nowhere, Secrets(Path("/nonexistent")), stop)
        return of_host.of_versions(__version__, restic.require_version())

    def notifications(self, _stop: threading.Event) -> Examined:
        """Read whom to tell; nobody is told anything."""
        config = self._config
        recipients = self._sources.recipients()
        beats = self._sources.state().read().get("heartbeat") if recipients.heartbeat else None
        if config is None:
            return of_host.of_recipients(recipients, scraped=False, beats=beats)
        written = own_container.written_to("the metrics", str(own_container.TEXTFILE_DIRECTORY)).writable
        return of_host.of_recipients(
            recipients,
            scraped=bool(config.metrics_port or (config.metrics_textfile and written)),
            beats=beats,
            events=config.notify_events,
            unwritten="" if written else config.metrics_textfile,
        )

    def _configured(self) -> Config:
        return _got(self._config, "the configuration")

    def _engine(self) -> DockerHost:
        return _got(self._docker, "the engine")

    def _own_secrets(self) -> Secrets:
        """The secrets of the repository, read once: whoever asks gets the same, or the same failure."""
        with self._reading:
            if self._secrets is None:
                try:
                    self._secrets = self._sources.secrets()
                except ScalrBackupError as failed:
                    self._secrets = failed
        if isinstance(self._secrets, ScalrBackupError):
            raise self._secrets
        return self._secrets

    def _reported_secrets(self) -> Secrets:
        """The same for whoever needs them beside the repository's check, which says why they cannot be read."""
        try:
            return self._own_secrets()
        except ScalrBackupError:
            raise NothingToLookAtError("the secrets of the repository") from None

    def _opened(self) -> Restic:
        return _got(self._restic, "the repository")


def _got(thing: Thing | None, name: str) -> Thing:
    if thing is None:
        raise NothingToLookAtError(name)
    return thing


def _known_since(document: StateRecord, now: datetime) -> datetime:
    """Since when the agent is there; as ``State.first_started`` has it, which also notes it where it is not known yet."""
    first = document.get("first_started")
    return datetime.fromisoformat(first) if first else now


def _quick(config: Config) -> Config:
    return config.model_copy(update={"answer_seconds": min(config.answer_seconds, _ANSWER_SECONDS)})


def _probe(docker: DockerHost, config: Config) -> tuple[of_engine.Probe, str]:
    """Look into a container that is not the agent's business: its own or its proxy's, else any that nothing matches.

    The proxy counts that as a look, of which no alert is made, and writes a line about it to its log.
    """
    summaries = docker.containers()
    labelled = [(from_summary(one), texts(one.get("Labels"))) for one in summaries]
    named = [(one, one.called or one.name, labels) for one, labels in labelled]
    foreign = [
        (not power.is_own(name, labels), one, name)
        for one, name, labels in named
        if not may_match(config, name, labels) or exclusion(config, name, labels)
    ]
    for _is_other, one, name in sorted(foreign, key=lambda found: (found[0], found[2]))[:_MOST_PROBED]:
        try:
            docker.inspect(one.id)
        except CallRefusedError:
            return of_engine.Probe.REFUSED, name
        except (ContainerGoneError, ContainerStoppedError):
            continue
        return of_engine.Probe.LET_THROUGH, name
    return of_engine.Probe.NOTHING_TO_REFUSE, ""

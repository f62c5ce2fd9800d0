# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tools an action gets: built from the configuration and its secrets when first needed."""

from __future__ import annotations

from functools import cached_property

from scalr_backup.actions.backup import run as backup
from scalr_backup.actions.discovery import Discovery
from scalr_backup.actions.doctor.looks import Sources
from scalr_backup.actions.drill import run as drill
from scalr_backup.actions.health import status
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.repository import copy as copies
from scalr_backup.actions.repository import keys, maintenance
from scalr_backup.actions.restore import run as restore
from scalr_backup.actions.restore import undo
from scalr_backup.actions.use_case import Tools
from scalr_backup.cli.output import Output
from scalr_backup.core import stopping
from scalr_backup.core.address import redact_address
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, load_config
from scalr_backup.core.errors import UsageError
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.secrets import Addresses, Given, Secrets, load_addresses, load_copy_secrets, load_secrets
from scalr_backup.core.without_role import words_here
from scalr_backup.tools import heartbeat, notify, place
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.throwaways import Throwaways
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State

# Seconds that the engine has for an answer, and its proxy to be there, where somebody looks and waits.
_LOOK_TIMEOUT, _LOOK_PROXY_SECONDS = 30, 3.0


class Agent:
    """The tools that a verb may need, each built when first needed."""

    def __init__(self, out: Output) -> None:
        self.out = out
        self.emit = out.event
        self.cancelled = stopping.listen()

    @cached_property
    def state(self) -> State:
        """The agent's record, one for the whole verb: it knows what of the verb could not be put on record."""
        return State()

    def unwritten(self) -> str | None:
        """Why something that the verb was to put on record is not there, as a sentence; None where all of it is."""
        return self.state.unwritten() if "state" in self.__dict__ else None

    def config(self) -> Config:
        """The configuration, freshly read."""
        return load_config()

    def restic(self, *, copy: bool = False) -> Restic:
        """The configured repository, or the second one, through restic."""
        return self.copy_restic() if copy else Restic(self.config(), load_secrets(), cancelled=self.cancelled)

    def copy_restic(self) -> Restic:
        """The second repository, through restic.

        Raises UsageError if there is none.
        """
        config = self.config()
        if config.copy_to is None:
            raise UsageError("There is no second repository: backup_copy_repository is empty.")
        config = config.model_copy(update={"repository": config.copy_to.repository, "keep": config.copy_to.keep})
        return Restic(config, load_copy_secrets(), cancelled=self.cancelled)

    def given_restic(self, given: Given) -> tuple[Restic, Restic | None]:
        """The repositories of a configuration that is not in use, through restic: the first, and the second if any."""
        first = Restic(given.config, given.secrets, cancelled=self.cancelled)
        if given.config.copy_to is None:
            return first, None
        update = {"repository": given.config.copy_to.repository, "keep": given.config.copy_to.keep}
        return first, Restic(given.config.model_copy(update=update), given.copy_secrets, cancelled=self.cancelled)

    def copier(self) -> copies.Copier:
        """The use case of a copy."""
        return copies.Copier(self._tools())

    def backup(self) -> backup.Pass:
        """The use case of a pass."""
        return backup.Pass(self._tools())

    def restore(self, source: Restic | None = None) -> restore.Restore:
        """The use case of a restore, from another repository where one is given."""
        return restore.Restore(self._tools(), source)

    def undo(self) -> undo.Undo:
        """The use case of an undo."""
        return undo.Undo(self._tools())

    def other_repository(self, repository: str, secrets: Secrets | None) -> Restic:
        """A repository other than the configured one, with this agent's secrets unless others are given."""
        config = self.config().model_copy(update={"repository": repository})
        return Restic(config, secrets or load_secrets(), cancelled=self.cancelled)

    def keys(self, *, copy: bool = False) -> keys.Keys:
        """The use case of the passwords that open the repository, or the second one."""
        return keys.Keys(self.restic(copy=copy), self.config().host, self.emit)

    def care(self) -> maintenance.Maintenance:
        """The use case of check and prune."""
        return maintenance.Maintenance(self.config(), self.state, self.emit, self.cancelled)

    def place(self, *, copy: bool = False) -> maintenance.RepositoryInCare:
        """The repository to maintain, or the second one."""
        if copy:
            return maintenance.RepositoryInCare(self.copy_restic(), maintenance.OF_COPY, copy_of=self.restic())
        return maintenance.RepositoryInCare(self.restic())

    def places(self) -> list[maintenance.RepositoryInCare]:
        """Every repository that the schedule maintains."""
        return [self.place(copy=copy) for copy in ([False, True] if self.config().copy_to else [False])]

    def drill(self, source: Restic | None = None) -> drill.Drill:
        """The use case of a drill, from another repository where one is given."""
        engine = Throwaways()
        return drill.Drill(self._tools(engine), engine, source)

    def sources(self) -> Sources:
        """Where the checks of an installation look; somebody waits for them."""
        return Sources(
            config=load_config,
            secrets=load_secrets,
            copy_secrets=load_copy_secrets,
            recipients=lambda: recipients_of(load_addresses()),
            engine=lambda: DockerHost(_LOOK_TIMEOUT, proxy_seconds=_LOOK_PROXY_SECONDS),
            restic=lambda config, secrets, stop: Restic(config, secrets, cancelled=stop),
            state=State,
            words=words_here(),
        )

    def _tools(self, engine: DockerHost | None = None) -> Tools:
        config = self.config()
        discovery = Discovery(config, engine or DockerHost(), self.cancelled, self.emit)
        copy_to = self.copy_restic if config.copy_to else None
        return Tools(config, discovery, self.restic(), self.state, self.emit, self.cancelled, copy_to)


def recipients_of(addresses: Addresses) -> Recipients:
    """Whom to notify. Raises ConfigurationError if an address is invalid."""
    services = notify.services(addresses.notify)
    for service in services:
        service.check()
    return Recipients(services, heartbeat.Heartbeat(addresses.heartbeat) if addresses.heartbeat else None)


def status_of(config: Config) -> status.Status:
    """The current status, from what is recorded."""
    state = State()
    return judge(config, state.read(), state)


def judge(config: Config, document: StateRecord, state: State) -> status.Status:
    """The current status, from a record of this host that *state* has given."""
    now = utc_now()
    # A status needs no secrets, so health can never be wrong for lack of one.
    return status.judge(
        config,
        redact_address(config.repository),
        document,
        state.first_started(now, document),
        now,
        lost_with_host=place.is_lost_with_the_host(config),
        damage=state.damage(),
    )

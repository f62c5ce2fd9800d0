# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers are database containers, and how to log in to them: who asks Docker and PostgreSQL.

The decisions are pure functions over the engine's documents, in ``documents.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from scalr_backup.actions import latecomers
from scalr_backup.actions.credentials import resolve_credentials, ways_in
from scalr_backup.actions.documents import (
    FILTERED,
    LABEL,
    UNNAMED,
    exclusion,
    from_summary,
    judge,
    may_match,
    texts,
    unmatched,
)
from scalr_backup.core import power
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.connection import Connection
from scalr_backup.core.errors import (
    ContainerGoneError,
    ContainerRefusedError,
    ContainerStoppedError,
    CredentialsError,
    DockerUnreachableError,
    InterruptedRunError,
    InvalidAnswerError,
    LateAnswerError,
    PartlyUnknownError,
    PostgresError,
    UnknownDatabaseError,
)
from scalr_backup.core.model import Cluster, Container, Credentials, Failure, kept_since, name_fits
from scalr_backup.core.order_wish import misread_label
from scalr_backup.core.progress import Emit, log, nobody
from scalr_backup.core.recognition import Unmatched
from scalr_backup.core.records.host import LookRecord
from scalr_backup.core.records.passes import LeftOutDatabaseRecord, MatchesRecord, UnmatchedRecord
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import LOOK, Patience, ServerFacts, run_of_application

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")

# A look at one that nobody waits for, or that is asked again when the others are saved, may take so many times as long.
_PATIENT = 5
# What pg_isready takes that gives up after five seconds, on a host that is busy.
_READY_SECONDS = 30.0
# So many containers are looked at side by side: one that the engine or its server hangs on costs its own time-outs alone.
_AT_ONCE = 8

# More PostgreSQL containers that nothing backs up are not put on record.
_MOST_RECORDED = 200


@dataclass(frozen=True)
class HostLook:
    """What a look at the containers of a host has found: those that match, and PostgreSQL servers that nothing backs up."""

    matches: tuple[Container, ...]
    unmatched: tuple[Unmatched, ...]

    def as_record(self, now: datetime) -> LookRecord:
        """What the status has to know of it, as it is kept on record."""
        return {
            "time": now.isoformat(),
            "called": {container.name: container.called for container in self.matches if container.called},
            "matching": [container.name for container in self.matches if container.status != "excluded"],
            "unmatched": [container.as_dict() for container in self.unmatched[:_MOST_RECORDED]],
        }


@dataclass(frozen=True)
class Discovered:
    """What discovery found on a host: every container that matched, and the clusters that answered.

    *look* is at the whole host, whichever of its containers were chosen.
    """

    containers: tuple[Container, ...]
    clusters: tuple[Cluster, ...]
    look: HostLook

    def with_answers(self, answers: Mapping[str, tuple[Container, Cluster | None]]) -> Discovered:
        """The same with what some of the containers, by their names, have answered since."""
        containers = tuple(answers[one.name][0] if one.name in answers else one for one in self.containers)
        late = [cluster for _container, cluster in answers.values() if cluster]
        clusters = sorted((*self.clusters, *late), key=lambda cluster: cluster.container.name)
        return replace(self, containers=containers, clusters=tuple(clusters))

    @property
    def warnings(self) -> list[str]:
        """A sentence for each match, and each database of one, that cannot be backed up."""
        return [
            f"{container.name} is {container.status}: {container.reason}"
            for container in self.containers
            if container.status in ("stopped", "unreachable", "refused")
        ] + [*self.left_out, *self.misread_labels]

    @property
    def beside(self) -> MatchesRecord:
        """What there is in the clusters that a pass does not save: copies that restores have kept, and what it cannot save."""
        return {
            "kept": [copy for cluster in self.clusters for copy in cluster.kept_as_dicts()],
            "left_out": [one for cluster in self.clusters for one in cluster.left_out_as_dicts()],
        }

    @property
    def misread_labels(self) -> list[str]:
        """A sentence for each container that is backed up and whose label about the order of rows makes no sense."""
        return [why for cluster in self.clusters if (why := misread_label(cluster.container))]

    @property
    def left_out(self) -> list[str]:
        """A sentence for each database that cannot be saved."""
        return [not_saved(one) for cluster in self.clusters for one in cluster.left_out_as_dicts()]


class Discovery:
    """Finds the database containers of a host."""

    def __init__(
        self, config: Config, docker: DockerHost, cancelled: threading.Event | None = None, emit: Emit = nobody
    ) -> None:
        """Waiting for a server ends when *cancelled* is set, and *emit* is told what blocks it."""
        self._config = config
        self._docker = docker
        self._cancelled = cancelled or threading.Event()
        self._emit = emit
        self._facts: ServerFacts = {}

    def matches(self) -> list[Container]:
        """Every container that matches, in the order of names, running or not, excluded ones too."""
        return list(self.look().matches)

    def look(self) -> HostLook:
        """Look at every container of the host, each by itself; nothing that does not match is inspected."""
        found = side_by_side(self._look_into, self._docker.containers())
        matches = one_of_each_name([one for one in found if isinstance(one, Container)])
        for match in matches:
            self._know(match)
        unmatched = (one for one in found if isinstance(one, Unmatched))
        return HostLook(
            tuple(sorted(matches, key=lambda container: container.name)),
            tuple(sorted(unmatched, key=lambda container: container.name)),
        )

    def clusters(self, patterns: Sequence[str] = (), application: str = LOOK) -> Discovered:
        """The matching containers, and what the running ones hold; *patterns* are globs over names.

        Each has its own time to answer, and what it says is its own failure at the worst.

        Raises UnknownDatabaseError when a pattern fits none; its sentence lists what there is.
        """
        look = self.look()
        chosen = choose(look.matches, patterns, self._config.host, look.unmatched)
        found = side_by_side(lambda match: self._ask(match, application, self._config.look_seconds), chosen)
        containers = tuple(container for container, _cluster in found)
        return Discovered(containers, tuple(cluster for _container, cluster in found if cluster), look)

    def cluster(self, name: str, application: str, *, anywhere: bool = False) -> Cluster:
        """The cluster of one running container; *anywhere* takes one too that is not to be backed up.

        Raises UnknownDatabaseError, ContainerStoppedError, or what keeps it from answering.
        """
        named = self._named(name) if anywhere else []
        look = HostLook(tuple(named), ()) if named else self._look_at(name)
        matches = [match for match in look.matches if name in match.names] or look.matches
        container = choose(matches, [name], self._config.host, look.unmatched)[0]
        if container.status == "stopped":
            raise ContainerStoppedError(
                f"{name} on {self._config.host} is {container.state}; start it, then run this again."
            )
        if container.status == "excluded" and not anywhere:
            raise UnknownDatabaseError(f"{name} on {self._config.host} is excluded: {container.reason}.")
        if container.status == "refused":
            raise ContainerRefusedError(f"{name} is refused: {container.reason}")
        if container.status == "unreachable":
            raise DockerUnreachableError(f"{name} on {self._config.host}: {container.reason}")
        return self._describe(container, application, _PATIENT * self._config.look_seconds)

    def look_again(self, container: Container, application: str) -> tuple[Container, Cluster | None]:
        """One match that could not be asked, as it is now."""
        try:
            now = self._judge(self._docker.inspect(container.id)) or container
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are asked)
            return container.with_status(container.status, Failure.of(error).message, container.code), None
        # What cannot be understood has no more time than at first: it may have been said in an odd moment, such as in a DROP.
        seconds = self._config.look_seconds * (1 if container.code == InvalidAnswerError.code else _PATIENT)
        # Another container may have been in the way of its name.
        return self._ask(replace(now, name=container.name, called=container.called), application, seconds)

    def is_coming(self, container: Container) -> bool:
        """Whether its server is about to answer, so that waiting for it is worth while."""
        try:
            now = self._judge(self._docker.inspect(container.id)) or container
            readiness = None
            if now.state == "running":
                way = self._connection(now)
                port = [f"--port={way.port}"] if way.port else []
                place = [f"--host={way.place}"] if way.place else []
                argv = ["pg_isready", "--quiet", "--timeout=5", *place, *port]
                ready = self._docker.run(now.name, argv, silence_seconds=_READY_SECONDS)
                readiness = ready.exit_code
        except ContainerStoppedError:
            return True
        except Exception:  # noqa: BLE001 (then it is not waited for)
            return False
        return latecomers.is_coming(now.state, readiness, now.started, utc_now())

    def _look_at(self, name: str) -> HostLook:
        """A look at the one container of that name; at all, where it is none to be backed up, so that it can be said what is.

        A name that a label gives may be another container's own.
        """
        for summary in self._docker.containers():
            container = from_summary(summary)
            if container.name == name and not container.called:
                found = self._look_into(summary)
                if isinstance(found, Container):
                    return HostLook((found,), ())
        return self.look()

    def _look_into(self, summary: Mapping[str, Any]) -> Container | Unmatched | None:
        """Decide on one container of the engine's list, and inspect it only where its name and its label let us."""
        container, labels = from_summary(summary), texts(summary.get("Labels"))
        called = container.called or container.name
        if not may_match(self._config, called, labels):
            return unmatched(self._config, summary, UNNAMED)
        if reason := exclusion(self._config, called, labels):
            return container.with_status("excluded", reason)
        try:
            return self._judge(self._docker.inspect(container.id)) or unmatched(self._config, summary, FILTERED)
        except ContainerGoneError:
            return None
        except Exception as error:  # noqa: BLE001 (whatever is wrong with this one, the others are looked at)
            return container.with_status("unreachable", f"it cannot be inspected: {Failure.of(error).message}")

    def _judge(self, document: Mapping[str, Any], config: Config | None = None) -> Container | None:
        """Decide on one inspect document; one that has power over the host is refused, whatever its name and its label say."""
        container = judge(config or self._config, document)
        # Nothing can be run in one that is stopped.
        if container is None or container.status == "stopped" or (container.status == "excluded" and config is None):
            return container
        called = container.called or container.name
        held = self._docker.power(document, accepted=called in self._config.host_namespaces_accepted)
        return container.with_status("refused", power.reason(held)) if held else container

    def _named(self, name: str) -> list[Container]:
        """The container of exactly that name, whether it matches or not."""
        try:
            container = self._judge(self._docker.inspect(name), self._config.model_copy(update={"filter": ""}))
        except ContainerGoneError:
            return []
        if container is None or name not in container.names:
            return []
        self._know(container)
        return [container]

    def _know(self, container: Container) -> None:
        """What is asked of a container by the name of its backups goes to the container."""
        if container.called:
            self._docker.know(container.name, container.called)

    def postgres(
        self, container: Container, credentials: Credentials, application: str, *, seconds: float | None = None
    ) -> Postgres:
        """A way to a cluster for one run, whose calls end when the run is told to stop, and *seconds* from now."""
        run = run_of_application(application)

        def tell(words: str) -> None:
            self._emit(log("warning", words, container=container.name, **({"run": run} if run else {})))

        stop = self._stop_in(container, seconds) if seconds is not None else partial(self._stop_if_told, container)
        patience = Patience(self._config.lock_wait_seconds, stop, tell)
        return Postgres(self._docker, container.name, credentials, application, facts=self._facts, patience=patience)

    def _stop_if_told(self, container: Container) -> None:
        if self._cancelled.is_set():
            raise InterruptedRunError(f"Told to stop while waiting for {container.name}.")

    def _stop_in(self, container: Container, seconds: float) -> Callable[[], None]:
        """What ends a look that takes longer, whatever it waits for: others wait for it."""
        deadline = time.monotonic() + seconds

        def stop() -> None:
            self._stop_if_told(container)
            if time.monotonic() > deadline:
                raise LateAnswerError(
                    f"{container.name} has not answered within {seconds:.0f} s and is no longer waited for."
                )

        return stop

    def _ask(self, container: Container, application: str, seconds: float) -> tuple[Container, Cluster | None]:
        """What one container holds; whatever is wrong with it is its own status."""
        if container.status != "ok":
            return container, None
        try:
            return container, self._describe(container, application, seconds)
        except ContainerStoppedError as error:
            return container.with_status("stopped", error.message), None
        except ContainerGoneError:
            return container.with_status("stopped", "it vanished during discovery"), None
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are asked)
            own = error.code if isinstance(error, (InvalidAnswerError, LateAnswerError)) else None
            return container.with_status("unreachable", Failure.of(error).message, own), None

    def _describe(self, container: Container, application: str, seconds: float) -> Cluster:
        stop = self._stop_in(container, seconds)
        told = resolve_credentials(
            container.environment, lambda path: self._read_file(container, path, stop), self._connection(container)
        )
        with ExitStack() as held:
            credentials, postgres, version = self._log_in(container, told, application, seconds, held)
            found, left_out = postgres.databases()
        kept = tuple(database for database in found if kept_since(database.name))
        databases = tuple(database for database in found if database not in kept)
        return Cluster(container, credentials, version, databases, kept, left_out)

    def _connection(self, container: Container) -> Connection:
        rules = (
            rule
            for glob, rule in self._config.connections.items()
            if name_fits(container.called or container.name, [glob])
        )
        return next(rules, Connection()).under(container.labels, container.name)

    def _log_in(
        self, container: Container, told: Credentials, application: str, seconds: float, held: ExitStack
    ) -> tuple[Credentials, Postgres, str]:
        """The way in that works: the one that is told, else the others that such images have; and the server's version.

        As long as the looks are *held*, they share a session.

        Raises PostgresError with what the first way came to, or CredentialsError where a password was missing for it.
        """
        deadline = time.monotonic() + seconds
        first: PostgresError | None = None
        for credentials in ways_in(told, container.environment.get("PGUSER"), own_network=container.own_network):
            postgres = self.postgres(container, credentials, application, seconds=deadline - time.monotonic())
            held.enter_context(postgres.kept_open())
            try:
                return credentials, postgres, postgres.server_version()
            except InvalidAnswerError:
                raise
            except PostgresError as error:
                first = first or error
                # An error that has a code came from a session, so the way in is good.
                if error.sqlstate is not None:
                    break
        assert first is not None
        if told.problem:
            raise CredentialsError(f"{told.problem}; without it: {first.message}") from None
        raise first

    def _read_file(self, container: Container, path: str, stop: Callable[[], None]) -> str:
        content, why = self._docker.read_file(container.name, path, stop)
        if why:
            raise CredentialsError(f"{container.name}: the credentials file {path} cannot be read: {why}")
        # A null byte can be in no variable, and so in no password.
        return content.decode("utf-8", "replace").partition("\0")[0].rstrip("\n")


def side_by_side(look: Callable[[Thing], Answer], things: Iterable[Thing]) -> list[Answer]:
    """What a look at each of several things says, in their order."""
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        return list(workers.map(look, things))


def not_saved(one: LeftOutDatabaseRecord) -> str:
    """The sentence for a database that no pass can save."""
    return f"{one['container']}/{one['database']} is not backed up: {one['why']}."


def still_unmatched(config: Config, record: LookRecord) -> list[UnmatchedRecord]:
    """What a look has put on record of PostgreSQL containers that nothing backs up, as far as that is so by now's rules."""
    return [
        container
        for container in record.get("unmatched", ())
        if config.report_unmatched
        and not name_fits(container["name"], config.exclude)
        and not (container["why"] == UNNAMED and name_fits(container["name"], config.containers))
        and not (container["why"] == FILTERED and not config.filter)
    ]


def choose(
    matches: Sequence[Container], patterns: Sequence[str], host: str, unmatched: Sequence[Unmatched] = ()
) -> list[Container]:
    """The matches that fit one of the patterns; all of them without patterns.

    Raises UnknownDatabaseError when a pattern fits none, with what to do where it fits one of the *unmatched*; it is a
    PartlyUnknownError where another one fits.
    """
    fitting = [match for match in matches if not patterns or _fits(match, patterns)]
    refusal = PartlyUnknownError if fitting else UnknownDatabaseError
    for pattern in patterns:
        if not any(_fits(match, [pattern]) for match in matches):
            meant = next((one for one in unmatched if name_fits(one.name, [pattern])), None)
            if meant:
                raise refusal(
                    f"{meant.name} on {host} runs PostgreSQL, but {meant.why}: name it in backup_containers, or label "
                    f"it {LABEL}=true."
                )
            names = ", ".join(match.name for match in matches) or "none"
            raise refusal(
                f"There is no database container {pattern!r} on {host}; the database containers there: {names}."
            )
    return fitting


def _fits(match: Container, patterns: Sequence[str]) -> bool:
    return any(name_fits(name, patterns) for name in match.names)


def one_of_each_name(matches: Sequence[Container]) -> list[Container]:
    """The matches, each with a name of its own.

    Of several that would keep their backups under one name, the one that runs is meant: the others are what it was before. Two
    that run are two databases, and neither may write into the history of the other.
    """
    found: list[Container] = []
    for name in dict.fromkeys(match.name for match in matches):
        same = [match for match in matches if match.name == name]
        alive = [match for match in same if match.state == "running"] or same[:1]
        if len(alive) == 1:
            found += alive
        else:
            found += [replace(match, name=match.called or match.name, called="") for match in alive]
    return found

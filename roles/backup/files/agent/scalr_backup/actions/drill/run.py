# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: a snapshot is restored into a throwaway server, compared with its manifest, and looked through.

Each database gets a server of its own, from the image that its source had: in memory only, without a network, gone
afterwards. So a database that breaks its server breaks no other drill, the largest one alone says how much
memory is needed, and each one proves that it comes back into an empty cluster. The restore is the operator's own
(``actions/restore``), with the throwaway container as its target; the app's container is not even asked.

What is measured as the recovery time is the restore: from the first byte of the dump that is asked of the repository
to a database that is verified, analysed and in its place. Looking for the snapshot, starting the server, pg_amcheck
and assertions are not in it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.actions.documents import LABEL
from scalr_backup.actions.drill.plan import (
    DrillSubject,
    assertion_files,
    choose_containers,
    is_own_image,
    judge_values,
    require_memory,
    speaks_of_the_backup,
    throwaway,
)
from scalr_backup.actions.drill.result import (
    AMCHECK_FAILED,
    AMCHECK_MISSING,
    AMCHECK_PASSED,
    DatabaseDrill,
    DrillRequest,
    DrillResult,
)
from scalr_backup.actions.drill.server import ThrowawayServer
from scalr_backup.actions.restore import selection
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.actions.restore.run import Restore
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import CONFIG_FILE
from scalr_backup.core.errors import (
    AssertionsError,
    CallRefusedError,
    DamagedRelationsError,
    DockerUnreachableError,
    InterruptedRunError,
    NoImageError,
    NotTriedError,
    PartlyUnknownError,
    RepositoryUnreachableError,
    ScalrBackupError,
    UnknownDatabaseError,
    UnknownSnapshotError,
    UnreadableManifestError,
)
from scalr_backup.core.model import Failure, Snapshot, kept_since, new_run_id
from scalr_backup.core.power import DRILL_LABEL
from scalr_backup.core.progress import Event, log, progress
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.docker.throwaway import Image, host_memory
from scalr_backup.tools.docker.throwaways import Throwaways
from scalr_backup.tools.locks import DRILL_LOCK
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX
from scalr_backup.tools.restic.repository import Restic

NAME_PREFIX = "scalr-backup-drill-"
# A throwaway container's run, and whose it is: agents on one engine leave each other's alone.
RUN_LABEL, AGENT_LABEL = DRILL_LABEL, f"{LABEL}.agent"

ASSERTIONS_DIRECTORY = CONFIG_FILE.parent / "drill"

_TELL_SECONDS = 2.0
_MAX_JOBS = 8
# How many assertions that do not hold a sentence names.
_LISTED = 12
# What fits a pipe, so that reading a file never waits for somebody who waits for its answer.
_MAX_ASSERTION_BYTES = 60 * 1024


class Drill(UseCase):
    """Drills databases one after the other, each in a throwaway container."""

    def __init__(self, tools: Tools, docker: Throwaways, source: Restic | None = None) -> None:
        """*source* is the repository that is restored from; this agent's own unless given."""
        super().__init__(tools)
        self._source = source or tools.restic
        self._is_own = source is None
        self._tools = tools
        self._docker = docker

    def run(self, request: DrillRequest) -> DrillResult:
        """Drill; one database's failure never stops the others, and is in the result.

        Raises BusyError beside a running drill, or the ScalrBackupError that keeps every database from being drilled, such
        as DrillRefusedError.
        """
        started = utc_now()
        self._docker.require_throwaways()
        result = DrillResult(new_run_id(), self._config.host, started, started)
        holder = f"run {result.run}, since {started:%Y-%m-%d %H:%M:%S} UTC"
        with self._begun(result.run), self._state.locks.hold(DRILL_LOCK, holder):
            self._remove_leftovers(result)
            self._source.require_version()
            try:
                for number, subject in enumerate(self._subjects(request, result), start=1):
                    self._stop_if_told()
                    outcome = self._drill(request, result, subject, number)
                    result.databases.append(outcome)
                    self._record(request, result, outcome)
            except InterruptedRunError as error:
                result.error = Failure(error.code, error.message)
            finally:
                self._state.forget_containers(NAME_PREFIX)
        result.finished = utc_now()
        return result

    def _subjects(self, request: DrillRequest, result: DrillResult) -> list[DrillSubject]:
        """What is drilled, in the order of names; containers whose choice fails are warnings beside others.

        One that was asked for by its name is more than that: the drill was not what was asked for.

        Raises the ScalrBackupError of the first one when there is nothing to drill.
        """
        host = request.from_host or self._config.host
        snapshots = self._source.snapshots(host)
        manifests = Manifests(self._source, snapshots)
        subjects: list[DrillSubject] = []
        obstacles: list[ScalrBackupError] = []
        for container in choose_containers(snapshots, request.patterns, self._config.exclude, host):
            try:
                chosen = selection.select(
                    snapshots,
                    container,
                    request.database,
                    request.snapshot,
                    self._config.timezone,
                    listed=partial(manifests.listed, container=container),
                )
            except (UnknownDatabaseError, UnknownSnapshotError) as error:
                obstacles.append(error)
                if container in request.patterns:
                    is_unknown = isinstance(error, UnknownDatabaseError)
                    result.missing.append(Failure(PartlyUnknownError.code if is_unknown else error.code, error.message))
                continue
            for sentence in chosen.warnings:
                self._warn(result, f"{container}: {sentence}")
            # Earlier versions have backed up what restores have kept, too.
            meant = [one for one in chosen.snapshots if request.database or not kept_since(one.database or "")]
            subjects += [self._subject(result, manifests, one, alone=len(meant) == 1) for one in meant]
        if not subjects:
            raise (
                obstacles[0]
                if obstacles
                else UnknownDatabaseError("There are only kept copies, which are not drilled.")
            )
        for obstacle in obstacles:
            self._warn(result, obstacle.message)
        return subjects

    def _subject(self, result: DrillResult, manifests: Manifests, one: Snapshot, *, alone: bool) -> DrillSubject:
        """One database to drill; a pass that was killed has no manifest, and the pass before knows the cluster too."""
        try:
            described, cluster = manifests.describe(one), manifests.cluster(one)
        except UnreadableManifestError as error:
            return DrillSubject(one, {}, {}, alone=alone, obstacle=error)
        if not cluster:
            complaints: list[str] = []
            container, _database = one.dump_of
            _manifest, cluster = next(manifests.others(container, [one], complaints), (None, cluster))
            for sentence in complaints:
                self._warn(result, sentence)
        return DrillSubject(one, described, cluster, alone=alone)

    def _drill(self, request: DrillRequest, result: DrillResult, subject: DrillSubject, number: int) -> DatabaseDrill:
        """Drill one database; whatever goes wrong is in the outcome.

        Raises InterruptedRunError.
        """
        outcome = DatabaseDrill(subject.container, subject.database, subject.snapshot.id, subject.snapshot.time)
        outcome.tried = False
        try:
            if subject.obstacle is not None:
                # An unreadable manifest is the backup's fault, whatever image was asked for.
                outcome.tried = outcome.own_image = True
                raise subject.obstacle
            image = self._image(request, result, subject, outcome)
            require_memory(subject, host_memory(), self._config.host)
            name = f"{NAME_PREFIX}{result.run.lower()}-{number}"
            with self._server(result, subject, image, name) as postgres:
                # What goes wrong before this says nothing about the backup, whatever it is.
                outcome.tried = True
                self._restore(request, result, subject, outcome, name)
                self._look_through(subject, outcome, postgres)
            outcome.ok = True
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, the other databases are drilled)
            # An error may also be what it looks like when the drill is told to stop.
            self._stop_if_told()
            outcome.tried = outcome.tried and self._speaks_of_the_backup(error, subject, outcome)
            outcome.error = Failure.of(error)
            level, fate = ("error", "failed its drill") if outcome.tried else ("warning", "could not be drilled")
            self._emit(log(level, f"{subject.container}/{subject.database} {fate}: {outcome.error.message}"))
        return outcome

    def _speaks_of_the_backup(self, error: Exception, subject: DrillSubject, outcome: DatabaseDrill) -> bool:
        """Whether a drill that was begun has failed for a reason that may lie with the backup.

        A server that goes away may have been brought down by what was restored into it, and a store may not have what it
        should. So one that does not answer is asked again: one that stays silent is itself to blame.
        """
        code = Failure.of(error).code
        if isinstance(error, NotTriedError) or not speaks_of_the_backup(code, own_image=outcome.own_image):
            return False
        try:
            if code == DockerUnreachableError.code:
                self._docker.containers()
            if code == RepositoryUnreachableError.code:
                self._source.snapshots(subject.snapshot.host)
        except (DockerUnreachableError, RepositoryUnreachableError):
            return False
        return True

    def _image(
        self, request: DrillRequest, result: DrillResult, subject: DrillSubject, outcome: DatabaseDrill
    ) -> Image:
        """The image to drill with: the asked one, else the source's very image, else what its name means here.

        Raises NoImageError.
        """
        name = request.image or subject.cluster.get("image")
        if not name:
            raise NoImageError(
                f"No manifest records the image of {subject.container}; name one with its PostgreSQL (--image)."
            )
        outcome.image = str(name)
        image = self._find_image(request, result, subject, outcome.image)
        outcome.own_image = is_own_image(subject, image, request.image)
        return image

    def _find_image(self, request: DrillRequest, result: DrillResult, subject: DrillSubject, name: str) -> Image:
        image_id = None if request.image else subject.cluster.get("image_id")
        # One that may not be used any more, because nothing on this host runs it, leaves what its name means now.
        with suppress(CallRefusedError):
            if image_id and (image := self._docker.image(image_id)):
                return image
        image = self._docker.image(name)
        if image is None:
            self._tell("container", subject, image=name)
            self._docker.pull(name, self._patience("container", subject))
            image = self._docker.image(name)
        if image is None:
            raise NoImageError(f"The image {name} was pulled, but is not there.")
        if image_id and image.id != image_id:
            self._warn(
                result,
                f"{subject.container} ran a different {name} from the one on this host; the drill of {subject.database} "
                "uses this host's.",
            )
        return image

    @contextmanager
    def _server(self, result: DrillResult, subject: DrillSubject, image: Image, name: str) -> Iterator[Postgres]:
        """A server that answers, in a container that is removed in any case.

        Raises ThrowawayError, or NoMemoryError for what fails because the server has too little.
        """
        self._tell("container", subject, image=image.id)
        password = secrets.token_urlsafe(32)
        labels = {LABEL: "false", RUN_LABEL: result.run, AGENT_LABEL: self._state.agent_id()}
        spec = throwaway(subject, image, name, password, labels)
        application = f"{APPLICATION_PREFIX} {result.run}"
        server = ThrowawayServer(self._docker, spec, password, application, self._patience("container", subject))
        try:
            with server.memory_watched():
                yield server.start()
        finally:
            try:
                server.remove()
            except ScalrBackupError as error:
                self._warn(result, f"{name} could not be removed, and the next drill removes it: {error.message}")

    def _restore(
        self, request: DrillRequest, result: DrillResult, subject: DrillSubject, outcome: DatabaseDrill, target: str
    ) -> None:
        """Restore the snapshot as an operator would.

        Raises ScalrBackupError in the restore's words.
        """

        def emit(event: Event) -> None:
            # What is restored is the source's; the throwaway container's name means nothing to anyone.
            self._emit(event | {"container": subject.container} if event.get("container") == target else event)

        tools = replace(self._tools, emit=emit)
        restored = Restore(tools, None if self._is_own else self._source).run(
            RestoreRequest(
                container=subject.container,
                database=subject.database,
                snapshot=subject.snapshot.id,
                confirm=target,
                safety_snapshot=False,
                target=target,
                from_host=request.from_host,
                throwaway=True,
            )
        )
        for sentence in (*restored.plan.warnings, *restored.warnings):
            self._warn(result, f"{subject.container}: {sentence}")
        (database,) = restored.databases
        outcome.objects = database.objects
        if database.error is not None:
            raise _RestoreFailedError(database.error)
        outcome.recovery_seconds = database.duration_seconds
        if database.verified is not None:
            outcome.tables, outcome.rows = database.verified["tables"], database.verified["rows"]

    def _look_through(self, subject: DrillSubject, outcome: DatabaseDrill, postgres: Postgres) -> None:
        """Let pg_amcheck and the operator's assertions judge the restored database; both have their say.

        Raises DamagedRelationsError or AssertionsError.
        """
        damage: DamagedRelationsError | None = None
        try:
            outcome.amcheck = AMCHECK_PASSED if self._amcheck(subject, postgres) else AMCHECK_MISSING
        except DamagedRelationsError as error:
            outcome.amcheck, damage = AMCHECK_FAILED, error
        refuted = self._assertions(subject, outcome, postgres)
        if damage is not None:
            raise damage
        if refuted:
            raise AssertionsError(
                f"{len(refuted)} of {sum(outcome.assertions.values())} assertions failed on the restored "
                f"{subject.database}: {'; '.join(refuted[:_LISTED])}."
            )

    def _amcheck(self, subject: DrillSubject, postgres: Postgres) -> bool:
        """Check every table and index; False where the image cannot."""
        if not postgres.has_amcheck():
            return False
        self._tell("amcheck", subject)
        jobs = min(os.cpu_count() or 1, _MAX_JOBS)
        postgres.while_waiting(self._patience("amcheck", subject)).check_relations(subject.database, jobs)
        return True

    def _assertions(self, subject: DrillSubject, outcome: DatabaseDrill, postgres: Postgres) -> list[str]:
        """Run the operator's assertions; what is wrong with those that do not hold."""
        paths = assertion_files(ASSERTIONS_DIRECTORY, subject)
        refuted = []
        for number, path in enumerate(paths, start=1):
            self._tell("assertions", subject, done=number - 1, total=len(paths))
            obstacle = self._assert(subject, path, postgres)
            outcome.assertions["failed" if obstacle else "passed"] += 1
            if obstacle:
                refuted.append(f"{path.name}: {obstacle}")
        return refuted

    def _assert(self, subject: DrillSubject, path: Path, postgres: Postgres) -> str | None:
        """Why one assertion does not hold; None when it does."""
        try:
            content = path.read_bytes()
            if len(content) > _MAX_ASSERTION_BYTES:
                return f"it is larger than {human_bytes(_MAX_ASSERTION_BYTES)}"
            sql = content.decode()
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            return "it is not UTF-8"
        patient = postgres.while_waiting(self._patience("assertions", subject))
        try:
            return judge_values(patient.run_read_only(subject.database, sql))
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            return error.message.rstrip(".")

    def _record(self, request: DrillRequest, result: DrillResult, outcome: DatabaseDrill) -> None:
        """Remember the outcome, if it says something of this host's own backups.

        One that could not be tried does not, nor does a failure in an image that the source never ran.
        """
        speaks = outcome.ok or (outcome.tried and (outcome.own_image or request.image is None))
        if speaks and self._is_own and request.from_host in (None, self._config.host):
            self._state.record_drill({**outcome.as_dict(), "run": result.run, "time": utc_now().isoformat()})

    def _remove_leftovers(self, result: DrillResult) -> None:
        """Remove the containers of killed drills; no other drill of this agent runs while this one holds the lock."""
        agent_id = self._state.agent_id()
        for summary in self._docker.containers():
            labels = summary.get("Labels") or {}
            if RUN_LABEL not in labels or labels.get(AGENT_LABEL) != agent_id:
                continue
            what = f"The throwaway container of the killed drill {labels[RUN_LABEL]}"
            try:
                self._docker.remove_container(summary["Id"])
            except ScalrBackupError as error:
                self._warn(result, f"{what} could not be removed, and the next drill tries again: {error.message}")
            else:
                self._warn(result, f"{what} was removed.")

    def _tell(self, phase: str, subject: DrillSubject, **facts: Any) -> None:
        self._emit(progress(phase, container=subject.container, database=subject.database, **facts))

    def _patience(self, phase: str, subject: DrillSubject) -> Callable[[], None]:
        """What to call while something says nothing: it tells every two seconds that it goes on.

        It raises InterruptedRunError when the drill is told to stop; what goes on then ends with its container.
        """
        started = told = time.monotonic()

        def wait() -> None:
            nonlocal told
            self._stop_if_told()
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                self._tell(phase, subject, elapsed_seconds=round(told - started, 1))

        return wait

    def _stop_if_told(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedRunError("The drill was told to stop; its throwaway container is removed.")


class _RestoreFailedError(ScalrBackupError):
    """What a restore said of its one database, under its own code."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.code = failure.code  # type: ignore[misc]

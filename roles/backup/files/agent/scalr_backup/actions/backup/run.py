# SPDX-License-Identifier: GPL-3.0-or-later
"""A pass: every database of the host, one snapshot each, then the manifest, then retention."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from scalr_backup import __version__
from scalr_backup.actions import latecomers, leftovers, missing
from scalr_backup.actions.backup.dump import Dumped, Dumper, lacking, unchecked, uncounted
from scalr_backup.actions.backup.locks import ContainerLocks
from scalr_backup.actions.backup.manifest import require_readable_size
from scalr_backup.actions.backup.names import Names, under_own_names
from scalr_backup.actions.backup.result import PassPlan, PassRequest, PassResult
from scalr_backup.actions.backup.saved_roles import read_roles
from scalr_backup.actions.backup.second_try import Company, deserves_another
from scalr_backup.actions.discovery import Discovered
from scalr_backup.actions.repository import maintenance
from scalr_backup.actions.repository.copy import Copier
from scalr_backup.actions.retention import policy as retention
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    DumpError,
    InterruptedRunError,
    PostgresError,
    ScalrBackupError,
    TwoHostsError,
    UnknownDatabaseError,
)
from scalr_backup.core.extensions import SHARED_SETTINGS
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import (
    AGENT_TAG,
    MANIFEST_PATH,
    NIGHTLY,
    Cluster,
    Container,
    DatabaseBackup,
    Failure,
    Snapshot,
    Volume,
    new_run_id,
)
from scalr_backup.core.progress import log
from scalr_backup.core.records.manifest import MANIFEST_VERSION, Manifest, ManifestCluster
from scalr_backup.core.records.state import PassRecord, RepositoryRecord
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX

# Between two looks at a server that is starting.
_PAUSE_SECONDS = 3.0


class Pass(UseCase):
    """One pass over the databases of this host."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._tools = tools

    def run(self, request: PassRequest) -> PassResult:
        """Back up; one database's failure never stops the others, and is in the result.

        Raises BusyError when another pass runs, and UnknownDatabaseError. What makes the whole pass impossible (no
        repository, a wrong password, an unexpected error) is recorded and raised.
        """
        now = utc_now()
        result = PassResult(new_run_id(now), request.reason, self._config.host, now, now)
        holder = f"run {result.run} ({request.reason}), since {now:%Y-%m-%d %H:%M:%S} UTC"
        with (
            self._begun(result.run),
            self._state.locks.hold(PASS_LOCK, holder, request.wait_seconds, self._cancelled.is_set),
        ):
            if request.reason == NIGHTLY:
                self._state.nightly_started(now)
            try:
                self._run(request, result)
            except UnknownDatabaseError:
                raise  # A question about what is not here says nothing of the backups of what is.
            except ScalrBackupError as error:
                self._record(result, Failure(error.code, error.message))
                raise
            except Exception as error:
                self._record(result, Failure("internal", f"{type(error).__name__}: {error}"))
                raise
            self._record(result)
            if self._tools.copy_to is not None:
                self._copy(Copier(replace(self._tools, emit=self._emit)), result)
        return result

    def plan(self, patterns: Sequence[str]) -> PassPlan:
        """What a pass would back up now, and what of it would fail at once.

        Raises UnknownDatabaseError as the pass does.
        """
        discovered = self._discovery.clusters(patterns)
        missing.refuse_excluded(discovered, patterns, self._config.host)
        known = self._state.known_databases()
        lost = missing.gone(discovered, known, utc_now())
        failed = [
            failure
            for container in discovered.containers
            if missing.is_failure(container, patterns)
            for failure in missing.failures(container, known)
        ]
        databases = [
            (cluster.container.name, database.name) for cluster in discovered.clusters for database in cluster.databases
        ]
        if databases or failed:
            return PassPlan(databases, failed, missing.named_and_empty(discovered, patterns))
        return PassPlan(databases, failed, missing.nothing_saved(discovered, patterns, lost))

    def _record(self, result: PassResult, error: Failure | None = None) -> None:
        result.finished = utc_now()
        result.error = error or result.error
        self._state.record_pass(result.as_dict(), result.databases)

    def _copy(self, copier: Copier, result: PassResult) -> None:
        """Bring the second repository up to date; what the pass came to is on record already."""
        is_alone = result.error is None or result.error.code != TwoHostsError.code
        result.copy = copier.copy(forget=is_alone, not_of=result.paths(good=False))
        # The databases' own records say when their dumps were saved, and stay as they are.
        result.finished = utc_now()
        self._state.record_pass(result.as_dict(), [])

    def _run(self, request: PassRequest, result: PassResult) -> None:
        last_pass = self._state.read().get("last_pass")
        if damage := self._state.damage():
            self._warn(result, damage.sentence)
        self._restic.require_version()
        # The first call that opens the repository: a wrong password or a dead store ends the pass here.
        if removed := self._restic.unlock():
            self._warn(result, f"{removed} stale locks of a killed run were removed from the repository.")
        found = self._discovery.clusters(request.patterns, f"{APPLICATION_PREFIX} {result.run} look")
        discovered = replace(found, clusters=under_own_names(self._state, found.clusters))
        missing.refuse_excluded(discovered, request.patterns, self._config.host)
        self._note_look(result, discovered)
        late = [container for container in discovered.containers if latecomers.may_come(container)]
        self._judge(request, result, [one for one in discovered.containers if one not in late])
        known = self._state.known_databases()
        dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, known)
        dumped = self._dump_all(dumper, request, result, discovered.clusters)
        if late and not self._cancelled.is_set():
            answers = self._ask_again(late, result)
            clusters = under_own_names(self._state, [one for _container, one in answers.values() if one])
            dumped |= self._dump_all(dumper, request, result, clusters)
            discovered = discovered.with_answers(answers)
            self._judge(request, result, [container for container, _cluster in answers.values()])
        self._judge_whole(request, result, discovered)
        if self._cancelled.is_set():
            raise InterruptedRunError("The pass was told to stop; what it had saved by then is kept.")
        if dumped:
            self._save_manifest(request, result, discovered.clusters, dumped)
        snapshots = self._restic.snapshots()
        try:
            self._refuse_another_agent(last_pass, snapshots)
        except TwoHostsError as error:
            result.error = Failure(error.code, error.message)
            self._emit(log("error", error.message, run=result.run))
        else:
            self._apply_retention(result, snapshots)
        self._measure(result)

    def _measure(self, result: PassResult) -> None:
        """Note how large the repository is, who holds it, and how much room is left.

        The dumps are good whatever comes of it, so a failure is a warning.
        """
        try:
            size, locks, room = self._restic.size(), self._restic.locks(), self._restic.room()
            oldest = self._restic.oldest_lock(locks)
        except (ScalrBackupError, LookupError, ValueError) as error:
            self._warn(result, f"The repository was not measured: {error}")
            return
        measured: RepositoryRecord = {
            "time": utc_now().isoformat(),
            "size_bytes": size.stored_bytes,
            "uncompressed_bytes": size.uncompressed_bytes,
            "snapshots": size.snapshots,
            "locks": len(locks),
            "oldest_lock": oldest.isoformat() if oldest else None,
            "free_bytes": room[0] if room else None,
            "total_bytes": room[1] if room else None,
        }
        self._state.put(repository=measured)

    def _refuse_another_agent(self, last_pass: PassRecord | None, snapshots: Sequence[Snapshot]) -> None:
        """Find out whether another agent has backed up under this host's name since this one did so last.

        A rebuilt host has no last pass of its own, and takes over from one that is silent.

        Raises TwoHostsError: retention would judge the snapshots of two hosts as those of one.
        """
        if last_pass is None:
            return
        since = datetime.fromisoformat(last_pass["started"])
        others = [one for one in snapshots if one.agent not in (None, self._state.agent_id()) and one.time > since]
        if others:
            raise TwoHostsError(
                f"Another agent backed up under the name {self._config.host} into {self._restic.repository} at "
                f"{others[-1].time:%Y-%m-%d %H:%M} UTC, as when two inventories give two hosts one name: the dumps of "
                "both are kept, and nothing is removed until each has its own name or repository."
            )

    def _note_look(self, result: PassResult, discovered: Discovered) -> None:
        """Put on record what there is on this host, so that the status knows what nothing backs up."""
        self._state.put(look=discovered.look.as_record(utc_now()))
        result.unmatched = [container.as_dict() for container in discovered.look.unmatched]

    def _ask_again(self, late: Sequence[Container], result: PassResult) -> dict[str, tuple[Container, Cluster | None]]:
        """What containers that had no server to ask answer now; one that is just starting has a while for it."""
        answers: dict[str, tuple[Container, Cluster | None]] = {}
        deadline = time.monotonic() + self._config.start_wait_seconds
        waiting, asked_last = list(late), set[str]()
        while waiting:
            for container in waiting:
                application = f"{APPLICATION_PREFIX} {result.run} look"
                answers[container.name] = self._discovery.look_again(container, application)
            silent = [container for container in waiting if answers[container.name][1] is None]
            if time.monotonic() >= deadline:
                break
            coming = [one for one in silent if self._discovery.is_coming(one)]
            # Who is not coming any more may have come since it was asked.
            once_more = [one for one in silent if one not in coming and one.name not in asked_last]
            asked_last |= {one.name for one in once_more}
            if coming:
                names = ", ".join(one.name for one in coming)
                self._emit(log("info", f"Waiting for {names} to start.", run=result.run))
                if self._cancelled.wait(_PAUSE_SECONDS):
                    break
            waiting = coming + once_more
        return answers

    def _judge(self, request: PassRequest, result: PassResult, containers: Sequence[Container]) -> None:
        """What does not run is a failure where it should or was asked for by name, else a warning."""
        known = self._state.known_databases()
        for container in containers:
            if missing.is_failure(container, request.patterns):
                for failure in missing.failures(container, known):
                    result.databases.append(self._tell_failed(failure))
            elif container.status == "stopped":
                self._warn(result, f"{container.name} matches but was not backed up: {container.reason}.")

    def _judge_whole(self, request: PassRequest, result: PassResult, discovered: Discovered) -> None:
        """What is no more, what restores have kept, and whether anything was to be saved at all."""
        stopped = {one.name: one.state for one in discovered.containers if one.status == "stopped"}
        for sentence in discovered.left_out:
            self._warn(result, sentence)
        if not discovered.containers:
            self._warn(result, f"No container on {self._config.host} matches; nothing was backed up.")
        gone = missing.gone(discovered, self._state.known_databases(), result.started)
        if not request.patterns:
            for key in gone:
                self._warn(result, f"{key} was backed up before and is gone.")
            result.matches = {"gone": gone, "stopped": list(stopped), "states": stopped, **discovered.beside}
        self._judge_emptiness(request, result, discovered, gone)

    def _judge_emptiness(
        self, request: PassRequest, result: PassResult, discovered: Discovered, gone: Sequence[str]
    ) -> None:
        """A pass that saves nothing, or nothing of what was asked for by name, has failed."""
        if result.databases or any(cluster.databases for cluster in discovered.clusters):
            result.error = missing.named_and_empty(discovered, request.patterns)
        else:
            result.error = missing.nothing_saved(discovered, request.patterns, gone)

    def _dump_all(
        self, dumper: Dumper, request: PassRequest, result: PassResult, clusters: Sequence[Cluster]
    ) -> dict[tuple[str, str], Dumped]:
        tags = (request.reason, *request.tags)
        names = Names(self._state, clusters)
        work = names.work()
        dumped: dict[tuple[str, str], Dumped] = {}
        outcomes = self._round(dumper, tags, result, work, dumped, names, last=False)
        again = [number for number, one in enumerate(outcomes) if one is None and not names.is_gone(*work[number])]
        # One by one: what others had of the server's connections, locks and memory is free now.
        deadline = time.monotonic() + self._config.start_wait_seconds
        for number in again:
            self._await_server(work[number][0].container, deadline)
            outcomes[number] = self._round(dumper, tags, result, [work[number]], dumped, names, last=True)[0]
        result.databases += [outcome for outcome in outcomes if outcome]
        return dumped

    def _await_server(self, container: Container, deadline: float) -> None:
        """Wait for a server that is starting again, within bounds."""
        while (
            time.monotonic() < deadline
            and self._discovery.is_coming(container)
            and not self._cancelled.wait(_PAUSE_SECONDS)
        ):
            pass

    def _round(
        self,
        dumper: Dumper,
        tags: Sequence[str],
        result: PassResult,
        work: Sequence[tuple[Cluster, str]],
        dumped: dict[tuple[str, str], Dumped],
        names: Names,
        *,
        last: bool,
    ) -> list[DatabaseBackup | None]:
        """Dump side by side, or in the *last* round sparingly; no outcome for what is gone, or to be tried again."""
        locks = ContainerLocks(
            self._state, result.run, Counter(cluster.container.name for cluster, _name in work), self._cancelled
        )
        company = Company()

        def dump(cluster: Cluster, database: str) -> DatabaseBackup | None:
            container = cluster.container
            with company.at_work(container.name) as had_company:
                try:
                    with locks.hold(container.name, lambda: self._end_leftovers(cluster, result, names)):
                        if self._cancelled.is_set():
                            raise InterruptedRunError(f"{container.name}/{database}: told to stop before its turn.")
                        if names.is_gone(cluster, database):
                            return None
                        names.require_own(cluster, database)
                        one = dumper.dump(cluster, database, tags, sparing=last)
                except Exception as error:  # noqa: BLE001 (whatever it is, the other databases are dumped)
                    failure = Failure.of(error)
                    if not last and self._is_worth_another(error, container, had_company()):
                        self._emit(log("warning", f"{failure.message} It is tried again, alone.", run=result.run))
                        return None
                    return self._failed(container, database, failure)
            if one.count_error:
                self._warn(result, uncounted(container.name, database, one.count_error))
            if one.archive_unchecked:
                self._warn(result, unchecked(container.name, database, one.archive_unchecked))
            for sentence in lacking(container.name, database, one):
                self._warn(result, sentence)
            dumped[container.name, database] = one
            return self._succeeded(cluster, database, one)

        with ThreadPoolExecutor(self._config.parallel) as workers:
            return list(workers.map(lambda unit: dump(*unit), work))

    def _is_worth_another(self, error: Exception, container: Container, had_company: bool) -> bool:
        if self._cancelled.is_set():
            return False
        is_of_server = isinstance(error, (DumpError, PostgresError))
        return deserves_another(error, had_company=had_company) or (
            is_of_server and self._discovery.is_coming(container)
        )

    def _end_leftovers(self, cluster: Cluster, result: PassResult, names: Names) -> None:
        for sentence in leftovers.clean_up(self._state, self._discovery, cluster):
            self._warn(result, sentence)
        if names.are_in_doubt(cluster):
            names.look(cluster, self._postgres(cluster, f"{result.run} look"))

    def _succeeded(self, cluster: Cluster, database: str, dumped: Dumped) -> DatabaseBackup:
        outcome = DatabaseBackup(
            container=cluster.container.name,
            database=database,
            ok=True,
            snapshot_id=dumped.saved.snapshot_id,
            bytes_read=dumped.saved.bytes_read,
            bytes_added=dumped.saved.bytes_added,
            bytes_stored=dumped.saved.bytes_stored,
            duration_seconds=round(dumped.seconds, 1),
            rows=None if dumped.row_counts is None else sum(dumped.row_counts.values()),
            count_error=dumped.count_error,
            archive_unchecked=dumped.archive_unchecked,
            left_out=tuple(dumped.left_out),
        )
        self._emit(log("info", "database backed up", **outcome.as_dict()))
        return outcome

    def _failed(self, container: Container, database: str, failure: Failure) -> DatabaseBackup:
        return self._tell_failed(DatabaseBackup(container.name, database, ok=False, error=failure))

    def _tell_failed(self, outcome: DatabaseBackup) -> DatabaseBackup:
        self._emit(log("error", "database NOT backed up", **outcome.as_dict()))
        return outcome

    def _save_manifest(
        self,
        request: PassRequest,
        result: PassResult,
        clusters: Sequence[Cluster],
        dumped: dict[tuple[str, str], Dumped],
    ) -> None:
        """Save what the pass knows of its dumps, roles included; from memory, never through a file on disk."""
        manifest: Manifest = {
            "manifest_version": MANIFEST_VERSION,
            "agent_version": __version__,
            "run": result.run,
            "host": result.host,
            "started": result.started.isoformat(),
            "clusters": [self._describe(cluster, result, dumped) for cluster in clusters],
        }
        tags = [f"run={result.run}", f"{AGENT_TAG}{self._state.agent_id()}", request.reason, *request.tags]
        content = json.dumps(manifest).encode()
        try:
            require_readable_size(content)
            with in_memory(content) as file:
                saved = self._restic.backup_file(MANIFEST_PATH, tags, file)
        except Exception as error:  # noqa: BLE001 (the dumps are saved, and stay so whatever it is)
            failure = Failure("manifest", f"The manifest was not saved: {Failure.of(error).message}")
            result.error = result.error or failure
            self._emit(log("error", failure.message, run=result.run))
        else:
            result.manifest_snapshot_id = saved.snapshot_id

    def _describe(self, cluster: Cluster, result: PassResult, dumped: dict[tuple[str, str], Dumped]) -> ManifestCluster:
        container = cluster.container
        postgres = self._discovery.postgres(container, cluster.credentials, f"{APPLICATION_PREFIX} {result.run} roles")
        globals_sql = self._roles(postgres, result)
        libraries, directory = self._settings(postgres)
        result.volumes[container.name] = self._volume(postgres, directory)
        return {
            "container": container.name,
            "image": container.image,
            "image_id": container.image_id,
            "server_version": cluster.server_version,
            "shared_preload_libraries": libraries,
            "settings": self._shared_settings(postgres),
            "globals": globals_sql,
            # Those whose dump failed too: what a later pass no longer lists was dropped.
            "all_databases": [one.database for one in result.databases if one.container == container.name],
            "databases": [
                dumped[container.name, database.name].description
                for database in cluster.databases
                if (container.name, database.name) in dumped
            ],
            "left_out": [{"database": one.name, "why": one.why} for one in cluster.left_out],
        }

    def _roles(self, postgres: Postgres, result: PassResult) -> str | None:
        saved = read_roles(postgres)
        result.roles[postgres.container] = saved.failure
        if saved.failure:
            self._emit(log("error", saved.failure.message, run=result.run))
        if saved.warning:
            self._warn(result, saved.warning)
        return saved.script

    def _settings(self, postgres: Postgres) -> tuple[str | None, str | None]:
        """The libraries that the server loads, and its data directory; only a user who may read all settings sees them."""
        try:
            libraries, directory = postgres.settings("shared_preload_libraries", "data_directory")
        except Exception:  # noqa: BLE001 (the manifest of the others does without)
            return None, None
        return libraries, directory

    def _shared_settings(self, postgres: Postgres) -> dict[str, str]:
        """What the server of a drill has to have in common with this one, as far as the agent's user may read it."""
        try:
            return postgres.readable_settings(SHARED_SETTINGS)
        except Exception:  # noqa: BLE001 (the manifest of the others does without)
            return {}

    def _volume(self, postgres: Postgres, directory: str | None) -> Volume | None:
        """How much room a cluster has; that it cannot be measured says nothing against its backups."""
        try:
            return postgres.volume(directory) if directory else None
        except Exception:  # noqa: BLE001
            return None

    def _apply_retention(self, result: PassResult, snapshots: Sequence[Snapshot]) -> None:
        """Forget and prune, but only among the snapshots of databases that this pass has dumped well.

        A host that only adds does neither: prune.yml does it in its place. Where pruning has a schedule of its own, it is
        left to that.
        """
        good = result.paths(good=True)
        if self._config.append_only or not good:
            return
        try:
            forgotten = retention.forget(
                self._config,
                self._restic,
                self._emit,
                only_paths=good,
                prune=not self._config.prune_schedule,
                snapshots=snapshots,
                record=maintenance.recorder(self._state, self._restic),
            )
        except ScalrBackupError as error:
            result.retention = {"ok": False, "removed": [], "error": Failure(error.code, error.message).record}
            self._emit(log("error", f"Retention failed: {error.message}", run=result.run))
        else:
            disbelief = forgotten.error
            result.retention = {
                "ok": disbelief is None,
                "removed": list(forgotten.removed),
                "error": disbelief.record if disbelief else None,
            }
            if disbelief:
                self._emit(log("error", disbelief.message, run=result.run))

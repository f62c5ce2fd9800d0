# SPDX-License-Identifier: GPL-3.0-or-later
"""A pass: every database of the host, one snapshot each, then the manifest, then retention."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from scalr_backup import __version__
from scalr_backup.actions import leftovers, missing
from scalr_backup.actions.backup.dump import Dumped, Dumper, uncounted
from scalr_backup.actions.backup.locks import ContainerLocks
from scalr_backup.actions.backup.manifest import require_readable_size
from scalr_backup.actions.backup.result import PassPlan, PassRequest, PassResult
from scalr_backup.actions.backup.saved_roles import read_roles
from scalr_backup.actions.discovery import Discovered
from scalr_backup.actions.repository import maintenance
from scalr_backup.actions.repository.copy import Copier
from scalr_backup.actions.retention import policy as retention
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    InterruptedRunError,
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
from scalr_backup.core.records.state import (
    PassRecord,
    RepositoryRecord,
)
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX


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
        is_empty = not databases and not failed
        return PassPlan(databases, failed, missing.nothing_saved(discovered, patterns, lost) if is_empty else None)

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
        discovered = self._discovery.clusters(request.patterns, f"{APPLICATION_PREFIX} {result.run} look")
        missing.refuse_excluded(discovered, request.patterns, self._config.host)
        self._note_look(result, discovered)
        self._judge_matches(request, result, discovered)
        known = self._state.known_databases()
        dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, known)
        dumped = self._dump_all(dumper, request, result, discovered.clusters)
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

    def _judge_matches(self, request: PassRequest, result: PassResult, discovered: Discovered) -> None:
        """What does not run is a failure where it should or was asked for by name, else a warning."""
        known, stopped = self._state.known_databases(), {}
        gone = missing.gone(discovered, known, result.started)
        for container in discovered.containers:
            if container.status == "stopped":
                stopped[container.name] = container.state
            if missing.is_failure(container, request.patterns):
                for failure in missing.failures(container, known):
                    result.databases.append(self._tell_failed(failure))
            elif container.status == "stopped":
                self._warn(result, f"{container.name} matches but was not backed up: {container.reason}.")
        if not discovered.containers:
            self._warn(result, f"No container on {self._config.host} matches; nothing was backed up.")
        if not request.patterns:
            for key in gone:
                self._warn(result, f"{key} was backed up before and is gone.")
            kept = [copy for cluster in discovered.clusters for copy in cluster.kept_as_dicts()]
            result.matches = {"gone": gone, "stopped": list(stopped), "states": stopped, "kept": kept}
        if not result.databases and not any(cluster.databases for cluster in discovered.clusters):
            result.error = missing.nothing_saved(discovered, request.patterns, gone)

    def _dump_all(
        self, dumper: Dumper, request: PassRequest, result: PassResult, clusters: Sequence[Cluster]
    ) -> dict[tuple[str, str], Dumped]:
        tags = (request.reason, *request.tags)
        work = [
            (cluster, database.name)
            for cluster in clusters
            for database in cluster.databases
            if database.name not in self._superfluous(cluster)
        ]
        locks = ContainerLocks(
            self._state, result.run, Counter(cluster.container.name for cluster, _name in work), self._cancelled
        )
        dumped: dict[tuple[str, str], Dumped] = {}

        def dump(cluster: Cluster, database: str) -> DatabaseBackup:
            container = cluster.container
            try:
                with locks.hold(container.name, lambda: self._end_leftovers(cluster, result)):
                    if self._cancelled.is_set():
                        raise InterruptedRunError(f"{container.name}/{database}: told to stop before its turn.")
                    one = dumper.dump(cluster, database, tags)
            except ScalrBackupError as error:
                return self._failed(container, database, error.code, error.message)
            if one.count_error:
                self._warn(result, uncounted(container.name, database, one.count_error))
            dumped[container.name, database] = one
            return self._succeeded(cluster, database, one)

        with ThreadPoolExecutor(self._config.parallel) as workers:
            result.databases += workers.map(lambda unit: dump(*unit), work)
        return dumped

    def _superfluous(self, cluster: Cluster) -> set[str | None]:
        """What restores have replaced and not dropped yet: it goes before the dumps begin."""
        names = {database.name for database in cluster.databases}
        return {leftovers.superfluous(journal, names) for journal in self._state.journals(cluster.container.name)}

    def _end_leftovers(self, cluster: Cluster, result: PassResult) -> None:
        for sentence in leftovers.clean_up(self._state, self._discovery, cluster):
            self._warn(result, sentence)

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
        )
        self._emit(log("info", "database backed up", **outcome.as_dict()))
        return outcome

    def _failed(self, container: Container, database: str, code: str, message: str) -> DatabaseBackup:
        return self._tell_failed(DatabaseBackup(container.name, database, ok=False, error=Failure(code, message)))

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
        except ScalrBackupError as error:
            result.error = Failure("manifest", f"The manifest was not saved: {error.message}")
            self._emit(log("error", result.error.message, run=result.run))
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
        except ScalrBackupError:
            return None, None
        return libraries, directory

    def _shared_settings(self, postgres: Postgres) -> dict[str, str]:
        """What the server of a drill has to have in common with this one, as far as the agent's user may read it."""
        try:
            return postgres.readable_settings(SHARED_SETTINGS)
        except ScalrBackupError:
            return {}

    def _volume(self, postgres: Postgres, directory: str | None) -> Volume | None:
        """How much room a cluster has; that it cannot be measured says nothing against its backups."""
        try:
            return postgres.volume(directory) if directory else None
        except ScalrBackupError:
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""A pass: every database of the host, one snapshot each, then the manifest, then retention."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from zoneinfo import ZoneInfo

from scalr_backup import __version__
from scalr_backup.actions import latecomers, leftovers, missing
from scalr_backup.actions.backup.dump import Dumped, Dumper, lacking, not_in_order, unchecked, uncounted
from scalr_backup.actions.backup.locks import ContainerLocks
from scalr_backup.actions.backup.manifest import require_readable_size
from scalr_backup.actions.backup.names import Names, under_own_names
from scalr_backup.actions.backup.repository_side import RepositoryAtStart, RepositorySide, open_repository
from scalr_backup.actions.backup.result import PassPlan, PassRequest, PassResult
from scalr_backup.actions.backup.saved_roles import read_roles
from scalr_backup.actions.backup.second_try import Company, deserves_another
from scalr_backup.actions.backup.server_facts import server_facts, volume_of
from scalr_backup.actions.discovery import Discovered, side_by_side
from scalr_backup.actions.repository.copy import Copier
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core.address import redact_address
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    DumpError,
    InterruptedRunError,
    InvalidAnswerError,
    PostgresError,
    ScalrBackupError,
    TwoHostsError,
    UnknownDatabaseError,
)
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import (
    AGENT_TAG,
    MANIFEST_PATH,
    NIGHTLY,
    Cluster,
    Container,
    DatabaseBackup,
    Failure,
    new_run_id,
)
from scalr_backup.core.progress import log
from scalr_backup.core.records.manifest import MANIFEST_VERSION, Manifest, ManifestCluster
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import ANSWER_SECONDS, APPLICATION_PREFIX

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
            finally:
                if result.error or result.failed:
                    # What a dump has sent before it failed no snapshot needs.
                    PruneDebt(self._state, self._restic.repository).owe(utc_now())
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
        for sentence in self._state.record_pass(
            result.as_dict(), result.databases, redact_address(self._config.repository), ZoneInfo(self._config.timezone)
        ):
            self._emit(log("info", sentence, run=result.run))

    def _copy(self, copier: Copier, result: PassResult) -> None:
        """Bring the second repository up to date; what the pass came to is on record already."""
        is_alone = result.error is None or result.error.code != TwoHostsError.code
        result.copy = copier.copy(forget=is_alone, not_of=result.paths(good=False))
        # The databases' own records say when their dumps were saved, and stay as they are.
        result.finished = utc_now()
        self._state.record_pass(result.as_dict(), [], zone=ZoneInfo(self._config.timezone))

    def _run(self, request: PassRequest, result: PassResult) -> None:
        last_pass = self._state.read().get("last_pass")
        if damage := self._state.damage():
            self._warn(result, damage.sentence)
        opened, found = self._begin(request, result)
        if opened.removed_locks:
            self._warn(result, f"{opened.removed_locks} stale locks of a killed run were removed from the repository.")
        discovered = replace(found, clusters=under_own_names(self._state, found.clusters))
        missing.refuse_excluded(discovered, request.patterns, self._config.host)
        self._note_look(result, discovered)
        late = [container for container in discovered.containers if latecomers.may_come(container)]
        self._judge(request, result, [one for one in discovered.containers if one not in late])
        known = self._state.known_databases()
        history = self._state.order_history(result.started)
        dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, known, history)
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
        side = RepositorySide(self._tools, self._emit, result, opened)
        with ThreadPoolExecutor(1) as aside:
            asking = aside.submit(side.ask_policy)
            if dumped:
                self._save_manifest(request, result, discovered.clusters, dumped)
        side.conclude(last_pass, asking.result)

    def _begin(self, request: PassRequest, result: PassResult) -> tuple[RepositoryAtStart, Discovered]:
        """Open the repository while the containers are looked at.

        Raises what keeps the repository from being opened before anything that the containers say.
        """
        with ThreadPoolExecutor(1) as aside:
            opening = aside.submit(open_repository, self._restic)
            try:
                found = self._discovery.clusters(request.patterns, f"{APPLICATION_PREFIX} {result.run} look")
            except Exception:
                opening.result()
                raise
            return opening.result(), found

    def _note_look(self, result: PassResult, discovered: Discovered) -> None:
        """Put on record what there is on this host, so that the status knows what nothing backs up."""
        self._state.put(look=discovered.look.as_record(utc_now()))
        result.unmatched = [container.as_dict() for container in discovered.look.unmatched]

    def _ask_again(self, late: Sequence[Container], result: PassResult) -> dict[str, tuple[Container, Cluster | None]]:
        """What containers that had no server to ask answer now; one that is just starting has a while for it."""
        answers: dict[str, tuple[Container, Cluster | None]] = {}
        application, deadline = (
            f"{APPLICATION_PREFIX} {result.run} look",
            time.monotonic() + self._config.start_wait_seconds,
        )
        waiting, asked_last = list(late), set[str]()
        while waiting:
            found = side_by_side(lambda one: self._discovery.look_again(one, application), waiting)
            answers |= dict(zip((one.name for one in waiting), found, strict=True))
            silent = [one for one in waiting if answers[one.name][1] is None and one.code != InvalidAnswerError.code]
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
        for sentence in (*discovered.left_out, *discovered.misread_labels):
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
                        self._emit(log("warning", f"{failure.message} It is retried on its own.", run=result.run))
                        return None
                    return self._failed(container, database, failure)
            if one.count_error:
                self._warn(result, uncounted(container.name, database, one.count_error))
            if one.archive_unchecked:
                self._warn(result, unchecked(container.name, database, one.archive_unchecked))
            if one.order_error:
                self._warn(result, not_in_order(container.name, database, one.order_error))
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
            row_order=dumped.order,
            damaged_index=dumped.damage,
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
            "clusters": side_by_side(lambda cluster: self._describe(cluster, result, dumped), clusters),
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
        application, seconds = (
            f"{APPLICATION_PREFIX} {result.run} roles",
            self._config.lock_wait_seconds + ANSWER_SECONDS,
        )
        postgres = self._discovery.postgres(container, cluster.credentials, application, seconds=seconds)
        with postgres.kept_open():
            globals_sql = self._roles(postgres, result)
            facts = server_facts(postgres)
        result.volumes[container.name] = volume_of(postgres, facts.directory)
        return {
            "container": container.name,
            "image": container.image,
            "image_id": container.image_id,
            "server_version": cluster.server_version,
            "shared_preload_libraries": facts.libraries,
            "settings": dict(facts.shared),
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

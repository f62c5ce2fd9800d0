# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill decides, without Docker: containers that write nowhere, memory, images, assertions."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from scalr_backup.actions.drill import run as drill
from scalr_backup.actions.drill.plan import (
    DrillSubject,
    assertion_files,
    choose_containers,
    judge_values,
    require_memory,
    spare_bytes,
    throwaway,
)
from scalr_backup.actions.drill.result import DatabaseDrill, DrillRequest, DrillResult
from scalr_backup.actions.drill.run import Drill
from scalr_backup.actions.health.status import judge
from scalr_backup.actions.restore import run as restore
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.actions.restore.result import DatabaseRestore
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    CODES_OF_DRILLS_NOT_TRIED,
    DockerUnreachableError,
    MissingExtensionError,
    NoImageError,
    NoMemoryError,
    NoRoomError,
    NoRoomLeftError,
    OlderServerError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    RestoreError,
    RoomUnknownError,
    ScalrBackupError,
    ThrowawayError,
    UnknownDatabaseError,
    UnreadableArchiveError,
    UnreadableManifestError,
    VerificationError,
)
from scalr_backup.core.model import Failure, Snapshot, dump_path
from scalr_backup.core.progress import nobody
from scalr_backup.core.room import Claim, LogSettings, index_bytes, needs
from scalr_backup.tools.docker.throwaway import HostMemory, Image, host_memory, place_on_disk
from scalr_backup.tools.locks import container_lock
from scalr_backup.tools.state import RestoreJournal, State

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MIB = 1024 * 1024
IMAGE = Image("sha256:aa", ("docker-entrypoint.sh",), ("postgres",), ("/var/lib/postgresql/data",), {})


def snapshot(container: str = "scalr-shop-db", database: str = "shop", dump_bytes: int | None = None) -> Snapshot:
    return Snapshot("ab" * 32, NOW, "web1", dump_path(container, database), (container, "run=r"), dump_bytes)


def subject(one: Snapshot | None = None, alone: bool = False, size_bytes: int = 0, **cluster: Any) -> DrillSubject:
    return DrillSubject(one or snapshot(), {"size_bytes": size_bytes}, cluster, alone)


class TestContainer:
    @pytest.mark.parametrize(
        ("volumes", "pgdata", "places", "used"),
        [
            # The official image before 18 and from 18 on, one without a volume, and one that says nothing.
            (["/var/lib/postgresql/data"], "/var/lib/postgresql/data", {"/var/lib/postgresql/data"}, "/drill"),
            (["/var/lib/postgresql"], "/var/lib/postgresql/18/docker", {"/var/lib/postgresql"}, None),
            ([], "/data/", {"/data"}, "/drill"),
            (["/data/", "/more"], "", {"/data", "/more"}, None),
        ],
    )
    def test_has_every_place_that_it_writes_to_in_memory(self, volumes, pgdata, places, used):
        image = Image("sha256:aa", (), (), tuple(volumes), {"PGDATA": pgdata})
        spec = throwaway(subject(size_bytes=100 * MIB), image, "n", "secret", {})
        data = {place for place, size in spec.tmpfs.items() if size > 64 * MIB}
        assert data == places
        assert set(spec.tmpfs) - data == {"/run/postgresql", "/tmp"}
        assert spec.environment.get("PGDATA") == (used and next(iter(places)) + used)

    def test_has_room_for_the_data_and_memory_for_the_room(self):
        spec = throwaway(subject(size_bytes=1000 * MIB), IMAGE, "n", "secret", {})
        assert spec.tmpfs["/var/lib/postgresql/data"] == (1000 + 192 + 200 + 448) * MIB
        assert spec.memory_bytes == 1840 * MIB + 384 * MIB

    def test_goes_by_the_larger_of_what_the_manifest_and_restic_say(self):
        assert subject(snapshot(dump_bytes=10 * MIB), size_bytes=MIB).data_bytes == (10 + 21 + 448) * MIB
        assert DrillSubject(snapshot(), {}, {}, alone=True).data_bytes == 448 * MIB

    @pytest.mark.parametrize("size", [0, 8, 100, 190, 1000, 60_000])
    def test_has_what_a_restore_wants_to_see_and_room_for_a_cluster(self, size):
        drilled = subject(size_bytes=size * MIB)
        wanted = needs(
            [Claim(size * MIB, index_bytes=index_bytes(drilled.described, size * MIB))],
            SimpleNamespace(
                settings=LogSettings(128 * MIB, checksums=True),
                log_bytes=0,
                processors=os.cpu_count(),
                sort_memory_bytes=64 * MIB,
            ),
            keep_old=False,
            replace=False,
        )
        assert drilled.data_bytes - wanted.total_bytes == 192 * MIB

    def test_gets_its_password_under_every_name_and_nowhere_else(self):
        spec = throwaway(subject(), IMAGE, "n", "secret", {"a": "b"})
        assert spec.environment["POSTGRES_PASSWORD"] == spec.environment["POSTGRESQL_PASSWORD"] == "secret"
        assert "secret" not in repr(spec)

    def test_makes_the_user_whom_the_drill_logs_in_as_whatever_the_image_says(self):
        image = Image("sha256:aa", (), (), (), {"PGDATA": "/d", "POSTGRES_USER": "app"})
        assert throwaway(subject(), image, "n", "secret", {}).environment["POSTGRES_USER"] == "postgres"

    def test_loads_the_libraries_of_the_source(self):
        loaded = throwaway(subject(shared_preload_libraries="timescaledb"), IMAGE, "n", "secret", {})
        assert loaded.arguments[-2:] == ("-c", "shared_preload_libraries=timescaledb")
        for nothing in ("", None):
            spec = throwaway(subject(shared_preload_libraries=nothing), IMAGE, "n", "secret", {})
            assert not any("preload" in argument for argument in spec.arguments)

    def test_writes_where_bitnamis_images_do(self):
        image = Image("sha256:aa", (), (), ("/bitnami/postgresql",), {"BITNAMI_APP_NAME": "postgresql"})
        assert "/opt/bitnami/postgresql/conf" in throwaway(subject(), image, "n", "secret", {}).tmpfs


class TestPlaceOnDisk:
    GOOD: ClassVar[dict[str, Any]] = {
        "Mounts": [{"Type": "tmpfs", "Destination": "/x"}],
        "HostConfig": {
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "none"},
            "NetworkMode": "none",
            "Memory": 10,
            "MemorySwap": 10,
        },
    }

    def test_is_nowhere_in_a_container_as_it_should_be(self):
        assert place_on_disk(self.GOOD, HostMemory(1, 1)) is None

    @pytest.mark.parametrize(
        ("setting", "value", "said"),
        [
            ("ReadonlyRootfs", False, "root file system"),
            ("LogConfig", {"Type": "json-file"}, "messages quote rows"),
            ("NetworkMode", "bridge", "a network"),
            ("Memory", 0, "does not limit its memory"),
            ("MemorySwap", -1, "cannot keep a container out of swap"),
            ("MemorySwap", 20, "cannot keep a container out of swap"),
        ],
    )
    def test_is_found_in_its_settings(self, setting, value, said):
        document = self.GOOD | {"HostConfig": self.GOOD["HostConfig"] | {setting: value}}
        assert said in place_on_disk(document, HostMemory(1, 1))

    @pytest.mark.parametrize("kind", ["volume", "bind"])
    def test_is_found_in_its_mounts(self, kind):
        document = self.GOOD | {"Mounts": [{"Type": kind, "Destination": "/var/lib/postgresql"}]}
        assert f"a {kind} at /var/lib/postgresql, so rows would be written to disk" in place_on_disk(
            document, HostMemory(1, 0)
        )

    def test_is_no_swap_where_there_is_none(self):
        document = self.GOOD | {"HostConfig": self.GOOD["HostConfig"] | {"MemorySwap": 0}}
        assert place_on_disk(document, HostMemory(1, 0)) is None


class TestMemory:
    def test_that_is_short_is_refused_with_the_numbers_and_a_way_out(self):
        needed = 448 * MIB + 384 * MIB + 256 * MIB
        # An eighth of little stays free, so that a small machine can drill a small database.
        enough = -(-needed * 8 // 7)
        require_memory(subject(), HostMemory(enough, 0), "web1")
        with pytest.raises(NoMemoryError) as refused:
            require_memory(subject(), HostMemory(enough - 8, 0), "web2")
        assert refused.value.message == (
            "web2 has 1.2 GiB of memory available, of which a drill leaves 155.4 MiB free, and a drill of "
            "scalr-shop-db/shop may need 1.1 GiB, because it keeps rows in memory, never on disk; run the drill on a machine "
            "with more memory, with from_host=web1."
        )

    @pytest.mark.parametrize(("available", "spare"), [(1024, 128), (4096, 512), (5000, 512), (10240, 1024)])
    def test_is_never_taken_whole(self, available, spare):
        """Where it runs out, the kernel ends the largest process, which may be a live server."""
        assert spare_bytes(HostMemory(available * MIB, 0)) == spare * MIB

    def test_of_the_host_is_read(self, tmp_path, monkeypatch):
        facts = tmp_path / "meminfo"
        facts.write_text("MemTotal: 100 kB\nMemAvailable:    50 kB\nSwapTotal: 7 kB\nHugePages_Total: 0\n")
        monkeypatch.setattr("scalr_backup.tools.docker.throwaway._MEMORY_FACTS", facts)
        assert host_memory() == HostMemory(50 * 1024, 7 * 1024)


class TestContainers:
    SNAPSHOTS = (snapshot("scalr-shop-db"), snapshot("scalr-blog-db"), snapshot("other"), snapshot("scalr-shop-db"))

    def test_are_all_but_the_excluded(self):
        assert choose_containers(self.SNAPSHOTS, (), ("oth*",), "web1") == ["scalr-blog-db", "scalr-shop-db"]

    def test_are_those_that_fit_and_an_excluded_one_that_is_meant(self):
        assert choose_containers(self.SNAPSHOTS, ("*shop*", "other"), ("oth*",), "web1") == ["other", "scalr-shop-db"]

    def test_of_which_one_is_there_and_another_is_not_are_told_apart_from_none_at_all(self):
        for patterns, code in ((("*shop*", "nope"), "partly_unknown"), (("nope", "nor this"), "unknown_database")):
            with pytest.raises(UnknownDatabaseError) as caught:
                choose_containers(self.SNAPSHOTS, patterns, (), "web1")
            assert caught.value.code == code

    @pytest.mark.parametrize(("patterns", "said"), [(("nope-*",), "other, scalr-blog-db"), ((), "nothing to drill")])
    def test_that_are_not_there_are_an_error(self, patterns, said):
        with pytest.raises(UnknownDatabaseError, match=said):
            choose_containers(self.SNAPSHOTS if patterns else (), patterns, (), "web1")


class TestAssertions:
    def test_are_the_databases_own_and_the_containers_where_it_is_alone(self, tmp_path):
        for name in ("scalr-shop-db/shop/b.sql", "scalr-shop-db/a.sql", "scalr-shop-db/shop/c.txt", "a.sql"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "scalr-shop-db/shop/directory.sql").mkdir()
        assert [path.name for path in assertion_files(tmp_path, subject())] == ["b.sql"]
        assert [path.name for path in assertion_files(tmp_path, subject(alone=True))] == ["a.sql", "b.sql"]

    @pytest.mark.parametrize(("container", "database"), [("scalr-shop-db", ".."), ("..", "x"), (".", "scalr-shop-db")])
    def test_of_names_that_lead_elsewhere_are_none(self, tmp_path, container, database):
        directory = tmp_path / "drill"
        for place in (tmp_path, directory, directory / "scalr-shop-db", tmp_path / "x"):
            place.mkdir(exist_ok=True)
            (place / "a.sql").touch()
        assert assertion_files(directory, subject(snapshot(container, database), alone=True)) == []

    def test_of_a_name_that_is_too_long_for_a_directory_are_none(self, tmp_path):
        assert assertion_files(tmp_path, subject(snapshot("x" * 300), alone=True)) == []

    def test_of_a_name_with_a_slash_are_one_directory(self, tmp_path):
        (tmp_path / "scalr-shop-db" / "a%2Fb").mkdir(parents=True)
        (tmp_path / "scalr-shop-db" / "a%2Fb" / "x.sql").touch()
        assert len(assertion_files(tmp_path, subject(snapshot(database="a/b")))) == 1

    def test_hold_when_every_value_is_true(self):
        assert judge_values(["t", "t"]) is None
        assert judge_values([]) == "it returned no row"
        assert judge_values(["t", "f", "", "true"]) == "3 of 4 values are not true"


class FakeDocker:
    """Images by every reference that finds them."""

    def __init__(self, images: dict[str, str], registry: dict[str, str] | None = None) -> None:
        self.images = images
        self.registry = registry or {}
        self.removed: list[str] = []
        self.summaries: list[dict[str, Any]] = []
        self.silent = False

    def image(self, reference: str) -> Image | None:
        return Image(self.images[reference], (), (), (), {}) if reference in self.images else None

    def pull(self, name: str, waiting: Any) -> None:
        waiting()
        if name not in self.registry:
            raise NoImageError(f"no {name}")
        self.images[name] = self.registry[name]

    def require_throwaways(self) -> None:
        pass

    def containers(self) -> list[dict[str, Any]]:
        if self.silent:
            raise DockerUnreachableError("The Docker Engine does not answer.")
        return self.summaries

    def remove_container(self, container: str) -> None:
        self.removed.append(container)


def make_drill(docker: FakeDocker, state: State | None = None, source: Any = None) -> Drill:
    config = Config(host="web1", repository="/repository")
    tools = Tools(config, SimpleNamespace(), SimpleNamespace(), state, nobody, threading.Event())  # type: ignore[arg-type]
    return Drill(tools, docker, source)  # type: ignore[arg-type]


def chosen(docker: FakeDocker, request: DrillRequest, **cluster: Any) -> tuple[str, str | None, list[str]]:
    """The image's id, its name in the result, and the warnings."""
    result = DrillResult("r", "web1", NOW, NOW)
    outcome = DatabaseDrill("scalr-shop-db", "shop", "id", NOW)
    image = make_drill(docker)._image(request, result, subject(**cluster), outcome)
    return image.id, outcome.image, result.warnings


class TestImage:
    SOURCE: ClassVar[dict[str, str]] = {"image": "postgres:17", "image_id": "sha256:old"}

    def test_is_the_very_one_of_the_source(self):
        docker = FakeDocker({"sha256:old": "sha256:old", "postgres:17": "sha256:new"})
        assert chosen(docker, DrillRequest(), **self.SOURCE) == ("sha256:old", "postgres:17", [])

    def test_is_the_one_of_that_name_where_the_very_one_is_gone(self):
        found, name, (warning,) = chosen(FakeDocker({"postgres:17": "sha256:new"}), DrillRequest(), **self.SOURCE)
        assert (found, name) == ("sha256:new", "postgres:17")
        assert "ran a different postgres:17 from the one on this host" in warning

    def test_is_pulled_where_the_host_has_none(self):
        docker = FakeDocker({}, {"postgres:17": "sha256:old"})
        assert chosen(docker, DrillRequest(), **self.SOURCE) == ("sha256:old", "postgres:17", [])

    def test_is_the_one_that_was_asked_for(self):
        docker = FakeDocker({"sha256:old": "sha256:old", "postgres:18": "sha256:18"})
        assert chosen(docker, DrillRequest(image="postgres:18"), **self.SOURCE) == ("sha256:18", "postgres:18", [])

    def test_is_asked_for_where_no_manifest_tells_it(self):
        with pytest.raises(NoImageError, match="--image"):
            chosen(FakeDocker({}), DrillRequest())


class TestManifest:
    OTHER: ClassVar[dict[str, str]] = {"container": "scalr-shop-db", "image": "postgres:17"}

    def subject(self, **answers: Any) -> tuple[DrillSubject, list[str]]:
        def others(container: str, _chosen: Any, complaints: list[str]) -> Any:
            complaints.append(f"One of {container} cannot be read.")
            return iter([("manifest", self.OTHER)])

        def answer(what: str) -> Any:
            if isinstance(answers.get(what), Exception):
                raise answers[what]
            return answers.get(what, {})

        manifests = SimpleNamespace(
            describe=lambda _one: answer("described"), cluster=lambda _one: answer("cluster"), others=others
        )
        result = DrillResult("r", "web1", NOW, NOW)
        made = make_drill(FakeDocker({}))._subject(result, manifests, snapshot(), alone=True)  # type: ignore[arg-type]
        return made, result.warnings

    def test_says_what_is_drilled(self):
        made, warnings = self.subject(described={"size_bytes": 7}, cluster={"image": "postgres:18"})
        assert (made.described, made.cluster, made.obstacle) == ({"size_bytes": 7}, {"image": "postgres:18"}, None)
        assert warnings == []

    def test_of_the_pass_before_tells_the_image_of_one_that_was_killed(self):
        made, warnings = self.subject()
        assert (made.described, made.cluster) == ({}, self.OTHER), "row counts are true of one dump only"
        assert warnings == ["One of scalr-shop-db cannot be read."]

    def test_that_cannot_be_read_fails_the_drill_and_is_on_record(self, tmp_path):
        error = UnreadableManifestError("The manifest of the run r cannot be read.")
        made, _warnings = self.subject(described=error)
        result = DrillResult("r", "web1", NOW, NOW)
        for request in (DrillRequest(), DrillRequest(image="postgres:18")):
            directory = tmp_path / f"of {request.image}"
            directory.mkdir()
            state = State(directory)
            one_drill = make_drill(FakeDocker({}), state)
            outcome = one_drill._drill(request, result, made, 1)
            assert (outcome.ok, outcome.tried, outcome.error.code) == (False, True, "unreadable_manifest")
            one_drill._record(request, result, outcome)
            assert state.read()["drills"]["scalr-shop-db/shop"]["ok"] is False


class TestState:
    def test_keeps_the_drills_of_its_own_backups_only(self, tmp_path):
        state = State(tmp_path)
        result, outcome = DrillResult("r", "web1", NOW, NOW), DatabaseDrill("c", "d", "id", NOW, ok=True)
        for request, source in ((DrillRequest(from_host="web2"), None), (DrillRequest(), object())):
            make_drill(FakeDocker({}), state, source)._record(request, result, outcome)
        assert "drills" not in state.read()
        make_drill(FakeDocker({}), state)._record(DrillRequest(from_host="web1"), result, outcome)
        assert state.read()["drills"]["c/d"]["ok"] is True

    def test_keeps_no_drill_that_was_not_tried_and_no_failure_in_an_image_that_was_asked_for(self, tmp_path):
        state, result = State(tmp_path), DrillResult("r", "web1", NOW, NOW)
        failure = Failure("restore_failed", ".")
        not_tried = DatabaseDrill("c", "d", "id", NOW, tried=False, error=failure)
        in_another_image = DatabaseDrill("c", "d", "id", NOW, own_image=False, error=failure)
        drills = make_drill(FakeDocker({}), state)
        drills._record(DrillRequest(), result, not_tried)
        drills._record(DrillRequest(image="postgres:18"), result, in_another_image)
        assert "drills" not in state.read()
        assert state.history.read(NOW) == []
        # The image of the same name that the host has now is the one that a restore would get, too.
        drills._record(DrillRequest(), result, in_another_image)
        assert state.read()["drills"]["c/d"]["ok"] is False

    def test_forgets_journals_and_locks_of_containers_that_are_gone(self, tmp_path):
        state = State(tmp_path)
        for container in ("scalr-backup-drill-x-1", "scalr-shop-db"):
            state.open_journal(RestoreJournal("r", container, "d", f"new of {container}", "old", keep_old=False))
            with state.locks.hold(container_lock(container), "me"):
                pass
        state.forget_containers(drill.NAME_PREFIX)
        assert not state.journals("scalr-backup-drill-x-1")
        assert state.journals("scalr-shop-db")
        assert [path.name for path in (tmp_path / "locks").glob("container-*")] == ["container-scalr-shop-db"]

    def test_a_leftover_that_cannot_be_removed_keeps_nobody_from_being_drilled(self, tmp_path):
        state = State(tmp_path)
        mine = {drill.RUN_LABEL: "r0", drill.AGENT_LABEL: state.agent_id()}
        docker = FakeDocker({})
        docker.summaries = [{"Id": "hung", "Labels": mine}, {"Id": "mine", "Labels": mine}]
        remove = docker.remove_container

        def remove_container(container: str) -> None:
            if container == "hung":
                raise DockerUnreachableError("It did not answer in time.")
            remove(container)

        docker.remove_container = remove_container  # type: ignore[method-assign]
        result = DrillResult("r", "web1", NOW, NOW)
        make_drill(docker, state)._remove_leftovers(result)
        assert docker.removed == ["mine"]
        assert "could not be removed, and the next drill tries again: It did not answer" in result.warnings[0]

    def test_tells_its_own_leftovers_from_those_of_other_agents(self, tmp_path):
        state, docker = State(tmp_path), FakeDocker({})
        docker.summaries = [
            {"Id": "ours", "Labels": {drill.RUN_LABEL: "r0", drill.AGENT_LABEL: state.agent_id()}},
            {"Id": "theirs", "Labels": {drill.RUN_LABEL: "r0", drill.AGENT_LABEL: "somebody"}},
            {"Id": "app", "Labels": None},
        ]
        result = DrillResult("r", "web1", NOW, NOW)
        make_drill(docker, state)._remove_leftovers(result)
        assert docker.removed == ["ours"]
        assert result.warnings == ["The throwaway container of the killed drill r0 was removed."]
        assert State(tmp_path).agent_id() == state.agent_id()


class Store:
    """A repository that answers, or does not."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent

    def snapshots(self, host: str) -> list[Snapshot]:
        if self.silent:
            raise RepositoryUnreachableError("The store does not answer.")
        return []


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "own_image", "speaks"),
        [
            (VerificationError("."), True, True),
            (VerificationError("."), False, True),
            (RestoreError("."), True, True),
            (RepositoryRefusedError("."), True, True),
            *((kind("."), True, False) for kind in (NoRoomError, NoRoomLeftError, RoomUnknownError)),
            (ThrowawayError("."), True, False),
            # The source's own image could read and serve what the source has dumped; another one need not.
            *((kind("."), True, True) for kind in (OlderServerError, MissingExtensionError, UnreadableArchiveError)),
            *((kind("."), False, False) for kind in (OlderServerError, MissingExtensionError, UnreadableArchiveError)),
        ],
    )
    def test_speaks_of_the_backup_or_of_what_surrounds_it(self, error, own_image, speaks):
        outcome = DatabaseDrill("c", "d", "id", NOW, own_image=own_image)
        assert make_drill(FakeDocker({}))._speaks_of_the_backup(error, subject(), outcome) is speaks

    @pytest.mark.parametrize("silent", [False, True])
    def test_of_somebody_who_is_silent_to_everybody_is_his_own(self, silent):
        """The server may have been brought down by what was restored into it, and the store may lack a file."""
        docker, store = FakeDocker({}), Store(silent)
        docker.silent = silent
        asked = make_drill(docker, source=store)
        outcome = DatabaseDrill("c", "d", "id", NOW)
        for error in (DockerUnreachableError("."), RepositoryUnreachableError(".")):
            assert asked._speaks_of_the_backup(error, subject(), outcome) is not silent

    def test_that_nobody_foresaw_is_that_databases_and_of_its_own_kind(self, monkeypatch):
        def image(*_):
            raise KeyError("Config")

        made = make_drill(FakeDocker({}))
        monkeypatch.setattr(made, "_image", image)
        outcome = made._drill(DrillRequest(), DrillResult("r", "web1", NOW, NOW), subject(), 1)
        assert (outcome.ok, outcome.tried, outcome.error.code) == (False, False, "internal")
        assert "KeyError" in outcome.error.message

    def test_is_told_in_the_words_of_the_restore_whatever_these_are(self, monkeypatch):
        """A table may be called anything, so no word of a sentence is a place to cut it."""
        error = Failure("verification_failed", "1 table differs: Both are kept: 3 expected, 2 restored.")
        restored = SimpleNamespace(
            plan=SimpleNamespace(warnings=[]), warnings=[], databases=[DatabaseRestore("d", "ab", error=error)]
        )
        asked: list[RestoreRequest] = []
        monkeypatch.setattr(restore.Restore, "run", lambda _self, request: asked.append(request) or restored)
        outcome, result = DatabaseDrill("c", "d", "id", NOW), DrillResult("r", "web1", NOW, NOW)
        with pytest.raises(ScalrBackupError) as caught:
            make_drill(FakeDocker({}))._restore(DrillRequest(), result, subject(), outcome, "drill-1")
        assert Failure(caught.value.code, caught.value.message) == error
        assert asked[0].throwaway is True


class TestResult:
    @pytest.mark.parametrize(
        ("oks", "error", "code"),
        [
            ([True], None, 0),
            ([True, False], None, 3),
            ([False], None, 3),
            ([True], Failure("interrupted", "."), 1),
            ([True, None], None, 2),
            ([None, False], None, 3),
        ],
    )
    def test_tells_by_its_exit_code(self, oks, error, code):
        outcomes = [DatabaseDrill("c", "d", "id", NOW, ok=bool(ok), tried=ok is not None) for ok in oks]
        result = DrillResult("r", "web1", NOW, NOW + timedelta(seconds=9), outcomes, error=error)
        assert int(result.exit_code) == code
        assert result.as_dict()["failed"] == oks.count(False)
        assert result.as_dict()["not_tried"] == oks.count(None)
        assert result.as_dict()["duration_seconds"] == 9.0


def judged(ok: bool, code: str = "verification_failed"):
    last = {
        "ok": ok,
        "time": (NOW - timedelta(days=3)).isoformat(),
        "snapshot_id": "aa",
        "recovery_seconds": 4.2 if ok else None,
        "error": None if ok else {"code": code, "message": "Rows differ."},
    }
    success = (NOW - timedelta(hours=9)).isoformat()
    entry = {"container": "c", "database": "d", "ok": True, "last_tried": success, "last_success": success}
    document = {"databases": {"c/d": entry, "c/e": entry | {"database": "e"}}, "drills": {"c/d": last}}
    config = Config(host="web1", repository="/repository")
    return judge(config, "/repository", document, NOW - timedelta(days=9), NOW)


class TestStatus:
    def test_shows_the_last_drill_of_each_database(self):
        status = judged(ok=True)
        assert status.healthy
        assert [one["drill"] for one in status.databases] == [
            {
                "ok": True,
                "time": (NOW - timedelta(days=3)).isoformat(),
                "age_seconds": 3 * 86400,
                "snapshot_id": "aa",
                "recovery_seconds": 4.2,
                "error": None,
            },
            None,
        ]

    def test_counts_a_failed_drill_as_a_problem(self):
        status = judged(ok=False)
        assert status.problems == ("c/d failed its last drill: Rows differ.",)

    @pytest.mark.parametrize("code", sorted(CODES_OF_DRILLS_NOT_TRIED))
    def test_takes_a_drill_that_an_earlier_version_could_not_try_for_none(self, code):
        status = judged(ok=False, code=code)
        assert status.healthy
        assert status.databases[0]["drill"] is None


def test_the_assertions_lie_beside_the_configuration():
    assert Path("/etc/scalr-backup/drill") == drill.ASSERTIONS_DIRECTORY

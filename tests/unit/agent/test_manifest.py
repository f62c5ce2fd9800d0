# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest that is missing, one that cannot be read, and what of another pass stands in for it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.backup import manifest
from scalr_backup.actions.backup.manifest import MANIFEST_PATH, Manifests, parse_manifest, require_readable_size
from scalr_backup.actions.restore.known_roles import known_roles
from scalr_backup.core.errors import (
    InterruptedRunError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
    UnknownSnapshotError,
    UnreadableManifestError,
    UnreadableRepositoryError,
    WrongPasswordError,
)
from scalr_backup.core.model import NIGHTLY, PRE_RESTORE, Snapshot
from scalr_backup.core.roles import GlobalsError

C = "scalr-shop-db"
MONDAY = datetime(2026, 11, 16, 3, tzinfo=UTC)
ROLES = "CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN PASSWORD 'x';\n"


def run_of(day: int) -> str:
    return f"202611{16 + day}T030000Z-0000"


def dump(day: int, database: str = "shop", container: str = C, reason: str = NIGHTLY) -> Snapshot:
    id_ = f"{day:x}{database}{container}".ljust(64, "0")
    tags = (container, f"run={run_of(day)}", reason)
    return Snapshot(id_, MONDAY + timedelta(days=day, seconds=4), "h", f"/{container}/{database}.dump", tags, 100)


def manifest_of(day: int, id_: str = "") -> Snapshot:
    tags = (f"run={run_of(day)}", NIGHTLY)
    return Snapshot(id_ or f"manifest {day}", MONDAY + timedelta(days=day, seconds=9), "h", MANIFEST_PATH, tags, 100)


def document(day: int, *dumps: Snapshot, globals_: str | None = ROLES, container: str = C, **facts) -> dict:
    databases = [{"database": one.database, "snapshot_id": one.id, "size_bytes": 7} for one in dumps]
    cluster = {"container": container, "globals": globals_, "databases": databases, **facts}
    return {"manifest_version": 1, "run": run_of(day), "clusters": [cluster]}


class FakeRestic:
    """A repository of manifests: each is bytes, or what reading it raises, the last for ever."""

    def __init__(self, **manifests) -> None:
        self.manifests = {name.replace("_", " "): list(said) for name, said in manifests.items()}
        self.reads: list[str] = []

    @contextmanager
    def dump(self, id_, path, *, glance):
        assert (path, glance) == (MANIFEST_PATH, True)
        self.reads.append(id_)
        said = self.manifests[id_]
        yield FakeStream(said.pop(0) if len(said) > 1 else said[0])


class FakeStream:
    def __init__(self, said) -> None:
        self.said = said

    def chunks(self):
        if isinstance(self.said, Exception):
            yield b'{"manifest_version": 1, '
            raise self.said
        content = self.said if isinstance(self.said, bytes) else json.dumps(self.said).encode()
        yield content[:10]
        yield content[10:]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(manifest, "_SECONDS_BETWEEN_ATTEMPTS", 0)


SHOP = dump(0)
KILLED = ResticError("restic failed with exit code -9 while reading a snapshot: it said nothing")


def read(*said, others=()):
    restic = FakeRestic(manifest_0=said)
    return Manifests(restic, [SHOP, manifest_of(0), *others]), restic


# -- what cannot be read -----------------------------------------------------------------------------------


def test_a_manifest_describes_the_snapshot_by_its_id():
    manifests, restic = read(document(0, SHOP))
    assert manifests.describe(SHOP)["size_bytes"] == 7
    assert manifests.cluster(SHOP)["globals"] == ROLES
    assert manifests.describe(dump(0, "other")) == {}
    assert restic.reads == ["manifest 0"]


def test_a_run_without_a_manifest_is_missing_one_and_hinders_nobody():
    manifests = Manifests(FakeRestic(), [SHOP])
    assert not manifests.has(SHOP)
    assert manifests.describe(SHOP) == manifests.cluster(SHOP) == {}
    assert manifests.listed(run_of(0), C) is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (json.dumps(document(0, SHOP)).encode()[:-1], "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"manifest_version": 1, "x": "\\ud800"}', "not valid JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "no clusters"),
        ({"clusters": {}}, "no clusters"),
        ({"clusters": [None]}, "not an object"),
        ({"clusters": [{}]}, "no container"),
        ({"clusters": [{"container": C}]}, "lists no databases"),
        ({"clusters": [{"container": C, "databases": ["shop"]}]}, "lists no databases"),
        ({"clusters": [{"container": C, "databases": [{}]}]}, "no snapshot"),
        (document(0, SHOP, globals_=["CREATE ROLE evil"]), "globals of a cluster in it is not a string"),
        (document(0, SHOP, image=7), "image of a cluster"),
        (document(0, SHOP, all_databases="shop"), "names of a cluster's databases"),
        (document(0, SHOP) | {"manifest_version": 2}, "update this one"),
        (document(0, SHOP) | {"manifest_version": "1"}, "version is not a number"),
        (document(0, SHOP) | {"manifest_version": True}, "version is not a number"),
        (document(1, SHOP), "belongs to another run"),
    ],
)
def test_what_is_no_manifest_is_an_error_and_not_nothing(said, reason):
    manifests, restic = read(said)
    for ask in (manifests.describe, manifests.cluster):
        with pytest.raises(UnreadableManifestError, match=reason) as caught:
            ask(SHOP)
        assert run_of(0) in caught.value.message
        assert "without_manifest=true" in caught.value.message
        assert "\n" not in caught.value.message
    assert restic.reads == ["manifest 0"], "the same bytes would come again"


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": "7"},
        {"size_bytes": -1},
        {"size_bytes": 10**400},
        {"size_bytes": 1.5},
        {"row_counts": [1]},
        {"row_counts": {"t": "1"}},
        {"row_counts": {"t": None}},
        {"row_counts": {"t": True}},
        {"extensions": {"name": "x"}},
        {"extensions": [{"name": "x"}]},
        {"extensions": ["x"]},
        {"public_schema": "yes"},
        {"snapshot_id": None},
    ],
)
def test_a_field_of_another_kind_than_its_readers_take_it_for_is_an_error(wrong):
    said = document(0, SHOP)
    said["clusters"][0]["databases"][0] |= wrong
    with pytest.raises(UnreadableManifestError):
        read(said)[0].describe(SHOP)


def test_a_field_that_is_not_known_or_not_there_is_none():
    said = document(0, SHOP, new_in_a_later_version=[1])
    said["clusters"][0]["databases"][0] |= {"row_counts": None, "extensions": None, "public_schema": None, "new": {}}
    del said["manifest_version"]
    assert read(said)[0].describe(SHOP)["new"] == {}


@pytest.mark.parametrize("failures", [1, 2])
def test_a_restic_that_was_killed_is_asked_again(failures):
    manifests, restic = read(*[KILLED] * failures, document(0, SHOP))
    assert manifests.describe(SHOP)["size_bytes"] == 7
    assert len(restic.reads) == failures + 1


def test_a_restic_that_is_killed_each_time_is_an_error_which_is_found_once():
    manifests, restic = read(KILLED)
    for _time in range(2):
        with pytest.raises(UnreadableManifestError, match="exit code -9"):
            manifests.describe(SHOP)
    assert len(restic.reads) == 3


@pytest.mark.parametrize(
    "error",
    [
        UnreadableRepositoryError("ciphertext verification failed."),
        UnknownSnapshotError("The snapshot cannot be read: no matching ID."),
    ],
)
def test_damage_is_an_error_at_once(error):
    manifests, restic = read(error)
    with pytest.raises(UnreadableManifestError):
        manifests.read([SHOP])
    assert len(restic.reads) == 1


@pytest.mark.parametrize(
    "error",
    [
        InterruptedRunError("Told to stop."),
        RepositoryUnreachableError("It sent nothing for 900 s."),
        RepositoryRefusedError("Its store does not take the credentials."),
        WrongPasswordError("The password does not open it."),
    ],
)
def test_what_says_nothing_of_the_manifest_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught:
        read(error)[0].read([SHOP])
    assert caught.value is error


def test_a_manifest_is_read_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(manifest, "MOST_BYTES", 50)
    with pytest.raises(UnreadableManifestError, match="it is larger than"):
        read(document(0, SHOP))[0].describe(SHOP)


def test_what_nobody_would_read_back_is_not_saved(monkeypatch):
    monkeypatch.setattr(manifest, "MOST_BYTES", 50)
    require_readable_size(b"x" * 50)
    with pytest.raises(UnreadableManifestError, match="backup_row_counts"):
        require_readable_size(b"x" * 51)


@pytest.mark.parametrize("order", [0, 1])
def test_of_two_manifests_of_one_run_neither_is_believed(order):
    twins = [manifest_of(0), manifest_of(0, "forged")]
    restic = FakeRestic(manifest_0=[document(0, SHOP)], forged=[document(0, SHOP)])
    manifests = Manifests(restic, [SHOP, *(reversed(twins) if order else twins)])
    with pytest.raises(UnreadableManifestError, match="several claim to be it"):
        manifests.describe(SHOP)
    assert restic.reads == []
    manifests.leave_out([SHOP])
    assert manifests.describe(SHOP) == {}


def test_what_is_left_out_on_the_operators_word_is_not_even_read():
    manifests, restic = read(KILLED)
    manifests.leave_out([SHOP])
    manifests.read([SHOP])
    assert manifests.describe(SHOP) == manifests.cluster(SHOP) == {}
    assert not manifests.has(SHOP)
    assert restic.reads == []


def test_parsing_says_what_a_run_listed():
    said = document(0, SHOP, all_databases=["shop", "ledger"])
    manifests, _restic = read(said)
    assert manifests.listed(run_of(0), C) == {"shop", "ledger"}
    assert manifests.listed(run_of(0), "another") is None
    assert read(document(0, SHOP))[0].listed(run_of(0), C) is None, "an agent before 0.4 did not list them"
    assert [one["container"] for one in parse_manifest(json.dumps(said).encode(), run_of(0))] == [C]


# -- what another pass knows -------------------------------------------------------------------------------


def history(**said):
    """Five nights of one database, each with a manifest where one is given."""
    dumps = [dump(day) for day in range(5)]
    manifests = [manifest_of(int(name[-1])) for name in said]
    restic = FakeRestic(**{name: [one] for name, one in said.items()})
    return dumps, Manifests(restic, [*dumps, *manifests]), restic


def test_roles_come_from_the_snapshots_own_manifest():
    dumps, manifests, restic = history(manifest_2=document(2, dump(2)), manifest_3=document(3, dump(3), globals_="x"))
    known = known_roles(manifests, C, [dumps[2]])
    assert set(known.newest.roles) == {"shop"}
    assert known.warnings(["shop"]) == []
    assert restic.reads == ["manifest 2"]


@pytest.mark.parametrize("own", [{}, {"manifest_4": document(4, dump(4), globals_=None)}])
def test_roles_of_a_pass_that_saved_none_come_from_the_newest_before_it(own):
    older = document(1, dump(1), globals_="CREATE ROLE old;")
    dumps, manifests, _restic = history(manifest_1=older, manifest_3=document(3, dump(3)), **own)
    known = known_roles(manifests, C, [dumps[4]])
    assert set(known.newest.roles) == {"shop"}
    [sentence] = known.warnings(["shop"])
    assert "of 2026-11-19 03:00 UTC (run 20261119T030000Z-0000)" in sentence
    assert known.warnings([]) == [], "where none is made it is nobody's business"


def test_roles_of_a_later_pass_are_better_than_none():
    dumps, manifests, _restic = history(
        manifest_3=document(3, dump(3)), manifest_4=document(4, dump(4), globals_="CREATE ROLE late;")
    )
    assert set(known_roles(manifests, C, [dumps[1]]).newest.roles) == {"shop"}


def test_a_manifest_of_another_pass_that_cannot_be_read_is_passed_over_and_told():
    dumps, manifests, _restic = history(
        manifest_1=document(1, dump(1)), manifest_2=document(2, dump(2), globals_="CREATE ROLE 'a"), manifest_3=b"{"
    )
    known = known_roles(manifests, C, [dumps[4]])
    assert set(known.newest.roles) == {"shop"}
    assert [run in said for run, said in zip((run_of(3), run_of(2)), known.warnings([]), strict=True)] == [True, True]


def test_roles_of_the_snapshots_own_manifest_that_cannot_be_read_are_an_error():
    dumps, manifests, _restic = history(
        manifest_1=document(1, dump(1)), manifest_2=document(2, dump(2), globals_="CREATE ROLE 'a")
    )
    with pytest.raises(GlobalsError):
        known_roles(manifests, C, [dumps[2]])
    manifests.leave_out([dumps[2]])
    assert set(known_roles(manifests, C, [dumps[2]]).newest.roles) == {"shop"}


def test_no_more_than_a_few_manifests_are_read_for_roles():
    dumps = [dump(day) for day in range(12)]
    restic = FakeRestic(**{f"manifest_{day}": [document(day, dumps[day], globals_=None)] for day in range(11)})
    manifests = Manifests(restic, [*dumps, *(manifest_of(day) for day in range(11))])
    assert known_roles(manifests, C, [dumps[11]]).sources == ()
    assert restic.reads == [f"manifest {day}" for day in (10, 9, 8, 7, 6)]


def test_only_runs_that_dumped_the_container_are_asked():
    strangers = [dump(2, container="scalr-blog-db"), dump(3, reason=PRE_RESTORE)]
    restic = FakeRestic(manifest_0=[document(0, SHOP)], manifest_2=[KILLED], manifest_3=[KILLED])
    snapshots = [SHOP, dump(4), *strangers, manifest_of(0), manifest_of(2), manifest_of(3)]
    assert set(known_roles(Manifests(restic, snapshots), C, [dump(4)]).newest.roles) == {"shop"}


def test_a_manifest_of_the_future_is_not_asked():
    ahead = manifest_of(0, "ahead")
    ahead = Snapshot(ahead.id, datetime.now(UTC) + timedelta(days=9), "h", ahead.path, ahead.tags, 100)
    restic = FakeRestic(ahead=[document(0, SHOP)])
    assert known_roles(Manifests(restic, [SHOP, dump(1), ahead]), C, [dump(1)]).sources == ()


def test_a_role_that_only_an_older_chosen_manifest_has_is_known_and_not_among_the_last():
    ledger = dump(0, "ledger")
    restic = FakeRestic(
        manifest_0=[document(0, ledger, globals_=ROLES + "CREATE ROLE leaver;\n")], manifest_1=[document(1, dump(1))]
    )
    manifests = Manifests(restic, [ledger, dump(1), manifest_of(0), manifest_of(1)])
    known = known_roles(manifests, C, [ledger, dump(1)])
    assert set(known.newest.roles) == {"shop"}
    assert [set(one.roles) for one in known.sources] == [{"shop"}, {"shop", "leaver"}]

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trusted place believes of a repository's files; tests with a real restic and real forgeries are among those of integration."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
import requests
from scalr_backup.actions.retention import witness as seeing
from scalr_backup.actions.retention.witness import PruningView, Witness, require_small_files
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    ConfigurationError,
    ForgedFilesError,
    RepositoryUnreachableError,
    ResticError,
    UnfinishedLookError,
)
from scalr_backup.core.progress import nobody
from scalr_backup.core.repository_index import StrangeIndexError, parse_index
from scalr_backup.tools.known_files import KnownFiles, KnownFilesStore
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.files import DirectoryFiles, MissingFileError, RestFiles, Stored, parse_span
from scalr_backup.tools.store.gate import Address, ForbiddenError, ReadingView, gate
from scalr_backup.tools.store.opening import open_files
from scalr_backup.tools.store.s3 import S3Files


def name(number: int) -> str:
    """A file's name."""
    return f"{number:064x}"


def index_of(*packs: int, **more: object) -> bytes:
    """What an index says that names packs."""
    blob = {"id": name(900), "type": "data", "offset": 0, "length": 9}
    return json.dumps({"packs": [{"id": name(pack), "blobs": [blob]} for pack in packs], **more}).encode()


class FakeRestic:
    """A restic that reads what it finds behind the gate; an index lies here in clear text."""

    repository = "rest:http://store/web1"

    def __init__(self, files: DirectoryFiles) -> None:
        self.files = files
        self.place: Address | None = None
        self.bad: set[str] = set()
        self.read: list[set[str]] = []
        self.meanwhile = lambda: None

    def seen_through(self, repository, environment):
        self.place = Address(repository, environment)
        return self

    def get(self, path, **headers):
        auth = tuple(self.place.environment.values())
        return requests.get(self.place.repository.removeprefix("rest:") + path, auth=auth, headers=headers, timeout=5)

    def index_text(self, wanted, _most):
        return self.get(f"index/{wanted}").content

    def read_packs(self, _limit, on_progress):
        shown = {one["name"] for one in self.get("data/").json()}
        self.read.append(shown)
        if self.bad & (shown | {one["name"] for one in self.get("index/").json()}):
            raise ResticError("repository contains errors")

    def prune(self, _on_progress):
        self.meanwhile()
        self.saw = {one["name"] for one in self.get("index/").json()}


@pytest.fixture
def files(tmp_path) -> DirectoryFiles:
    for kind in ("data", "index", "keys", "locks", "snapshots"):
        (tmp_path / "repository" / kind).mkdir(parents=True)
    (tmp_path / "repository" / "config").write_bytes(b"config")
    found = DirectoryFiles(tmp_path / "repository")
    add(found, "keys", 1)
    return found


@pytest.fixture
def restic(files) -> FakeRestic:
    return FakeRestic(files)


@pytest.fixture
def store(tmp_path) -> KnownFilesStore:
    return KnownFilesStore("5f0c", tmp_path / "state")


def add(files: DirectoryFiles, kind: str, number: int, content: bytes = b"x") -> None:
    """Add a file."""
    files.add(kind, name(number), io.BytesIO(content), len(content))


def look(restic: FakeRestic, store: KnownFilesStore, **options: object) -> seeing.Look:
    """A look of its own, as a later run takes it."""
    return Witness(restic, restic.files, store, nobody, **options).look()


def two_nights(restic: FakeRestic, store: KnownFilesStore) -> None:
    """Two indexes with a pack each, which were looked at."""
    for number in (1, 2):
        add(restic.files, "data", number)
        add(restic.files, "index", number, index_of(number))
    look(restic, store)


class TestLook:
    """What is new is read, once."""

    def test_reads_what_is_new(self, restic, store):
        two_nights(restic, store)
        add(restic.files, "data", 3, b"third")
        add(restic.files, "index", 3, index_of(3))
        seen = look(restic, store)
        assert (seen.indexes, seen.packs, seen.bytes) == (1, 1, 5)
        assert look(restic, store).packs == 0
        assert restic.read == [{name(1), name(2)}, {name(3)}]

    def test_reads_all_again_when_told_or_when_its_memory_is_spoilt(self, restic, store, tmp_path):
        two_nights(restic, store)
        assert look(restic, store, read_all=True).packs == 2
        [path] = (tmp_path / "state").glob("files-*.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for spoilt in ("", "[]", '{"version": 2}', path.read_text().replace(name(1), "../etc/passwd")):
            path.write_text(spoilt)
            assert look(restic, store).packs == 2

    def test_names_the_index_that_lies_and_no_good_pack(self, restic, store, files):
        packs = [int(hashlib.sha256(content).hexdigest(), 16) for content in (b"1", b"2", b"3")]
        for number, content in zip(packs, (b"1", b"2", b"3"), strict=True):
            add(files, "data", number, content)
        add(files, "index", 1, index_of(packs[0]))
        add(files, "index", 2, index_of(packs[0], packs[1]))
        add(files, "index", 3, index_of(packs[2]))
        restic.bad = {name(2)}
        with pytest.raises(ForgedFilesError, match=f": index/{name(2)}, data/{name(packs[1])}[.]"):
            look(restic, store)
        restic.bad = set()
        assert look(restic, store).indexes > 0

    def test_names_a_replaced_pack_alone_because_its_index_may_be_good(self, restic, store, files):
        good = hashlib.sha256(b"good").hexdigest()
        files.add("data", good, io.BytesIO(b"good"), 4)
        add(files, "data", 2, b"no longer what it was")
        add(files, "index", 1, index_of(int(good, 16), 2))
        restic.bad = {name(2)}
        with pytest.raises(ForgedFilesError, match=f"content does not match their names: data/{name(2)}[.]"):
            look(restic, store)

    def test_an_index_may_name_what_no_other_one_did(self, restic, store):
        two_nights(restic, store)
        for text, what in (
            (index_of(7), "not there"),
            (index_of(1), "repeats packs"),
            (index_of(supersedes=[name(1)]), "supersede others"),
        ):
            add(restic.files, "index", 9, text)
            with pytest.raises(ForgedFilesError, match=what):
                look(restic, store)
        restic.files.remove("index", name(9))
        add(restic.files, "data", 8)
        for number in (8, 9):
            add(restic.files, "index", number, index_of(8))
        with pytest.raises(ForgedFilesError, match="repeats packs") as told:
            look(restic, store)
        assert f"index/{name(8)}" in told.value.message
        assert f"index/{name(9)}" in told.value.message

    def test_what_is_too_large_is_not_read(self, restic, store, monkeypatch):
        monkeypatch.setattr(seeing, "_MOST_BYTES_OF_AN_INDEX", 500)
        monkeypatch.setattr(seeing, "_MOST_BYTES_OF_A_PACK", 500)
        add(restic.files, "index", 1, b"x" * 501)
        with pytest.raises(ForgedFilesError, match="indexes that are larger"):
            look(restic, store)
        restic.files.remove("index", name(1))
        add(restic.files, "data", 1, b"x" * 501)
        add(restic.files, "index", 1, index_of(1))
        with pytest.raises(ForgedFilesError, match="packs that are larger"):
            look(restic, store)
        assert restic.read == []

    @pytest.mark.parametrize("kind", ["keys", "locks", "snapshots"])
    def test_what_restic_would_choke_on_is_never_opened(self, restic, monkeypatch, kind):
        require_small_files(restic.files, restic.repository)
        monkeypatch.setattr(seeing, "_MOST_BYTES_OF_A_SMALL_FILE", 500)
        add(restic.files, kind, 7, b"x" * 501)
        with pytest.raises(
            ForgedFilesError, match=f"{kind} that are larger than any that restic writes: {kind}/{name(7)}"
        ):
            require_small_files(restic.files, restic.repository)

    def test_what_is_gone_or_replaced_ends_it(self, restic, store):
        two_nights(restic, store)
        restic.files.remove("data", name(1))
        with pytest.raises(ForgedFilesError, match="lacks packs"):
            look(restic, store)
        add(restic.files, "data", 1, b"another")
        with pytest.raises(ForgedFilesError, match="others in their place"):
            look(restic, store)
        restic.files.remove("index", name(1))
        with pytest.raises(ForgedFilesError, match="lacks indexes"):
            look(restic, store)

    def test_goes_on_where_its_time_was_over(self, restic, store, monkeypatch):
        monkeypatch.setattr(seeing, "_INDEXES_AT_A_TIME", 1)
        for number in (1, 2):
            add(restic.files, "data", number)
            add(restic.files, "index", number, index_of(number))
        moments = iter([0, 0, 0, 100, 100, 100])
        monkeypatch.setattr(seeing, "time", SimpleNamespace(monotonic=lambda: next(moments)))
        with pytest.raises(UnfinishedLookError, match="continues from there"):
            look(restic, store, limit_seconds=50)
        monkeypatch.undo()
        assert look(restic, store).packs == 1

    def test_tells_of_a_new_key_until_a_prune_has_got_to_its_end(self, restic, store):
        two_nights(restic, store)
        add(restic.files, "keys", 2)
        add(restic.files, "index", 9, b"rubbish")
        said: list[str] = []
        witness = Witness(restic, restic.files, store, lambda event: said.append(str(event)))
        with pytest.raises(ForgedFilesError):
            witness.look()
        assert any("1 keys were added" in one for one in said), "at once, since what comes after may fail"
        restic.files.remove("index", name(9))
        for _check in range(2):
            assert "1 keys were added" in look(restic, store, read_all=True).warnings[0]

        def lock() -> None:
            raise ResticError("locked")

        restic.meanwhile = lock
        witness = Witness(restic, restic.files, store, nobody)
        witness.look()
        with pytest.raises(ResticError, match="locked"):
            witness.prune(nobody)
        restic.meanwhile = lambda: None
        witness = Witness(restic, restic.files, store, nobody)
        assert "1 keys were added" in witness.look().warnings[0]
        witness.prune(nobody)
        assert look(restic, store).warnings == []

    def test_tells_of_a_key_that_came_before_the_first_look_had_got_to_its_end(self, restic, store):
        add(restic.files, "index", 9, b"rubbish")
        with pytest.raises(ForgedFilesError):
            look(restic, store)
        Witness(restic, restic.files, store, nobody).clear_locks()
        restic.files.remove("index", name(9))
        look(restic, store)
        add(restic.files, "keys", 2)
        assert "1 keys were added" in look(restic, store).warnings[0]

    def test_tells_of_data_that_waits_for_days(self, restic, store):
        two_nights(restic, store)
        known = store.read()
        known.waiting = {name(1): utc_now() - timedelta(days=2), name(2): utc_now() - timedelta(days=4)}
        store.write(known)
        [warning] = look(restic, store).warnings
        assert warning.startswith("1 packs of useless data")

    def test_whoever_speaks_of_a_waiting_pack_does_not_keep_it(self, restic, store):
        two_nights(restic, store)
        add(restic.files, "data", 3)
        since = utc_now() - timedelta(hours=30)
        known = store.read()
        known.waiting = {name(3): since}
        store.write(known)
        add(restic.files, "index", 3, index_of(3))
        look(restic, store)
        assert store.read().waiting == {name(3): since}

    def test_one_that_has_no_more_time_for_packs_goes_on_later(self, restic, store, monkeypatch):
        add(restic.files, "data", 1)
        add(restic.files, "index", 1, index_of(1))
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(seeing, "time", SimpleNamespace(monotonic=lambda: clock.now))

        def stall(_limit: float, _on_progress: object) -> None:
            clock.now = 100.0
            raise RepositoryUnreachableError("did not answer within 50 s")

        monkeypatch.setattr(restic, "read_packs", stall)
        with pytest.raises(UnfinishedLookError):
            look(restic, store, limit_seconds=50)

    def test_a_lock_that_nobody_renews_goes_whatever_it_says(self, restic, store):
        add(restic.files, "locks", 1, b"rubbish")
        witness = Witness(restic, restic.files, store, nobody)
        witness.clear_locks()
        assert restic.files.listing("locks")
        known = store.read()
        known.locks[name(1)] -= timedelta(hours=1)
        store.write(known)
        Witness(restic, restic.files, store, nobody).clear_locks()
        assert not restic.files.listing("locks")


class TestPrune:
    """restic sees what was looked at, and nothing that came since."""

    def test_does_not_see_what_comes_meanwhile(self, restic, store):
        two_nights(restic, store)
        witness = Witness(restic, restic.files, store, nobody)
        witness.look()
        restic.meanwhile = lambda: add(restic.files, "index", 66, index_of(1))
        witness.prune(nobody)
        assert restic.saw == {name(1), name(2)}
        with pytest.raises(ForgedFilesError, match="repeats packs"):
            look(restic, store)

    def test_looks_again_at_a_backup_that_came_in_between(self, restic, store):
        two_nights(restic, store)
        witness = Witness(restic, restic.files, store, nobody)

        def backup() -> None:
            if name(3) not in restic.files.listing("index"):
                add(restic.files, "data", 3)
                add(restic.files, "index", 3, index_of(3))
                raise ResticError("data is missing")

        restic.meanwhile = backup
        witness.prune(nobody)
        assert restic.saw == {name(1), name(2), name(3)}

    def test_a_forgery_that_came_in_between_is_not_said_to_have_kept_the_snapshots(self, restic, store):
        two_nights(restic, store)

        def forge() -> None:
            add(restic.files, "index", 66, index_of(1))
            raise ResticError("data is missing")

        restic.meanwhile = forge
        witness = Witness(restic, restic.files, store, nobody)
        witness.look()
        with pytest.raises(ForgedFilesError, match="repeats packs") as told:
            witness.prune(nobody)
        assert told.value.message.startswith("The prune of the repository")

    def test_what_it_wrote_is_remembered_with_the_mark_of_the_store(self, restic, store):
        two_nights(restic, store)
        marked = SimpleNamespace(
            listing=lambda kind: {n: Stored(s.size, "e") for n, s in restic.files.listing(kind).items()}
        )
        view = PruningView(marked, store.read(), store)
        view.adding("data", name(5), 1)
        add(restic.files, "data", 5)
        view.adding("index", name(5), 1)
        view.settle()
        assert store.read().packs[name(5)] == "1:e"

    def test_what_it_may_remove_is_written_down_once(self, restic, store, monkeypatch):
        two_nights(restic, store)
        written: list[int] = []
        view = PruningView(restic.files, store.read(), store)
        monkeypatch.setattr(store, "write", lambda known: written.append(len(known.touched)))
        for number in (1, 2):
            assert view.removing("index", name(number))
        assert written == [2]

    def test_a_failure_that_no_backup_explains_is_one(self, restic, store):
        two_nights(restic, store)

        def fail() -> None:
            raise ResticError("no")

        restic.meanwhile = fail
        with pytest.raises(ResticError, match="no"):
            Witness(restic, restic.files, store, nobody).prune(nobody)

    def test_a_pack_goes_when_a_later_prune_removes_it_again(self, restic, store):
        two_nights(restic, store)
        view = PruningView(restic.files, store.read(), store)
        assert view.removing("data", name(1)) is False
        view.settle()
        assert name(1) not in store.read().packs
        assert PruningView(restic.files, store.read(), store).removing("data", name(1)) is False

        known = store.read()
        known.waiting[name(1)] -= timedelta(hours=23)
        store.write(known)
        view = PruningView(restic.files, store.read(), store)
        assert view.removing("data", name(1)) is True
        view.settle()
        assert view.deleted == 1
        assert store.read().waiting == {}

    def test_what_a_later_prune_does_not_remove_again_stays(self, restic, store):
        two_nights(restic, store)
        known = store.read()
        known.waiting = {name(1): utc_now() - timedelta(days=3)}
        store.write(known)
        PruningView(restic.files, store.read(), store).settle()
        assert store.read().waiting == {}

    def test_a_clock_that_was_ahead_shortens_no_wait(self, restic, store):
        two_nights(restic, store)
        known = store.read()
        known.waiting = {name(1): utc_now() + timedelta(days=3)}
        store.write(known)
        view = PruningView(restic.files, store.read(), store)
        assert view.removing("data", name(1)) is False
        view.settle()
        assert store.read().waiting[name(1)] <= utc_now()

    def test_one_that_was_cut_off_leaves_nothing_that_looks_forged(self, restic, store):
        two_nights(restic, store)
        view = PruningView(restic.files, store.read(), store)
        view.adding("data", name(5), 1)
        add(restic.files, "data", 5)
        view.adding("index", name(5), 1)
        add(restic.files, "index", 5, index_of(1, 5))
        assert view.removing("index", name(1)) is True
        for gone in (True, False):
            assert look(restic, store).packs == 0, gone
            restic.files.remove("index", name(1))

    def test_restic_may_do_no_more_than_prune(self, restic, store):
        view = PruningView(restic.files, store.read(), store)
        for kind in ("keys", "snapshots"):
            with pytest.raises(ForbiddenError):
                view.adding(kind, name(1), 1)
            with pytest.raises(ForbiddenError):
                view.removing(kind, name(1))
        with pytest.raises(ForbiddenError):
            view.removing("data", name(66))
        view.adding("locks", name(1), 1)
        assert view.removing("locks", name(1))
        assert view.find("keys", name(1)) == Stored(1)


class TestGate:
    """A REST server for one restic."""

    @pytest.fixture
    def place(self, restic, files) -> Iterator[FakeRestic]:
        add(files, "data", 1, b"0123456789")
        add(files, "data", 2)
        view = ReadingView({}, {name(1): Stored(10), name(3): Stored(1)}, files.listing("keys"))
        with gate(files, view) as address:
            yield restic.seen_through(address.repository, address.environment)

    def test_shows_what_the_view_shows(self, place):
        assert place.get("data/").json() == [{"name": name(1), "size": 10}, {"name": name(3), "size": 1}]
        assert place.get("snapshots/").json() == []
        assert place.get(f"data/{name(1)}").content == b"0123456789"
        assert place.get(f"data/{name(1)}", Range="bytes=2-4").content == b"234"
        assert place.get("config").content == b"config"
        for path in (f"data/{name(2)}", f"data/{name(3)}", "data/%2e%2e/config", "etc/", "data"):
            assert place.get(path).status_code == 404, path

    def test_takes_nothing_and_removes_nothing(self, place):
        url, auth = place.place.repository.removeprefix("rest:"), tuple(place.place.environment.values())
        assert requests.post(f"{url}data/{name(5)}", data=b"x", auth=auth, timeout=5).status_code == 403
        assert requests.post(f"{url}config", data=b"x", auth=auth, timeout=5).status_code == 403
        assert requests.delete(f"{url}data/{name(1)}", auth=auth, timeout=5).status_code == 403
        head = requests.head(f"{url}config", auth=auth, timeout=5)
        assert (head.status_code, head.headers["Content-Length"]) == (200, "6")

    def test_opens_to_its_own_restic_only(self, place):
        url = place.place.repository.removeprefix("rest:")
        assert requests.get(f"{url}data/", timeout=5).status_code == 401
        assert requests.get(f"{url}data/", auth=("restic", "x"), timeout=5).status_code == 401

    def test_tells_why_the_store_failed(self, restic, files):
        class Broken(DirectoryFiles):
            def read(self, kind, name, span=None):
                raise RepositoryUnreachableError("gone")

        def ask(error: Exception) -> None:
            with gate(Broken(files._place), ReadingView({}, {name(1): Stored(1)}, {})) as address:
                assert (
                    restic.seen_through(address.repository, address.environment).get(f"data/{name(1)}").status_code
                    == 403
                )
                raise error

        for error in (ResticError("in restic's own words"), ForgedFilesError("an index that restic cannot read")):
            with pytest.raises(RepositoryUnreachableError, match="gone"):
                ask(error)

    def test_a_file_that_breaks_off_is_not_followed_by_anything_else(self, restic, files):
        class Broken(DirectoryFiles):
            @contextmanager
            def read(self, kind, name, span=None):
                def pieces():
                    yield b"01234"
                    raise RepositoryUnreachableError("gone")

                yield pieces()

        with (
            gate(Broken(files._place), ReadingView({}, {name(1): Stored(10)}, {})) as address,
            pytest.raises(requests.RequestException),
        ):
            restic.seen_through(address.repository, address.environment).get(f"data/{name(1)}")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{" * 5000,
        b'{"packs": 1}',
        b'{"packs": [1]}',
        b'{"packs": [], "packs": []}',
        b'{"packs": [], "Packs": []}',
        b'{"packs": [{"id": "x", "blobs": []}]}',
        json.dumps({"packs": [{"id": name(1), "blobs": [{"id": name(2), "type": "other"}]}]}).encode(),
        json.dumps({"packs": [{"id": name(1), "blobs": [{"id": 2, "type": "data"}]}]}).encode(),
        json.dumps({"packs": [{"id": name(1), "blobs": []}]}).encode(),
        index_of(1, 1),
    ],
)
def test_an_index_is_read_strictly(text):
    with pytest.raises(StrangeIndexError):
        parse_index(text)


def test_an_index_says_which_packs_it_names():
    assert parse_index(index_of(1, 2)).packs == (name(1), name(2))
    assert parse_index(b'{"packs": null, "supersedes": null}').supersedes is False


def test_a_sign_says_whether_a_pack_was_replaced():
    known = KnownFiles(packs={name(1): "5:a", name(2): "5"})
    assert known.replaced({name(1): Stored(5, "a"), name(2): Stored(5, "b")}) == []
    assert known.replaced({name(1): Stored(5, "b"), name(2): Stored(5)}) == [name(1)]


def test_which_stores_a_trusted_place_can_read(tmp_path):
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
    assert isinstance(open_files(str(tmp_path), Access({})), DirectoryFiles)
    assert isinstance(open_files("rest:http://x/y", Access({})), RestFiles)
    assert isinstance(open_files("s3:https://x/y", Access(keys)), S3Files)
    for address in ("sftp:a@b:/c", "b2:a:b", "rclone:a:b", "azure:a:b", "gs:a:b", "swift:a:b"):
        with pytest.raises(ConfigurationError, match="cannot be pruned from a trusted place"):
            open_files(address, Access({}))


def test_the_copy_of_a_repository_is_another_one_and_what_an_earlier_release_kept_is_read(tmp_path):
    KnownFilesStore("5f0c", tmp_path).write(KnownFiles(indexes={name(1)}))
    first = KnownFilesStore("5f0c", tmp_path, address="rest:http://a/")
    assert first.read().indexes == {name(1)}
    first.write(KnownFiles(indexes={name(2)}))
    second = KnownFilesStore("5f0c", tmp_path, address="rest:http://b/")
    second.write(KnownFiles(indexes={name(3)}))
    assert KnownFilesStore("5f0c", tmp_path, address="rest:http://a").read().indexes == {name(2)}
    assert second.read().indexes == {name(3)}


def test_a_file_that_is_not_there_is_missing(files):
    with pytest.raises(MissingFileError), files.read("data", name(1)):
        pass


def test_a_span_stays_within_the_file():
    assert [parse_span(span, 10) for span in (None, "bytes=2-4", "bytes=8-", "bytes=2-99", "bytes=99-")] == [
        (0, 10), (2, 5), (8, 10), (2, 10), (10, 10),
    ]  # fmt: skip

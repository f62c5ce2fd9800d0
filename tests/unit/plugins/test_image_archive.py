# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host hands over as the image for all the others, and what of it reaches them."""

from __future__ import annotations

import gzip
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._image_archive import full_name, ship
from ansible_collections.scalr.backup.plugins.plugin_utils._image_tar import Limits, RefusedError

from tests.support.image_archives import (
    IMAGE,
    Saved,
    as_docker_20_saves,
    as_docker_25_saves,
    as_the_containerd_store_saves,
    digest_of,
    layer_of,
)

BASE, OWN = layer_of(base="debian"), layer_of(agent="backs up")
OTHER = layer_of(agent="does something else")
MAKERS = [as_docker_20_saves, as_docker_25_saves, as_the_containerd_store_saves]
Maker = Callable[..., Saved]


def read(path: Path) -> dict[str, bytes]:
    """An archive's members and their bytes."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def refused(saved: Saved, directory: Path, expected: str = "", limits: Limits | None = None) -> str:
    """The sentence by which an archive is refused; nothing is left of it."""
    source, destination = saved.write(directory / "source.tar"), directory / "checked.tar.gz"
    with pytest.raises(RefusedError) as caught:
        ship(source, destination, IMAGE, expected or saved.id, limits)
    assert list(directory.iterdir()) == [source]
    return str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_an_image_is_shipped_as_it_is(make: Maker, compressed: bool, tmp_path: Path) -> None:
    # The same layer twice, as a step that changes nothing leaves it.
    saved = make(BASE, OWN, BASE)
    destination = tmp_path / "checked.tar.gz"

    ids = ship(saved.write(tmp_path / "source", compressed=compressed), destination, IMAGE, saved.id)

    files = read(destination)
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == [IMAGE]
    assert digest_of(files[entry["Config"]]) == ids[0] == saved.id
    assert [files[layer] for layer in entry["Layers"]] == [BASE, OWN, BASE]
    (root,) = json.loads(files["index.json"])["manifests"]
    assert root["annotations"]["io.containerd.image.name"] == f"docker.io/library/{IMAGE}"
    assert root["digest"] == ids[-1] == digest_of(files[f"blobs/sha256/{ids[-1][7:]}"])
    assert all(name.endswith(digest_of(data)[7:]) for name, data in files.items() if name.startswith("blobs/"))
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600


@pytest.mark.parametrize("make", MAKERS)
def test_each_id_that_an_engine_may_know_proves_it(make: Maker, tmp_path: Path) -> None:
    source = (saved := make(BASE, OWN)).write(tmp_path / "source")
    ids = ship(source, tmp_path / "first", IMAGE, saved.id)
    assert len(ids) == (3 if make is as_the_containerd_store_saves else 2)
    told = ids if make is not as_docker_20_saves else ids[:1]
    for number, one in enumerate(told):
        assert ship(source, tmp_path / f"again{number}", IMAGE, one) == ids


def test_what_a_build_says_of_an_image_comes_along_and_other_platforms_need_not(tmp_path: Path) -> None:
    saved = as_the_containerd_store_saves(BASE)
    ship(saved.write(tmp_path / "source"), tmp_path / "checked", IMAGE, saved.id)
    blobs = {name for name in saved.members if name.startswith("blobs/")}
    assert blobs <= set(read(tmp_path / "checked"))


def test_layers_may_be_compressed(tmp_path: Path) -> None:
    saved = as_docker_25_saves(gzip.compress(BASE), gzip.compress(OWN))
    ship(saved.write(tmp_path / "source"), tmp_path / "checked", IMAGE, saved.id)
    (entry,) = json.loads(read(tmp_path / "checked")["manifest.json"])
    assert len(entry["Layers"]) == 2


def test_a_link_stands_for_a_layer_that_occurs_twice(tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE, OWN, BASE)
    del saved.members[f"{2:064x}/layer.tar"]
    saved.odd = [(f"{2:064x}/layer.tar", b"", {"type": tarfile.SYMTYPE, "linkname": f"../{0:064x}/layer.tar"})]

    ship(saved.write(tmp_path / "source"), tmp_path / "checked", IMAGE, saved.id)

    files = read(tmp_path / "checked")
    assert [files[layer] for layer in json.loads(files["manifest.json"])[0]["Layers"]] == [BASE, OWN, BASE]


def test_what_does_not_belong_to_the_image_is_left_behind(tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    saved.members["a/stowaway"] = b"#!/bin/sh"
    ship(saved.write(tmp_path / "source"), tmp_path / "checked", IMAGE, saved.id)
    assert b"#!/bin/sh" not in read(tmp_path / "checked").values()


@pytest.mark.parametrize("make", MAKERS)
class TestRefuses:
    def test_a_second_name(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        entry = saved.document("manifest.json")[0]
        saved.change("manifest.json", [{**entry, "RepoTags": [IMAGE, "postgres:17"]}])
        assert refused(saved, tmp_path) == f"The archive names '{IMAGE}', 'postgres:17' instead of only {IMAGE}."

    def test_another_name(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        entry = saved.document("manifest.json")[0]
        saved.change("manifest.json", [{**entry, "RepoTags": ["postgres:17"]}])
        assert "names 'postgres:17' instead of only" in refused(saved, tmp_path)

    def test_no_name(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        saved.change("manifest.json", [{**saved.document("manifest.json")[0], "RepoTags": None}])
        assert "names nothing instead of only" in refused(saved, tmp_path)

    def test_a_second_image(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        saved.change("manifest.json", saved.document("manifest.json") * 2)
        assert "holds 2 images instead of one" in refused(saved, tmp_path)

    def test_another_image_under_the_name(self, make: Maker, tmp_path: Path) -> None:
        told = make(BASE, OWN).id
        saved = make(BASE, OTHER)
        assert refused(saved, tmp_path, told) == f"The archive holds the image {saved.id} instead of {told}."

    def test_another_layer_under_the_right_configuration(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE, OWN)
        own = next(name for name, data in saved.members.items() if data == OWN)
        saved.members[own] = OTHER
        assert "not the one that its configuration" in (said := refused(saved, tmp_path)) or "does not match" in said

    def test_fewer_layers(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE, OWN)
        entry = saved.document("manifest.json")[0]
        saved.change("manifest.json", [{**entry, "Layers": entry["Layers"][:1]}])
        assert "has 1 layers, but its configuration lists 2" in refused(saved, tmp_path)

    def test_what_is_not_there(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        del saved.members[saved.document("manifest.json")[0]["Layers"][0]]
        assert "which it refers to" in refused(saved, tmp_path)

    @pytest.mark.parametrize(
        "value", [None, 1, "x", {}, [1], [[]], [{"Config": 1}], [{"RepoTags": [IMAGE], "Config": []}]]
    )
    def test_a_list_of_contents_in_another_form(self, make: Maker, value: object, tmp_path: Path) -> None:
        saved = make(BASE)
        saved.change("manifest.json", value)
        assert "The archive" in refused(saved, tmp_path)

    @pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b'[{"a": 1' + b"0" * 10_000 + b"}]", b"[\xff]"])
    def test_a_list_of_contents_that_is_no_json(self, make: Maker, text: bytes, tmp_path: Path) -> None:
        saved = make(BASE)
        saved.members["manifest.json"] = text
        assert "manifest.json is not JSON" in refused(saved, tmp_path)


@pytest.mark.parametrize("where", [0, 1])
def test_two_lists_of_contents_are_refused(where: int, tmp_path: Path) -> None:
    """Readers differ in which they take."""
    saved = as_docker_20_saves(BASE)
    members = [("manifest.json", saved.members["manifest.json"]), ("manifest.json", b"[]")]
    del saved.members["manifest.json"]
    saved.odd = [(name, data, {}) for name, data in (members if where else reversed(members))]
    assert "two members named manifest.json" in refused(saved, tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "a/../../b", "./manifest.json", "a//b", "a b", "ä"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    saved.odd = [(name, b"x", {})]
    assert "a name that no image contains" in refused(saved, tmp_path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE],
)
def test_devices_and_the_like_are_refused(kind: bytes, tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    saved.odd = [("layer", b"", {"type": kind, "linkname": "manifest.json"})]
    assert "is neither a file, a directory nor a link" in refused(saved, tmp_path)


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../etc/shadow"])
def test_links_out_of_the_archive_are_refused(target: str, tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    saved.odd = [("layer.tar", b"", {"type": tarfile.SYMTYPE, "linkname": target})]
    assert "points outside the archive" in refused(saved, tmp_path)


def test_repositories_that_name_more_are_refused(tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    saved.change("repositories", {**saved.document("repositories"), "postgres": {"17": "0"}})
    assert "repositories name" in refused(saved, tmp_path)


@pytest.mark.parametrize("make", [as_docker_25_saves, as_the_containerd_store_saves])
class TestIndex:
    def test_a_second_image_is_refused(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        index = saved.document("index.json")
        saved.change("index.json", {**index, "manifests": index["manifests"] * 2})
        assert "holds 2 images instead of one" in refused(saved, tmp_path)

    def test_another_name_is_refused(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        index = saved.document("index.json")
        index["manifests"][0]["annotations"]["io.containerd.image.name"] = "docker.io/library/postgres:17"
        saved.change("index.json", index)
        assert "index names 'docker.io/library/postgres:17'" in refused(saved, tmp_path)

    def test_another_image_than_the_list_of_contents_has_is_refused(self, make: Maker, tmp_path: Path) -> None:
        """An engine reads the one or the other."""
        saved, other = make(BASE, OWN), make(BASE, OTHER)
        saved.members = {**other.members, **saved.members, "index.json": other.members["index.json"]}
        assert "leads to a different image than its manifest.json" in refused(saved, tmp_path)

    def test_a_blob_that_is_not_what_its_name_says_is_refused(self, make: Maker, tmp_path: Path) -> None:
        saved = make(BASE)
        saved.members[f"blobs/sha256/{digest_of(b'one')[7:]}"] = b"another"
        assert "does not match the checksum in its name" in refused(saved, tmp_path)


class TestBounds:
    def test_bytes(self, tmp_path: Path) -> None:
        said = refused(as_docker_20_saves(BASE, OWN), tmp_path, limits=Limits(bytes=len(BASE)))
        assert said == f"The archive holds more than {len(BASE)} bytes."

    def test_bytes_that_only_compression_hides(self, tmp_path: Path) -> None:
        """A layer of zeros is a thousandth of its size in the archive."""
        saved = as_docker_25_saves(gzip.compress(bytes(8 << 20)))
        assert "holds more than" in refused(saved, tmp_path, limits=Limits(bytes=4 << 20))

    def test_a_size_that_is_told_only(self, tmp_path: Path) -> None:
        saved = as_docker_20_saves(BASE)
        path = saved.write(tmp_path / "source.tar")
        with path.open("ab") as file:
            file.truncate(1536)
        with pytest.raises(RefusedError, match="ends too early"):
            ship(path, tmp_path / "checked", IMAGE, saved.id)

    def test_members(self, tmp_path: Path) -> None:
        saved = as_docker_20_saves(BASE)
        saved.members |= {f"x{number}": b"" for number in range(60)}
        assert "more than 50 members" in refused(saved, tmp_path, limits=Limits(members=50))

    def test_documents(self, tmp_path: Path) -> None:
        saved = as_docker_20_saves(BASE)
        saved.members["manifest.json"] = b"[" + b" " * 5000 + b"]"
        assert "too large to describe an image" in refused(saved, tmp_path, limits=Limits(document=4096))

    def test_all_documents_together(self, tmp_path: Path) -> None:
        saved = as_docker_20_saves(BASE)
        saved.members |= {f"x{number}": b"{" + b" " * 3000 for number in range(10)}
        assert "too large to describe an image" in refused(saved, tmp_path, limits=Limits(documents=9000))


@pytest.mark.parametrize("damage", [b"", b"nothing", b"\x1f\x8b" + b"\0" * 600, b"x" * 1024, bytes(512)])
def test_what_is_no_archive_is_a_sentence(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(damage)
    with pytest.raises(RefusedError, match=r"^The archive .*\.$"):
        ship(tmp_path / "source", tmp_path / "checked", IMAGE, digest_of(b""))


@pytest.mark.parametrize("cut", range(40, 100, 13))
def test_an_archive_cut_off_is_a_sentence(cut: int, tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE, OWN)
    path = saved.write(tmp_path / "source", compressed=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * cut // 100])
    with pytest.raises(RefusedError, match=r"^The archive .*\.$"):
        ship(path, tmp_path / "checked", IMAGE, saved.id)


def test_an_id_in_another_form_is_refused(tmp_path: Path) -> None:
    saved = as_docker_20_saves(BASE)
    assert "is not an image id" in refused(saved, tmp_path, saved.id[7:19])


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("agent", "docker.io/library/agent:latest"),
        ("agent:1", "docker.io/library/agent:1"),
        ("me/agent:1", "docker.io/me/agent:1"),
        ("registry.example.com/agent", "registry.example.com/agent:latest"),
        ("localhost:5000/agent:1", "localhost:5000/agent:1"),
        ("localhost/agent:1", "localhost/agent:1"),
    ],
)
def test_two_spellings_of_a_name_are_one(name: str, full: str) -> None:
    assert full_name(name) == full_name(full) == full


def test_a_name_by_digest_cannot_be_shipped() -> None:
    with pytest.raises(RefusedError, match="name it by a tag, and set backup_image_id"):
        full_name(f"registry.example.com/agent@{digest_of(b'')}")

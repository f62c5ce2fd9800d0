"""Archives of images as engines write them, and as somebody else might."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGE = "scalr-backup:0.6.0-0123456789ab"
_OCI = "application/vnd.oci.image"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_of(**files: str) -> bytes:
    """A layer: a tar archive, not compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            add(archive, name, text.encode())
    return packed.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **header: Any) -> None:
    """One more member; *header* says what it is, if it is no file."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in header.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


@dataclass
class Saved:
    """An archive of an image, to be changed by a test before it is written."""

    layers: list[bytes]
    tags: list[str] = field(default_factory=lambda: [IMAGE])
    config: bytes = b""
    members: dict[str, bytes] = field(default_factory=dict)
    #: More members, with what their headers say.
    odd: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        diff_ids = [digest_of(gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer) for layer in self.layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        self.config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs}).encode()

    @property
    def id(self) -> str:
        return digest_of(self.config)

    def write(self, path: Path, *, compressed: bool = False) -> Path:
        """Write it as a file."""
        with tarfile.open(path, "w:gz" if compressed else "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in self.members.items():
                add(archive, name, data)
            for name, data, header in self.odd:
                add(archive, name, data, **header)
        return path

    def document(self, name: str) -> Any:
        return json.loads(self.members[name])

    def change(self, name: str, value: object) -> None:
        self.members[name] = json.dumps(value).encode()


def as_docker_20_saves(*layers: bytes) -> Saved:
    """As docker save writes it before Docker 25."""
    saved = Saved(list(layers))
    paths = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    for path, layer in zip(paths, layers, strict=True):
        saved.members[path.replace("layer.tar", "VERSION")] = b"1.0"
        saved.members[path] = layer
    config = f"{saved.id[7:]}.json"
    saved.members[config] = saved.config
    saved.change("manifest.json", [{"Config": config, "RepoTags": saved.tags, "Layers": paths}])
    name, tag = IMAGE.split(":")
    saved.change("repositories", {name: {tag: f"{len(layers) - 1:064x}"}})
    return saved


def as_docker_25_saves(*layers: bytes) -> Saved:
    """As docker save writes it since: an OCI layout with manifest.json beside it."""
    saved = Saved(list(layers))
    manifest = _blob(saved, json.dumps(_manifest(saved)).encode())
    _describe(saved, manifest, f"{_OCI}.manifest.v1+json")
    return saved


def as_the_containerd_store_saves(*layers: bytes) -> Saved:
    """As Docker 29 saves what it has built: an index with the image, what the build says of it, and a platform not at hand."""
    saved = Saved(list(layers))
    manifest = _blob(saved, json.dumps(_manifest(saved)).encode())
    statement = _blob(saved, b'{"_type": "https://in-toto.io/Statement/v0.1"}')
    empty = _blob(saved, b"{}")
    attestation = {"schemaVersion": 2, "config": empty, "layers": [statement]}
    about = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    elsewhere = {"mediaType": f"{_OCI}.manifest.v1+json", "digest": digest_of(b"arm64"), "size": 5}
    index = {
        "schemaVersion": 2,
        "manifests": [manifest, _blob(saved, json.dumps(attestation).encode()) | about, elsewhere],
    }
    _describe(saved, _blob(saved, json.dumps(index).encode()), f"{_OCI}.index.v1+json")
    return saved


def _manifest(saved: Saved) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "config": _blob(saved, saved.config),
        "layers": [_blob(saved, one) for one in saved.layers],
    }


def _blob(saved: Saved, data: bytes) -> dict[str, Any]:
    saved.members[f"blobs/sha256/{digest_of(data)[7:]}"] = data
    return {"mediaType": f"{_OCI}.manifest.v1+json", "digest": digest_of(data), "size": len(data)}


def _describe(saved: Saved, root: dict[str, Any], media_type: str) -> None:
    annotations = {"io.containerd.image.name": f"docker.io/library/{IMAGE}", "org.opencontainers.image.ref.name": "0"}
    saved.change(
        "index.json", {"schemaVersion": 2, "manifests": [{**root, "mediaType": media_type, "annotations": annotations}]}
    )
    saved.change("oci-layout", {"imageLayoutVersion": "1.0.0"})
    paths = [f"blobs/sha256/{digest_of(one)[7:]}" for one in saved.layers]
    config = f"blobs/sha256/{saved.id[7:]}"
    saved.change("manifest.json", [{"Config": config, "RepoTags": saved.tags, "Layers": paths}])

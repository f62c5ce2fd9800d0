# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Proves that an archive of ``docker save`` holds the one image that is expected, and writes it anew with nothing else.

An image's id is a checksum of its configuration, or of the manifest that names its configuration; the configuration names the
checksums of the layers. So whoever knows the id from a trustworthy place can prove every byte, whoever sent them. What is
shipped is written here, from the parts that were proved, so that no engine reads anything into the archive that was not seen.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.scalr.backup.plugins.plugin_utils._image_tar import (
    BLOCK,
    Limits,
    Member,
    RefusedError,
    Source,
    followed,
    head,
    opened,
    padding,
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})\Z")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
# What a build says of itself lies beside the image as if it were one, under this annotation.
_ATTESTATION = "vnd.docker.reference.type"
_FULL_NAME, _TAG = "io.containerd.image.name", "org.opencontainers.image.ref.name"
# For a JSON document, the first byte is enough of a sign: a layer begins with a name or gzip's mark.
_OPENING = (b"{", b"[")


@dataclass
class _Part:
    """One file of the archive, as it was read."""

    size: int
    digest: str
    #: Checksum of what a compressed layer holds.
    inflated: str | None
    document: bytes | None


@dataclass
class _Proof:
    """What is known of the image, and what of the archive belongs to it."""

    tag: str
    config: str
    #: The ids by which engines may call the image: of the configuration, of the manifest, of the index around it.
    ids: list[str] = field(default_factory=list)
    #: Media type, digest and size of what an index is to name.
    root: tuple[str, str, int] = ("", "", 0)
    layers: list[str] = field(default_factory=list)
    #: Digests to be copied, and by which name the archive has each.
    copied: dict[str, str] = field(default_factory=dict)
    #: Documents that the archive lacks, by their digests.
    written: dict[str, bytes] = field(default_factory=dict)


def ship(source: Path, destination: Path, image: str, expected: str, limits: Limits | None = None) -> list[str]:
    """Write the archive that goes to the hosts; returns the ids by which their engines may call the image.

    Raises:
        RefusedError: if the archive at *source* holds anything but *image* with the id *expected*. Nothing is written then.
    """
    allowed = limits or Limits()
    if not _DIGEST.match(expected):
        raise RefusedError(f"{expected!r} is not an image id: it must be sha256: and 64 hexadecimal digits.")
    proof = _prove(_Archive(source, allowed), image)
    if expected not in proof.ids:
        raise RefusedError(f"The archive holds the image {proof.ids[0]} instead of {expected}.")
    part = destination.with_name(f"{destination.name}.new")
    try:
        _write(source, part, proof, allowed)
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
    return proof.ids


def full_name(name: str) -> str:
    """An image's name as registries spell it, so that two spellings of one name compare as equal."""
    path, _at, digest = name.partition("@")
    if digest:
        raise RefusedError(
            f"{name} names an image by digest, and an archive cannot: name it by a tag, and set backup_image_id."
        )
    if ":" not in path.rpartition("/")[2]:
        path += ":latest"
    first, slash, _rest = path.partition("/")
    if not slash:
        return f"docker.io/library/{path}"
    return path if "." in first or ":" in first or first == "localhost" else f"docker.io/{path}"


class _Archive:
    """An archive's files by their names; links are resolved."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self._kept = 0
        self.parts: dict[str, _Part] = {}
        links: list[Member] = []
        with opened(path, limits) as source:
            for member, body in source.members():
                if member.kind == "file":
                    self.parts[member.name] = self._read(member, body, source)
                elif member.kind == "link":
                    links.append(member)
        self.names = {name: name for name in self.parts} | {link.name: followed(link) for link in links}
        for name, part in self.parts.items():
            blob = _BLOB.match(name)
            if blob and part.digest != f"sha256:{blob[1]}":
                raise RefusedError(f"The archive's {name} does not match the checksum in its name.")

    def _read(self, member: Member, body: Iterator[bytes], source: Source) -> _Part:
        digest, kept, inflater = hashlib.sha256(), bytearray(), None
        for number, data in enumerate(body):
            digest.update(data)
            if number == 0:
                inflater = _Inflater(source) if data[:2] == b"\x1f\x8b" else None
                keeps = data[:1] in _OPENING
            if inflater:
                inflater.feed(data)
            if keeps:
                kept += data
                self._keep(len(data), len(kept), member.name)
        inflated = inflater.checksum() if inflater else None
        return _Part(member.size, f"sha256:{digest.hexdigest()}", inflated, bytes(kept) or None)

    def _keep(self, more: int, size: int, name: str) -> None:
        self._kept += more
        if size > self._limits.document or self._kept > self._limits.documents:
            raise RefusedError(f"The archive's {name} is too large to describe an image.")

    def named(self, name: str) -> tuple[str, _Part]:
        """A file by its name or that of a link to it."""
        target = self.names.get(name, "")
        if target not in self.parts:
            raise RefusedError(f"The archive lacks {name[:120]!r}, which it refers to.")
        return target, self.parts[target]

    def document(self, name: str) -> Any:
        """A file's JSON."""
        data = self.named(name)[1].document
        try:
            return json.loads(data or b"")
        except (ValueError, RecursionError) as problem:
            raise RefusedError(f"The archive's {name} is not JSON.") from problem

    def blob(self, digest: str) -> str | None:
        """The name of the file with a digest, if the archive has it under that."""
        name = f"blobs/{digest.replace(':', '/')}"
        return name if name in self.parts else None


class _Inflater:
    """The checksum of what a compressed layer holds, without keeping it."""

    def __init__(self, source: Source) -> None:
        self._source, self._digest = source, hashlib.sha256()
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> None:
        try:
            while data:
                plain = self._stream.decompress(data, 1 << 20)
                self._source.spend(len(plain))
                self._digest.update(plain)
                data = self._stream.unconsumed_tail
                if self._stream.eof:
                    # Compressed in several pieces, one after the other; zeros may follow the last.
                    data = self._stream.unused_data.lstrip(b"\0")
                    self._stream = zlib.decompressobj(wbits=31)
        except zlib.error as problem:
            raise RefusedError(f"A layer in the archive cannot be read: {problem}.") from problem

    def checksum(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def _prove(archive: _Archive, image: str) -> _Proof:
    wanted = full_name(image)
    entry = _only(_list(archive.document("manifest.json"), "manifest.json"), "images")
    tags = _list(_mapping(entry, "manifest.json").get("RepoTags") or [], "manifest.json")
    if len(tags) != 1 or not isinstance(tags[0], str) or full_name(tags[0]) != wanted:
        raise RefusedError(f"The archive names {_spelled(tags)} instead of only {image}.")
    _check_repositories(archive, wanted)
    name, config = archive.named(_text(entry.get("Config"), "manifest.json"))
    proof = _Proof(tag=tags[0], config=config.digest, ids=[config.digest], copied={config.digest: name})
    found = [archive.named(_text(layer, "manifest.json")) for layer in _list(entry.get("Layers"), "manifest.json")]
    _check_layers(_mapping(archive.document(name), name), [part for _name, part in found])
    proof.layers = [part.digest for _name, part in found]
    proof.copied.update({part.digest: name for name, part in found})
    if "index.json" in archive.names:
        _follow_index(archive, proof, wanted)
    else:
        _add_manifest(proof, config.size, {part.digest: part for _name, part in found})
    return proof


def _check_repositories(archive: _Archive, wanted: str) -> None:
    """What engines before 1.10 read: it must not name anything else either."""
    if "repositories" not in archive.names:
        return
    told = _mapping(archive.document("repositories"), "repositories")
    named = [f"{name}:{tag}" for name, tags in told.items() for tag in _mapping(tags, "repositories")]
    if [full_name(name) for name in named] != [wanted]:
        raise RefusedError(f"The archive's repositories name {_spelled(named)} instead of only the one image.")


def _check_layers(config: dict[str, Any], layers: list[_Part]) -> None:
    expected = _list(_mapping(config.get("rootfs"), "configuration").get("diff_ids"), "configuration")
    if len(expected) != len(layers):
        raise RefusedError(f"The archive has {len(layers)} layers, but its configuration lists {len(expected)}.")
    for number, (digest, layer) in enumerate(zip(expected, layers, strict=True), start=1):
        # An engine decompresses whatever looks compressed.
        if digest != (layer.inflated or layer.digest):
            raise RefusedError(f"Layer {number} in the archive is not the one that its configuration names.")


def _follow_index(archive: _Archive, proof: _Proof, wanted: str) -> None:
    """From the index down to the configuration: it must be the same image as in manifest.json."""
    descriptor = _only(
        _list(_mapping(archive.document("index.json"), "index.json").get("manifests"), "index.json"), "images"
    )
    _check_annotations(descriptor, wanted)
    digest, document = _described(archive, proof, descriptor)
    proof.root = (_text(descriptor.get("mediaType"), "index.json"), digest, archive.parts[proof.copied[digest]].size)
    above = []
    if "manifests" in document:
        above = [digest]
        digest, document = _image_among(archive, proof, _list(document["manifests"], "index"))
    named = [
        _digest_of(document.get("config")),
        *(_digest_of(layer) for layer in _list(document.get("layers"), "manifest")),
    ]
    if named != [proof.config, *proof.layers]:
        raise RefusedError("The archive's index leads to a different image than its manifest.json.")
    proof.ids += [digest, *above]


def _check_annotations(descriptor: Any, wanted: str) -> None:
    annotations = _mapping(_mapping(descriptor, "index.json").get("annotations") or {}, "index.json")
    name = annotations.get(_FULL_NAME)
    if name is not None and full_name(_text(name, "index.json")) != wanted:
        raise RefusedError(f"The archive's index names {_spelled([name])} instead of only the one image.")


def _image_among(archive: _Archive, proof: _Proof, descriptors: list[Any]) -> tuple[str, dict[str, Any]]:
    """The one image of an index that is there; other platforms' are named only. What the build said of it comes along."""
    here = [one for one in descriptors if archive.blob(_digest_of(one))]
    said = [one for one in here if _ATTESTATION in (one.get("annotations") or {})]
    for one in said:
        document = _described(archive, proof, one)[1]
        for each in [document.get("config"), *_list(document.get("layers"), "manifest")]:
            name = archive.blob(_digest_of(each))
            if name:
                proof.copied[_digest_of(each)] = name
    return _described(archive, proof, _only([one for one in here if one not in said], "images for different platforms"))


def _described(archive: _Archive, proof: _Proof, descriptor: Any) -> tuple[str, dict[str, Any]]:
    """What a descriptor leads to, which becomes a part of what is shipped."""
    digest = _digest_of(descriptor)
    name = archive.blob(digest)
    if name is None:
        raise RefusedError(f"The archive lacks {digest}, which its index names.")
    proof.copied[digest] = name
    return digest, _mapping(archive.document(name), name)


def _add_manifest(proof: _Proof, size: int, layers: dict[str, _Part]) -> None:
    """What archives of Docker before 25 lack: engines that call an image by its manifest find one, and its id is known here."""
    named = [
        {
            "mediaType": _LAYER + ("+gzip" if layers[digest].inflated else ""),
            "digest": digest,
            "size": layers[digest].size,
        }
        for digest in proof.layers
    ]
    config = {"mediaType": _CONFIG, "digest": proof.config, "size": size}
    manifest = _dumped({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": named})
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    proof.written[digest] = manifest
    proof.root = (_MANIFEST, digest, len(manifest))
    proof.ids.append(digest)


def _write(source: Path, destination: Path, proof: _Proof, limits: Limits) -> None:
    """The archive as Docker 25 and later write it, which earlier releases read as well."""
    media, digest, size = proof.root
    full = full_name(proof.tag)
    annotations = {_FULL_NAME: full, _TAG: full.rpartition(":")[2]}
    index = {"mediaType": media, "digest": digest, "size": size, "annotations": annotations}
    entry = {"Config": _blob(proof.config), "RepoTags": [proof.tag], "Layers": [_blob(layer) for layer in proof.layers]}
    documents = {
        "oci-layout": _dumped({"imageLayoutVersion": "1.0.0"}),
        "index.json": _dumped({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [index]}),
        "manifest.json": _dumped([entry]),
        **{_blob(one): data for one, data in proof.written.items()},
    }
    # Only the user's own: others on the controller need not know what the hosts run.
    with (
        os.fdopen(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as out,
    ):
        for name, data in documents.items():
            out.write(head(name, len(data)) + data + padding(len(data)))
        _copy(source, out, proof, limits)
        out.write(bytes(2 * BLOCK))


def _copy(source: Path, out: BinaryIO | gzip.GzipFile, proof: _Proof, limits: Limits) -> None:
    """The parts that were proved, proved once more while they are written."""
    wanted = {name: digest for digest, name in proof.copied.items()}
    with opened(source, limits) as archive:
        for member, body in archive.members():
            digest = wanted.pop(member.name, None)
            if digest is None:
                continue
            checksum = hashlib.sha256()
            out.write(head(_blob(digest), member.size))
            for data in body:
                checksum.update(data)
                out.write(data)
            out.write(padding(member.size))
            if f"sha256:{checksum.hexdigest()}" != digest:
                raise RefusedError("The archive changed while it was being read.")
    if wanted:
        raise RefusedError("The archive changed while it was being read.")


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _spelled(names: list[Any]) -> str:
    """Names of the archive's own choice, for a sentence."""
    return (
        ", ".join(ascii(name)[:80] for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        or "nothing"
    )


def _only(values: list[Any], what: str) -> Any:
    if len(values) != 1:
        raise RefusedError(f"The archive holds {len(values)} {what} instead of one.")
    return values[0]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(f"The archive's {where} is not as docker save writes it.")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RefusedError(f"The archive's {where} is not as docker save writes it.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RefusedError(f"The archive's {where} is not as docker save writes it.")
    return value


def _digest_of(descriptor: Any) -> str:
    digest = _mapping(descriptor, "index").get("digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise RefusedError("The archive's index is not as docker save writes it.")
    return digest

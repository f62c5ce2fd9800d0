# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody who has a repository's password can write into it: indexes, packs and locks that restic takes for its own.

restic's own format ("References", "Design"): a file is a nonce of 16 bytes, what AES-256 in counter mode makes of the
content, and the tag of Poly1305-AES over that; everything but a lock's or a pack's name follows from its bytes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305


@dataclass(frozen=True)
class Forged:
    """A file for the repository: its kind (``index``, ``data`` ...), its name and its bytes."""

    kind: str
    content: bytes

    @property
    def name(self) -> str:
        """The name under which restic and an append-only store take it."""
        return hashlib.sha256(self.content).hexdigest()


class Forger:
    """Whoever has the master key of a repository, as ``restic cat masterkey`` prints it."""

    def __init__(self, masterkey: str) -> None:
        self._masterkey = masterkey
        document = json.loads(masterkey)
        self._key = b64decode(document["encrypt"])
        self._mac_key, self._mac_r = b64decode(document["mac"]["k"]), b64decode(document["mac"]["r"])

    def encrypt(self, content: bytes) -> bytes:
        """Content as restic keeps it."""
        return _seal(content, self._key, self._mac_key, self._mac_r)

    def key(self, password: str) -> Forged:
        """A key for a password, which costs next to nothing to try."""
        salt = secrets.token_bytes(64)
        secret = hashlib.scrypt(password.encode(), salt=salt, n=2, r=1, p=1, dklen=64)
        data = _seal(self._masterkey.encode(), secret[:32], secret[32:48], secret[48:])
        document = {
            "created": "2026-11-01T00:00:00Z", "username": "x", "hostname": "x", "kdf": "scrypt", "N": 2, "r": 1, "p": 1,
            "salt": b64encode(salt).decode(), "data": b64encode(data).decode(),
        }  # fmt: skip
        return Forged("keys", json.dumps(document).encode())

    def index(self, packs: Sequence[Mapping[str, Any]], **more: Any) -> Forged:
        """An index that says what it likes."""
        return self.file("index", {"packs": list(packs), **more})

    def file(self, kind: str, document: Mapping[str, Any]) -> Forged:
        """Any file that restic keeps as JSON."""
        return Forged(kind, self.encrypt(json.dumps(document).encode()))

    def pack(self, blobs: Sequence[tuple[str, str, bytes]]) -> tuple[Forged, list[dict[str, Any]]]:
        """A pack with blobs (their type, the id that its head gives them, their content), and what a true index says of it."""
        body, head, entries = b"", b"", []
        for kind, name, content in blobs:
            sealed = self.encrypt(content)
            entries.append({"id": name, "type": kind, "offset": len(body), "length": len(sealed)})
            body += sealed
            head += struct.pack("<BI", int(kind == "tree"), len(sealed)) + bytes.fromhex(name)
        sealed_head = self.encrypt(head)
        return Forged("data", body + sealed_head + struct.pack("<I", len(sealed_head))), entries


def _seal(content: bytes, key: bytes, mac_key: bytes, mac_r: bytes) -> bytes:
    nonce = secrets.token_bytes(16)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    hidden = encryptor.update(content) + encryptor.finalize()
    # ECB: restic's own construction encrypts the one block of the nonce.
    block = Cipher(algorithms.AES(mac_key), modes.ECB()).encryptor()  # noqa: S305
    return nonce + hidden + Poly1305.generate_tag(mac_r + block.update(nonce), hidden)


def rubbish_that_replaces(forger: Forger, indexes: Sequence[str]) -> list[Forged]:
    """A pack of noise, and an index after which restic takes every good pack for useless.

    *indexes* are the good ones as ``restic cat index`` prints them. The forged one says that the noise holds each of their
    data blobs and nothing else, so that the noise is kept, and that each good pack holds one more blob that nobody needs.
    """
    good = [pack for text in indexes for pack in json.loads(text)["packs"]]
    blobs = {blob["id"]: blob for pack in good for blob in pack["blobs"] if blob["type"] == "data"}
    entries, offset = [], 0
    for blob in blobs.values():
        entries.append({**blob, "offset": offset})
        offset += blob["length"]
    heads = sum(41 if blob.get("uncompressed_length") else 37 for blob in blobs.values())
    noise = Forged("data", secrets.token_bytes(offset + heads + 36))
    lies = [
        {"id": one["id"], "blobs": [{"id": secrets.token_hex(32), "type": "data", "offset": 0, "length": 1000}]}
        for one in good
        if any(blob["type"] == "data" for blob in one["blobs"])
    ]
    return [noise, forger.index([{"id": noise.name, "blobs": entries}, *lies])]

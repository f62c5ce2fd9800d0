"""Keys of restic's repositories, made cheap for tests.

A key file holds the repository's master key, encrypted with what scrypt derives from the password. How restic writes it:
https://restic.readthedocs.io/en/stable/100_references.html#keys-encryption-and-mac
"""

from __future__ import annotations

import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

# restic takes no fewer than 16384 for N, which costs a processor 50 ms each time that it opens a repository: as long as all
# else that it does. It opens repositories that cost less.
CHEAP = {"N": 2, "r": 1, "p": 1}
IV_BYTES = MAC_BYTES = 16


def cheap_key(key_file: str, password: str) -> tuple[str, str]:
    """The name and the content of a key file that opens the same repository with the same password for next to nothing."""
    key = json.loads(key_file)
    master = _decrypt(_derived(key, password), base64.b64decode(key["data"]))
    key.update(CHEAP)
    key["data"] = base64.b64encode(_encrypt(_derived(key, password), master)).decode()
    content = json.dumps(key)
    return hashlib.sha256(content.encode()).hexdigest(), content


def _derived(key: dict[str, str | int], password: str) -> bytes:
    """The 64 bytes of a password: 32 encrypt, 16 and 16 authenticate."""
    salt = base64.b64decode(str(key["salt"]))
    n, r, p = (int(key[name]) for name in CHEAP)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**28, dklen=64)


def _decrypt(secret: bytes, sealed: bytes) -> bytes:
    iv, content, mac = sealed[:IV_BYTES], sealed[IV_BYTES:-MAC_BYTES], sealed[-MAC_BYTES:]
    assert _mac(secret, iv, content) == mac, "the password does not open the key"
    return _counter_mode(secret, iv, content)


def _encrypt(secret: bytes, content: bytes) -> bytes:
    iv = os.urandom(IV_BYTES)
    encrypted = _counter_mode(secret, iv, content)
    return iv + encrypted + _mac(secret, iv, encrypted)


def _counter_mode(secret: bytes, iv: bytes, content: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(secret[:32]), modes.CTR(iv)).encryptor()
    return cipher.update(content) + cipher.finalize()


def _mac(secret: bytes, iv: bytes, encrypted: bytes) -> bytes:
    """Poly1305-AES: the second half of its one-time key is the IV, encrypted."""
    once = Cipher(algorithms.AES(secret[32:48]), modes.ECB()).encryptor()  # noqa: S305 - a single block
    return Poly1305.generate_tag(secret[48:64] + once.update(iv) + once.finalize(), encrypted)

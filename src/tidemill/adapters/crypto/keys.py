"""Keys: 32 bytes each, in base64; several of one name are its rotation, and the first encrypts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidemill.model.errors import SettingsError

KEY_BYTES = 32
#: A key's id in encrypted data tells which one to take; nobody can come from it to the key.
ID_BYTES = 8


class Keys:
    """Keys of one name, the newest first.

    Raises:
        SettingsError: the text holds none, or something else; it is not shown.
    """

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self._keys = {_id(key): key for key in _read(text, where)}

    @property
    def newest(self) -> tuple[bytes, bytes]:
        """The id and the bytes of the key that encrypts."""
        return next(iter(self._keys.items()))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def get(self, key_id: bytes) -> bytes | None:
        """The bytes of a key; None: it is none of these."""
        return self._keys.get(key_id)

    def __repr__(self) -> str:
        return f"Keys({', '.join(i.hex() for i in self._keys)})"


def _read(text: str, where: str) -> list[bytes]:
    found = []
    for word in re.split(r"[\s,]+", text.strip()):
        try:
            key = base64.b64decode(word.replace("-", "+").replace("_", "/") + "=" * (-len(word) % 4), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(
                "This is no key: 32 bytes in base64, or several of them, the newest first.",
                where=where,
                hint="tidemill connections secrets generate NAME, or: openssl rand -base64 32",
            )
        found.append(key)
    return found


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"tidemill key id\0" + key).digest()[:ID_BYTES]


def derived(key: bytes, purpose: bytes, salt: bytes = b"", size: int = KEY_BYTES) -> bytes:
    """A key for one purpose only, by HKDF with SHA-256 (RFC 5869)."""
    hashes, kdf = _primitives()
    made: bytes = kdf(algorithm=hashes.SHA256(), length=size, salt=salt or None, info=b"tidemill " + purpose).derive(
        key
    )
    return made


def _primitives() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise SettingsError("cryptography is not installed.", hint='pip install "tidemill[secrets]"') from None
    return hashes, HKDF


def generated() -> str:
    """The text of a new key."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def read_key_file(path: Path, project: Path) -> str | None:
    """The text of a file of keys; None: there is no such file.

    Raises:
        SettingsError: it lies in the project, or others can read it.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if path.resolve().is_relative_to(project.resolve()):
        raise SettingsError(
            "The file of keys lies in the project, from where it goes wherever the code goes.",
            where=str(path),
            hint="[secrets] key_file names one elsewhere",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SettingsError("Others can read the file of keys.", where=str(path), hint=f"chmod 600 {path}")
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise SettingsError(f"The keys cannot be read: {why}.", where=str(path)) from None


def write_key_file(path: Path, text: str) -> None:
    """Make a file of keys that only its owner can read. Raises FileExistsError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())

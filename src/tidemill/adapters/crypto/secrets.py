"""Port `secrets` on rows that others keep, each value encrypted by AES-256-GCM.

1 | id of the key (8) | nonce (12) | ciphertext and tag        bound to the project and the secret's name
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidemill.adapters.crypto.keys import ID_BYTES, Keys, derived
from tidemill.model.errors import SettingsError
from tidemill.model.secret import LARGEST, Secret, canonical
from tidemill.ports.metadata import Metadata

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE = 12


class StoredSecrets:
    """Secrets in the metadata database.

    Args:
        open_metadata: opens it; None from it: there is no database yet. It is closed after each use.
        project: whose secrets.
        keys: the keys; None from it: there are none.
    """

    kind = "store"

    def __init__(
        self, open_metadata: Callable[[bool], Metadata | None], project: str, keys: Callable[[], Keys | None]
    ) -> None:
        self._open = open_metadata
        self._project = project
        self._keys = keys

    def get(self, name: str) -> Secret | None:
        """One secret."""
        metadata = self._open(False)
        if metadata is None:
            return None
        try:
            with metadata.read() as tx:
                kept = tx.secrets.get(canonical(name))
        finally:
            metadata.close()
        return None if kept is None else Secret(self._opened(name, kept), "store")

    def names(self) -> list[str]:
        """All names."""
        metadata = self._open(False)
        if metadata is None:
            return []
        try:
            with metadata.read() as tx:
                return tx.secrets.names()
        finally:
            metadata.close()

    def put(self, name: str, value: str) -> None:
        """Keep one."""
        if not value or len(value.encode()) > LARGEST:
            raise SettingsError(f'The value of "{name}" is {"empty" if not value else "too long"}.')
        self._write({canonical(name): self._closed(name, value)})

    def remove(self, name: str) -> bool:
        """Forget one."""
        metadata = self._open(False)
        if metadata is None:
            return False
        try:
            with metadata.write() as tx:
                return tx.secrets.remove(canonical(name))
        finally:
            metadata.close()

    def renew(self) -> int:
        """Encrypt all by the newest key."""
        metadata = self._open(False)
        if metadata is None:
            return 0
        try:
            with metadata.read() as tx:
                kept = {name: tx.secrets.get(name) for name in tx.secrets.names()}
        finally:
            metadata.close()
        newest, _ = self._must_have().newest
        old = {name: row for name, row in kept.items() if row is not None and row[1 : 1 + ID_BYTES] != newest}
        self._write({name: self._closed(name, self._opened(name, row)) for name, row in old.items()})
        return len(old)

    def _write(self, rows: dict[str, bytes]) -> None:
        metadata = self._open(True)
        assert metadata is not None, "it was asked to be made"
        try:
            with metadata.write() as tx:
                for name, row in rows.items():
                    tx.secrets.put(name, row)
        finally:
            metadata.close()

    def _must_have(self) -> Keys:
        keys = self._keys()
        if keys is None:
            raise SettingsError(
                "There is no key for the secrets of the store.",
                hint="TIDEMILL_SECRET_KEY, or a file of keys: tidemill connections secrets key",
            )
        return keys

    def _closed(self, name: str, value: str) -> bytes:
        key_id, key = self._must_have().newest
        nonce = os.urandom(_NONCE)
        return _VERSION + key_id + nonce + _aead(key).encrypt(nonce, value.encode(), self._bound(name))

    def _opened(self, name: str, row: bytes) -> str:
        from cryptography.exceptions import InvalidTag

        keys = self._must_have()
        key_id, rest = row[1 : 1 + ID_BYTES], row[1 + ID_BYTES :]
        key = keys.get(key_id) if row[:1] == _VERSION else None
        if key is None:
            raise SettingsError(
                f'The secret "{name}" was encrypted by key {key_id.hex()}, which is not among those of {keys.where}.',
                hint="put that key behind the newer ones, or add the secret again",
            )
        try:
            plain: bytes = _aead(key).decrypt(rest[:_NONCE], rest[_NONCE:], self._bound(name))
        except (InvalidTag, ValueError):
            raise SettingsError(
                f'The secret "{name}" in the store is damaged, or was changed by somebody else.',
                hint="add it again",
            ) from None
        return plain.decode()

    def _bound(self, name: str) -> bytes:
        return f"{self._project}\0{name}".encode()


def _aead(key: bytes) -> AESGCM:
    made = derived(key, b"secrets")  # tells what is missing, where cryptography is
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(made)

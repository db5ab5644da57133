"""Where files are kept: from an address, a folder or `s3://bucket/prefix`, to its adapter; how engines reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from tidemill.model.errors import SettingsError
from tidemill.wiring.object_settings import open_bucket
from tidemill.wiring.settings import FILE, Settings

if TYPE_CHECKING:
    from tidemill.adapters.crypto.keys import Keys
    from tidemill.adapters.polars.scan import Scanner
    from tidemill.flow.archive import Archive
    from tidemill.ports.files import Files


def open_files(settings: Settings, url: str) -> Files:
    """Open a place of files by its address.

    Raises:
        SettingsError: an address that no adapter takes, or keys that are named and not there.
    """
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme == "s3":
        from tidemill.adapters.s3.files import S3Files
        from tidemill.wiring.secrets import connections_of

        bucket = open_bucket(url, settings.objects, connections_of(settings))
        return S3Files(bucket, conditional=settings.objects.conditional_writes)
    if scheme != "file":
        raise SettingsError(
            f'No adapter takes addresses that begin with "{scheme}://".',
            where=str(settings.root / FILE),
            hint="a folder such as .tidemill/lake, or s3://bucket/prefix",
        )
    from tidemill.adapters.localfs.files import LocalFiles

    folder = settings.root / url.removeprefix("file://")
    folder.mkdir(parents=True, exist_ok=True)
    return LocalFiles(folder)


def open_archive(settings: Settings, wrap: Callable[[Files], Files] | None = None) -> Archive:
    """Open the archive, as its files are encrypted.

    Args:
        settings: the project.
        wrap: put around its files (fault injection).

    Raises:
        SettingsError: see `open_files`.
    """
    from tidemill.flow.archive import Archive

    files = open_files(settings, settings.archive_url)
    if not settings.archive_keys:
        return Archive(files if wrap is None else wrap(files))
    from tidemill.adapters.crypto.files import SealedFiles
    from tidemill.wiring.secrets import named_keys

    def keys() -> list[Keys]:
        where = str(settings.root / FILE)
        return [named_keys(settings, name, where) for name in settings.archive_keys]

    sealed = SealedFiles(files, keys, settings.archive_keys[0] if settings.encrypts_archive else None)
    return Archive(sealed if wrap is None else wrap(sealed), sealed)


@dataclass(frozen=True, slots=True)
class Reach:
    """How engines come by data files; nothing is needed for local ones.

    Args:
        open_file: opens one by its address.
        storage_options: how Polars opens them itself.
    """

    open_file: Callable[[str], BinaryIO] | None = None
    storage_options: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, files: Files) -> Reach:
        """To the files of a lake."""
        bucket = getattr(files, "bucket", None)
        if bucket is None:
            return cls()
        return cls(lambda path: files.open(files.relative(path)), bucket.polars_options())

    def scanner(self) -> Scanner:
        """What makes Polars queries of scans."""
        from tidemill.adapters.polars.scan import Scanner

        return Scanner(self.open_file, self.storage_options)

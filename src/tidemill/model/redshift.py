"""How batches land in Amazon Redshift: the files that go to the bucket, and how tables lie on the cluster. Values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tidemill.model.errors import DefinitionError, SettingsError, UnknownName

#: Encodings of columns, by the names of "Compression encodings".
ENCODINGS = (
    "raw", "az64", "bytedict", "delta", "delta32k", "lzo", "mostly8", "mostly16", "mostly32", "runlength", "text255",
    "text32k", "zstd",
)  # fmt: skip
STYLES = ("auto", "even", "all", "key")
_OPTIONS = ("distkey", "diststyle", "sortkey", "encode")


class Form(StrEnum):
    """What files are."""

    #: A JSON object a line, packed with gzip.
    JSON = "json"
    #: A JSON array a line, packed with gzip, and a JSONPaths file that says what is where: no row repeats the names.
    JSON_PATHS = "jsonpaths"
    #: Packed with gzip.
    CSV = "csv"
    AVRO = "avro"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies on the cluster. It counts when the table is made; of one that exists, revisions alter it.

    Args:
        distkey: the column by whose values rows are dealt out to the slices.
        diststyle: `auto`, `even`, `all`; `key` follows from `distkey`.
        sortkey: columns by which rows are ordered.
        encode: column -> encoding; those that are not named are Redshift's choice.
    """

    distkey: str | None = None
    diststyle: str | None = None
    sortkey: tuple[str, ...] = ()
    encode: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        style = (self.diststyle or "").lower()
        if style and style not in STYLES:
            raise UnknownName.of("distribution style", style, STYLES)
        if (self.distkey and style not in ("", "key")) or (style == "key" and not self.distkey):
            raise SettingsError(
                f'diststyle "{style}" and distkey {self.distkey!r} contradict each other.',
                hint='distkey = "customer_id", or diststyle = "even"',
            )
        for encoding in self.encode.values():
            if encoding.lower() not in ENCODINGS:
                raise UnknownName.of("encoding", encoding, ENCODINGS)

    @classmethod
    def of(cls, table: str, options: Mapping[str, Any]) -> Layout:
        """The layout that options of a delivery say.

        Args:
            table: what it is called there.
            options: `distkey`, `diststyle`, `sortkey` (a column, or several), `encode`.

        Raises:
            DefinitionError: an option is none of a table in Redshift. SettingsError, UnknownName: as for a layout.
        """
        for name in options:
            if name not in _OPTIONS:
                raise DefinitionError(
                    f'"{table}" is delivered with {name}=, which a table in Redshift does not have.',
                    hint=", ".join(_OPTIONS),
                )
        given = dict(options)
        if "sortkey" in given:
            given["sortkey"] = (given["sortkey"],) if isinstance(given["sortkey"], str) else tuple(given["sortkey"])
        return cls(**given)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it names."""
        return (*self.sortkey, *self.encode, *((self.distkey,) if self.distkey else ()))


@dataclass(frozen=True, slots=True)
class Copying:
    """What COPY is told beside the files.

    Args:
        role: the ARN of the role by which the cluster reads the bucket; `default`: the cluster's own.
        region: of the bucket, if it is not the cluster's.
        form: of the files.
        slices: files are made in multiples of it; None: the cluster is asked.
        keep: files stay in the bucket.
    """

    role: str = "default"
    region: str | None = None
    form: Form = Form.JSON
    slices: int | None = None
    keep: bool = False

"""How batches land in Amazon Redshift: the files that go to the bucket, and how tables lie on the cluster. Values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tidemill.model.errors import SettingsError, UnknownName

#: Encodings of columns, by the names of "Compression encodings".
ENCODINGS = (
    "raw", "az64", "bytedict", "delta", "delta32k", "lzo", "mostly8", "mostly16", "mostly32", "runlength", "text255",
    "text32k", "zstd",
)  # fmt: skip
STYLES = ("auto", "even", "all", "key")


class Form(StrEnum):
    """What files are."""

    #: A JSON object a line, packed with gzip.
    JSON = "json"
    #: Packed with gzip.
    CSV = "csv"
    AVRO = "avro"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies on the cluster. It counts when the table is made; one that exists stays as it is.

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

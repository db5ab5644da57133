"""A call for each record of a page, some at a time; the answers become one archived part, in the records' order."""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urljoin

import msgspec

from tidemill.adapters.http.asking import Asker, Passing, unpacked
from tidemill.adapters.http.wire import Reply, Request
from tidemill.model.errors import DataError, DecodeError
from tidemill.model.rest import Details, Rest
from tidemill.plan.jsonpath import compile_path, find
from tidemill.ports.source import RawFile

#: Answers beyond so many bytes wait on the disk.
_IN_MEMORY = 16 << 20
FIELD = re.compile(r"\{([^{}]+)\}")


class DetailCalls:
    """The declared calls."""

    def __init__(self, details: Details, asker: Asker, rest: Rest) -> None:
        self._details = details
        self._asker = asker
        self._rest = rest
        base = rest.url.partition("?")[0]
        # A path is one at the service's host; one without a slash goes on from the list's own address.
        self._url = details.url if "://" in details.url else urljoin(base + "/", details.url)
        self._fields = {name: compile_path(f"$.{name}", "details") for name in FIELD.findall(details.url)}

    def of(self, number: int, records: Sequence[Any]) -> Iterator[RawFile]:
        """The part with the answers for a page's records."""
        if not records:
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
            for answer in self._answers(number, records):
                if answer is not None:
                    kept.write(answer)
                    kept.write(b"\n")
            kept.seek(0)
            yield RawFile(f"{self._rest.DETAILS}{number:06d}.jsonl", partial(_lent, cast(BinaryIO, kept)))

    def _answers(self, number: int, records: Sequence[Any]) -> Iterator[bytes | None]:
        """The answers in order, of which a bounded number is held."""
        pool = ThreadPoolExecutor(self._details.parallel, thread_name_prefix="tidemill-details")
        waiting: deque[Future[bytes | None]] = deque()
        try:
            for position, record in enumerate(records, 1):
                name = f"the details of record {position} of page {number}"
                waiting.append(pool.submit(self._answer, self._address(record, name), name))
                if len(waiting) > 2 * self._details.parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _address(self, record: Any, name: str) -> str:
        def value(found: re.Match[str]) -> str:
            given = find(record, self._fields[found[1]])
            if given is None or isinstance(given, bool | dict | list) or given in ("", ".", ".."):
                raise DataError(
                    f'There is no "{found[1]}" for {name}.', where=f"{name} of {self._rest}", hint=f"{record!r:.120}"
                )
            return quote(str(given), safe="")

        return FIELD.sub(value, self._url)

    def _answer(self, url: str, name: str) -> bytes | None:
        headers = {"User-Agent": "tidemill", "Accept": "application/json", "Accept-Encoding": "gzip"}
        request = Request("GET", url, {**headers, **self._rest.headers})
        gone = (lambda: None) if self._details.gone == "skip" else None
        return self._asker.ask(request, name, partial(self._read, name), gone)

    def _read(self, name: str, reply: Reply) -> bytes:
        data = unpacked(reply, self._rest.patience.largest, name)
        try:
            msgspec.json.decode(data, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError) as error:
            where = f"{name} of {self._rest}"
            raise Passing(DecodeError(f"The answer with {name} is no JSON: {error}", where=where)) from None
        return data


@contextmanager
def _lent(kept: BinaryIO) -> Iterator[BinaryIO]:
    """The file for as long as it is read; whoever made it closes it."""
    yield kept

"""A web service for benches: orders in pages that were written beforehand, over kept connections, in one process.

python rest_server.py RECORDS PAGE DELAY     # prints its port; /orders?after=N, /orders/N after DELAY seconds
"""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit


def order(number: int) -> dict[str, object]:
    """One record, some 150 bytes as JSON."""
    return {
        "id": number, "customer": number * 7919 % 50_000, "total": number % 100_000 / 100,
        "name": f"order number {number}", "updated_at": f"2026-01-{1 + number % 28:02}T12:00:00Z",
        "paid": number % 7 == 0, "items": number % 5,
    }  # fmt: skip


def pages(records: int, size: int) -> dict[int, bytes]:
    """Every page by the number of records before it."""
    made = {}
    for at in range(0, records, size):
        more = at + size < records
        made[at] = json.dumps(
            {"data": [order(n) for n in range(at, min(at + size, records))], "next": at + size if more else None}
        ).encode()
    return made


async def main(records: int, size: int, delay: float) -> None:
    """Serve until the process is ended."""
    prepared = pages(records, size)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            parts = urlsplit(head.split(b" ", 2)[1].decode())
            if parts.path == "/orders":
                body = prepared[int(parse_qs(parts.query).get("after", ["0"])[0])]
            else:
                await asyncio.sleep(delay)
                body = json.dumps(order(int(parts.path.rpartition("/")[2]))).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(until_closed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))

"""POST to a running installation: answered once it is on the disk, loaded by the run that it names, each body once."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.installation import Installation
from harness.programs import free_port
from tidemill.model.run import RUN_ENDS, RunState

Install = Callable[..., Installation]

FED = """
    import tidemill as tm
    from tidemill import sources

    shop = tm.Pipeline("shop", schedule="@webhook")
    shop.source(sources.webhook(), name="orders")
    shop.source(sources.webhook(), name="pushes")
"""


class Caller:
    """Somebody who posts, and asks again after every failure but a refusal."""

    def __init__(self, shop: Installation) -> None:
        self._shop = shop
        self._port = free_port()
        with (shop.folder / "tidemill.toml").open("a") as file:
            file.write(f'\n[hooks]\nport = {self._port}\ntoken = "a-long-token"\n[pipelines]\ntimeout = "5m"\n')
            file.write('[hooks.feeds."shop.pushes"]\nsigned = "github"\ntoken = "github-secret"\n')

    def once(self, path: str, body: bytes, token: str = "a-long-token", **headers: str) -> tuple[int, Any]:
        shown = {"Authorization": f"Bearer {token}", **headers}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body, shown, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def until(self, code: int, path: str, body: bytes, **headers: str) -> Any:
        """What is told once it is answered by this code."""

        def answered() -> Any:
            got, told = self.once(path, body, **headers)
            return told if got == code else None

        return self._shop.wait(answered)


def test_what_is_posted_is_loaded_once_across_kill_9(install: Install) -> None:
    shop = install(fed=FED)
    caller = Caller(shop)
    shop.up("--workers", "1")
    caller.until(202, "/feeds/shop/orders", b'{"id": 0}', **{"Idempotency-Key": "0"})
    assert caller.once("/feeds/shop/orders", b'{"id": 0}', "another-token")[0] == 401
    assert caller.once("/feeds/shop/orders", b"{'id': 0}")[0] == 400
    assert caller.once("/feeds/shop/prices", b"{}")[0] == 404
    assert caller.once("/feeds/nobody/orders", b"{}")[0] == 404
    assert caller.once("/feeds/shop/orders", b" " * (17 << 20))[0] in (0, 413)
    number = 0
    for _ in range(3):
        for _ in range(10):
            number += 1
            body = json.dumps({"id": number}).encode()
            told = caller.until(202, "/feeds/shop/orders", body, **{"Idempotency-Key": str(number)})
            # As one would who did not hear the answer.
            again = caller.until(202, "/feeds/shop/orders", body, **{"Idempotency-Key": str(number)})
            assert told["number"] == again["number"]
            assert again["run_id"] is None or again["run_id"] >= told["run_id"]
        assert shop.root is not None
        for pid in [*shop.children(), shop.root.pid]:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(pid, signal.SIGKILL)
        shop.root.wait()
        shop.up("--workers", "1")
    # As GitHub does it: the token is no key to it, and a delivery that comes again counts once.
    pushed = b'{"ref": "refs/heads/main"}'
    mac = hmac.new(b"github-secret", pushed, hashlib.sha256).hexdigest()
    github = {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Delivery": "72d3162e"}
    caller.until(401, "/feeds/shop/pushes", pushed)
    last = [caller.until(202, "/feeds/shop/pushes", pushed, **github) for _ in range(2)]
    assert last[0]["number"] == last[1]["number"]
    shop.wait(lambda: shop.runs("shop").get(last[0]["run_id"]) is RunState.SUCCESS)
    shop.wait(lambda: set(shop.runs("shop").values()) <= RUN_ENDS)
    assert len(shop.runs("shop")) < number  # bodies that come together share a run
    assert shop.stop() == 0
    found = json.loads(shop.command("query", "select id from shop.orders order by id", "--json"))
    assert [row["id"] for row in found["rows"]] == list(range(number + 1))
    found = json.loads(shop.command("query", "select ref from shop.pushes", "--json"))
    assert found["rows"] == [{"ref": "refs/heads/main"}]

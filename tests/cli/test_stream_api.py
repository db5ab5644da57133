"""Streams through the web API: topology, lag, dead letters, and letters that are sent again, once."""

from __future__ import annotations

from harness.commands import CommandLine
from harness.streams import work
from harness.webapi import serving
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings

DOUBLES = """
    import tidemill as tm

    p = tm.Pipeline("d")

    @p.stream(tm.topic("numbers", {"id": "long", "n": "string"}), to=tm.topic("doubles"))
    def doubles(numbers):
        double = lambda row: {"id": row["id"], "n": 2 * int(row["n"])}
        return numbers.map_rows(double, returns={"id": "long", "n": "long"})
"""


def test_letters_are_shown_and_sent_again_once(cli: CommandLine) -> None:
    cli.write("pipelines/d.py", DOUBLES)
    given = '{"id": 1, "n": "1"}\n{"id": 2, "n": "two"}\n{"id": 3\n'
    assert cli("stream", "feed", "numbers", "-", "--raw", given=given).exit_code == 0
    work(cli)
    settings = load_settings(cli.folder)
    parse_once(settings)
    with serving(settings) as api:
        (stream,) = api.get("streams")["streams"]
        assert (stream["stream"], stream["dead_letters"], stream["lag"]) == ("d.doubles", 2, 0)
        shown = api.get("streams/d.doubles")
        assert (shown["reads"], shown["writes"]) == (["numbers"], ["doubles"])
        told = cli("stream", "show", "d.doubles", "--json").object
        assert shown.keys() == told.keys()
        assert [shown[name] for name in ("edges", "lag", "place")] == [told[name] for name in ("edges", "lag", "place")]
        assert [one["lag"] for one in api.get("streams/d.doubles/lag")["lag"]] == [0] * len(shown["lag"])
        page = api.get("streams/d.doubles/letters", limit=1)
        letters = page["letters"] + api.get("streams/d.doubles/letters", limit=1, cursor=page["next"])["letters"]
        by_kind = {one["kind"]: one for one in letters}
        assert by_kind["undecodable"]["value"] == '{"id": 3'
        assert (by_kind["failed"]["topic"], by_kind["failed"]["message_offset"]) == ("numbers", 1)
        offset = by_kind["failed"]["offset"]
        mend = {"offsets": [offset], "edits": {str(offset): '{"id": 2, "n": "2"}'}}
        assert api.post("streams/d.doubles/redrive", mend, dry_run=True)["offsets"] == [offset]
        key = {"Idempotency-Key": "mend"}
        assert api.post("streams/d.doubles/redrive", mend, key) == api.post("streams/d.doubles/redrive", mend, key)
        assert api.ask("POST", "streams/d.doubles/redrive", mend).status == 409
        assert api.ask("POST", "streams/d.doubles/redrive", {}).status == 400
        assert api.ask("GET", "streams/d.nothing").status == 404
        assert api.ask("GET", "streams/doubles").status == 404
    told = cli("stream", "peek", "numbers", "--json").object["messages"]
    assert len(told) == 4, "sent again once"
    work(cli)
    assert len(cli("stream", "dlq", "d.doubles", "--json").object["letters"]) == 2, "it was mended"

"""What tasks keep of assets from one run to the next. It lies where bookmarks do, under the asset's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tidemill.model.asset import holder_of
from tidemill.model.errors import Conflict
from tidemill.ports.metadata import Metadata

_SOURCE = "states"
#: So many others may be quicker; each of them has changed something meanwhile.
_TRIES = 100


class ProjectAssetStates:
    """Port `AssetStates`: one record for each asset, compared and set. A change is there at once, whatever becomes of
    the run.

    Args:
        metadata: asked for when it is first needed.
    """

    def __init__(self, metadata: Callable[[], Metadata]) -> None:
        self._metadata = metadata

    def all(self, asset: str) -> dict[str, str]:
        """All values of an asset."""
        with self._metadata().read() as tx:
            found = tx.bookmarks.get(holder_of(asset), _SOURCE).value
        return dict(found) if isinstance(found, dict) else {}

    def change(self, asset: str, values: Mapping[str, str | None], batch_id: int) -> None:
        """Keep values, and forget those that are None."""
        for left in reversed(range(_TRIES)):
            try:
                self._change(asset, values, batch_id)
            except Conflict:
                if not left:
                    raise
            else:
                return

    def _change(self, asset: str, values: Mapping[str, str | None], batch_id: int) -> None:
        with self._metadata().write() as tx:
            here = tx.bookmarks.get(holder_of(asset), _SOURCE)
            before = here.value if isinstance(here.value, dict) else {}
            after = {key: text for key, text in {**before, **values}.items() if text is not None}
            tx.bookmarks.swap(holder_of(asset), _SOURCE, here.version, after, batch_id)

"""Port `AssetStates` in memory, for `DAG.test`."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryAssetStates:
    """Texts in a dictionary, for as long as the trial runs."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, str]] = {}

    def all(self, asset: str) -> dict[str, str]:
        """All values of an asset."""
        return dict(self._kept.get(asset, {}))

    def change(self, asset: str, values: Mapping[str, str | None], batch_id: int) -> None:
        """Keep values, and forget those that are None."""
        after = {**self._kept.get(asset, {}), **values}
        self._kept[asset] = {key: text for key, text in after.items() if text is not None}

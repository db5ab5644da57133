"""`tidemill.sources.meltano`: the extractors and schedules of a Meltano project as pipelines."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.authoring.place import here
from tidemill.authoring.singer import singer
from tidemill.model.errors import TidemillError
from tidemill.plan.meltano import Extractor, read_project


def meltano(
    file: str = "meltano.yml", *, environment: str | None = None, catalogs: str = "singer", **options: Any
) -> dict[str, Pipeline]:
    """The pipelines of a Meltano project: one for each schedule, and one for each extractor that none runs.

    An extractor's `pip_url`, `executable`, `python`, `config`, `settings`, `select`, `metadata`, `env`, `catalog` and
    `inherit_from` are taken over; loaders are not, since the lake takes their place, and of jobs only extractors are.
    What else the file says and is not taken over is told by a warning with its line; what cannot be understood is an
    error.

    Args:
        file: relative to the file that calls this.
        environment: one of `environments`; left out, `default_environment`.
        catalogs: the folder beside it with what taps have, `<extractor>.json`, for `select` with patterns of streams.
        options: of all these pipelines, as for `Pipeline`: `start`, `zone`, `retries` ...

    Returns:
        The pipelines by name; dashes become underscores.

    Raises:
        DefinitionError: the file cannot be understood.
    """
    path = (Path(here().rpartition(":")[0]).parent / file).resolve()
    document, lines = registry.yaml_of(path)
    project = read_project(document, lines, str(path), environment)
    for text in project.ignored:
        warnings.warn(text, UserWarning, stacklevel=2)
    made: dict[str, Pipeline] = {}
    for one in project.scheduled:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", one.name)
        pipeline = Pipeline(name, one.schedule, **options)
        for extractor in one.extractors:
            try:
                _declare(pipeline, extractor, path.parent, catalogs)
            except TidemillError as error:
                error.where = f"{path}:{extractor.line}"
                raise
        made[name] = pipeline
    return made


def _declare(pipeline: Pipeline, extractor: Extractor, folder: Path, catalogs: str) -> None:
    kept = folder / (extractor.catalog or f"{catalogs}/{extractor.name}.json")
    for each in singer(
        extractor.packages,
        config=extractor.config,
        select=extractor.select,
        metadata=extractor.metadata,
        catalog=str(kept) if extractor.catalog or kept.is_file() else None,
        executable=extractor.executable or (None if extractor.name not in str(extractor.packages) else extractor.name),
        python=extractor.python,
        env=extractor.env,
    ):
        pipeline.source(each)

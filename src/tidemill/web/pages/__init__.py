"""The pages of the web UI."""

from __future__ import annotations

from tidemill.web.pages import branches, data, home, lineage, pipelines, quality, runs, streams, topics
from tidemill.web.pages.site import Page

PAGES: tuple[Page, ...] = (
    Page("/", "home.html", home.home, "Home", ("run", "pipeline", "stream")),
    Page("/pipelines", "pipelines.html", pipelines.pipelines, "Pipelines"),
    Page("/pipelines/{pipeline}", "pipeline.html", pipelines.pipeline, "Pipelines", ("run", "task", "pipeline")),
    Page("/runs", "runs.html", runs.runs, "Runs", ("run", "backfill")),
    Page("/backfills/{backfill_id:int}", "backfill.html", runs.backfill, "Runs", ("run", "backfill")),
    Page("/lineage", "lineage.html", lineage.lineage, "Lineage", ("pipeline",)),
    Page("/data", "data.html", data.data, "Data", ("run", "branch")),
    Page("/data/sql", "sql.html", data.console, "Data", ()),
    Page("/data/{table}", "table.html", data.table, "Data", ("run", "branch")),
    Page("/batches/{batch_id:int}", "batch.html", data.batch, "Data", ("run",)),
    Page("/branches", "branches.html", branches.branches, "Branches", ("branch", "run")),
    Page("/branches/{branch:path}", "branch.html", branches.branch, "Branches", ("branch", "run")),
    Page("/streams", "streams.html", streams.streams, "Streams", ("stream",)),
    Page("/streams/{stream}", "stream.html", streams.stream, "Streams", ("stream",)),
    Page("/topics", "topics.html", topics.topics, "Streams", ("stream",)),
    Page("/topics/{topic}", "topic.html", topics.topic, "Streams", ()),
    Page("/quality", "quality.html", quality.quality, "Quality", ("run",)),
    Page("/quality/{table}", "docs.html", quality.docs, "Quality", ("run",)),
)

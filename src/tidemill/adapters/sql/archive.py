"""Store `archive`: the index of sealed manifests and their parts. The manifest files stay the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, or_, select

from tidemill.adapters.sql.columns import interval_columns, interval_from
from tidemill.adapters.sql.schema import batches, files, manifests
from tidemill.adapters.sql.session import AnyRow, Session, in_parts
from tidemill.model.batch import BatchState, Manifest, Part, contents_from_json, contents_to_json
from tidemill.model.errors import Refused, UnknownName


class SqlArchiveIndex:
    """The port's `ArchiveIndex` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, manifest: Manifest) -> None:
        """Record a sealed manifest; the same again is no error. Raises Refused where it differs from the record."""
        session = self._session
        made = session.add(
            session.insert(manifests)
            .values(
                project=session.project,
                batch_id=manifest.batch_id,
                pipeline=manifest.pipeline,
                source=manifest.source,
                version=manifest.version,
                attempt=manifest.attempt,
                extracted_at=manifest.extracted_at,
                code_version=manifest.code_version,
                bookmark_before=manifest.bookmark_before,
                bookmark_after=manifest.bookmark_after,
                schema=contents_to_json(manifest.contents),
                **interval_columns(manifest.interval),
            )
            .on_conflict_do_nothing()
            .returning(manifests.c.id)
        )
        if made is None:
            self._must_be_same(manifest)
            return
        rows = [{"manifest_id": made.id, "position": i, **_columns(part)} for i, part in enumerate(manifest.parts)]
        session.add_all(session.insert(files), rows)

    def describe(self, manifest: Manifest) -> None:
        """Record what a load has found in the parts; what is known already stays. Raises UnknownName."""
        session, c = self._session, manifests.c
        this = (self._own(), c.batch_id == manifest.batch_id, c.source == manifest.source)
        row = session.first(select(c.id, c.schema).where(*this, c.version == manifest.version), lock=True)
        if row is None:
            raise UnknownName.of(
                "manifest", f"version {manifest.version} of {manifest.source} for batch {manifest.batch_id}", ()
            )
        if row.schema:
            return
        session.change(manifests.update().where(c.id == row.id).values(schema=contents_to_json(manifest.contents)))
        for position, part in enumerate(manifest.parts):
            own = (files.c.manifest_id == row.id, files.c.position == position)
            if part.rows is not None:
                session.change(files.update().where(*own, files.c.rows.is_(None)).values(rows=part.rows))

    def get(self, batch_id: int, source: str, version: int | None = None) -> Manifest | None:
        """The manifest of that version, or the newest."""
        c = manifests.c
        query = select(manifests).where(self._own(), c.batch_id == batch_id, c.source == source)
        if version is not None:
            query = query.where(c.version == version)
        row = self._session.first(query.order_by(c.version.desc()).limit(1))
        return self._with_parts([row])[0] if row else None

    def recent(self, *, batch_id: int | None = None, pipeline: str | None = None) -> list[Manifest]:
        """Manifests, newest batch first; of one batch by source, newest version first."""
        c = manifests.c
        query = select(manifests).where(self._own()).order_by(c.batch_id.desc(), c.source, c.version.desc())
        if batch_id is not None:
            query = query.where(c.batch_id == batch_id)
        if pipeline is not None:
            query = query.where(c.pipeline == pipeline)
        return self._with_parts(self._session.all(query))

    def of(self, batch_ids: Collection[int]) -> list[Manifest]:
        """Manifests of some batches, ordered as `recent`."""
        rows: list[AnyRow] = []
        for some in in_parts(batch_ids):
            rows += self._session.all(select(manifests).where(self._own(), manifests.c.batch_id.in_(some)))
        rows.sort(key=lambda row: (-row.batch_id, row.source, -row.version))
        return self._with_parts(rows)

    def parts_named(self, pipeline: str, source: str, prefix: str, batch_id: int) -> list[tuple[int, str, datetime]]:
        """Batch, name and time of parts by the beginning of their names; see the port."""
        m, f, b = manifests.c, files.c, batches.c
        newer = manifests.alias()
        query = (
            select(m.batch_id, f.name, m.extracted_at)
            .select_from(files)
            .join(manifests, m.id == f.manifest_id)
            .join(batches, b.id == m.batch_id)
            .where(self._own(), m.pipeline == pipeline, m.source == source, f.name.startswith(prefix, autoescape=True))
            .where(or_(b.state == BatchState.PUBLISHED, b.id == batch_id))
            .where(
                ~exists().where(newer.c.batch_id == m.batch_id, newer.c.source == m.source, newer.c.version > m.version)
            )
            .order_by(m.batch_id, f.position)
        )
        return [(row.batch_id, row.name, row.extracted_at) for row in self._session.all(query)]

    def _with_parts(self, rows: Sequence[AnyRow]) -> list[Manifest]:
        if not rows:
            return []
        wanted = {row.id for row in rows}
        c = files.c
        # Many by range, not by list: neither database likes ten thousand bound values.
        few = len(wanted) <= 500
        between = c.manifest_id.in_(wanted) if few else c.manifest_id.between(min(wanted), max(wanted))
        parts: defaultdict[int, list[Part]] = defaultdict(list)
        for row in self._session.all(select(files).where(between).order_by(c.manifest_id, c.position)):
            if row.manifest_id in wanted:
                parts[row.manifest_id].append(_part(row))
        return [_manifest(row, tuple(parts[row.id])) for row in rows]

    def _must_be_same(self, manifest: Manifest) -> None:
        known = self.get(manifest.batch_id, manifest.source, manifest.version)
        if known is None or _seal(known) != _seal(manifest):
            raise Refused(
                f"Version {manifest.version} of {manifest.pipeline}.{manifest.source} for batch {manifest.batch_id} "
                "is archived with other content; the archive is never rewritten.",
                hint="archive it as a new version: --refetch",
            )

    def _own(self) -> Any:
        return manifests.c.project == self._session.project


def _seal(manifest: Manifest) -> list[tuple[str, str, int]]:
    return [(part.path, part.sha256, part.bytes) for part in manifest.parts]


def _columns(part: Part) -> dict[str, Any]:
    return {
        "path": part.path,
        "name": part.name,
        "sha256": part.sha256,
        "bytes": part.bytes,
        "rows": part.rows,
        "format": part.format,
        "compression": part.compression,
        "key": part.key,
    }


def _part(row: AnyRow) -> Part:
    return Part(row.path, row.name, row.sha256, row.bytes, row.rows, row.format, row.compression, row.key)


def _manifest(row: AnyRow, parts: tuple[Part, ...]) -> Manifest:
    return Manifest(
        batch_id=row.batch_id,
        pipeline=row.pipeline,
        source=row.source,
        version=row.version,
        attempt=row.attempt,
        parts=parts,
        extracted_at=row.extracted_at,
        code_version=row.code_version,
        interval=interval_from(row),
        bookmark_before=row.bookmark_before,
        bookmark_after=row.bookmark_after,
        contents=contents_from_json(row.schema),
    )

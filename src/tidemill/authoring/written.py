"""Pipelines that are declared in a document (YAML) instead of Python: the same functions are called, by its names.

pipeline: shop                        arguments of Pipeline beside it: schedule, start, catchup, params ...
sources:
  orders:
    sql: {connection: shop_db, table: orders, cursor: updated_at}
    policy: {email: hash}             and whatever else a source takes; checks: [...]
tables:
  revenue:
    sql: models/revenue.sql           or its text; or from: orders, for the rows of a batch as they are
    key: country
    write: upsert
    checks: [{not_null: country}]
deliver:
  - {tables: [revenue], to: warehouse}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from tidemill.authoring.kinds import CHECKS, MADE, PARTS, SECTIONS, SOURCES, Kind, arguments_of, fits, told
from tidemill.authoring.options import TABLE_OPTIONS
from tidemill.authoring.pipeline import Pipeline
from tidemill.authoring.place import standing_at
from tidemill.model.document import Node, as_written
from tidemill.model.errors import DefinitionError, TidemillError, UnknownName
from tidemill.model.expectation import Expectation
from tidemill.ports.decoder import DecodeOptions

_PIPELINE = Kind("tidemill.authoring.pipeline:Pipeline", "", ("self", "name"))
_TOP = ("pipeline", "sources", "tables")
#: What a source takes beside its kind; how it is written is not among it.
_OF_TABLE = tuple(o for o in TABLE_OPTIONS if o not in ("write", "key", "order", "surrogate_key", "delete_flag"))
SOURCE_OPTIONS = tuple(
    dict.fromkeys([*_OF_TABLE, *(f.name for f in fields(DecodeOptions)), "archive", "compression", "on_failure"])
)
OF_TABLES = (*TABLE_OPTIONS, "materialized")


def pipeline_of(document: Node) -> Pipeline:
    """The pipeline that a document declares.

    Raises:
        DefinitionError, UnknownName: something in it is none; `where` is `file:line:column`.
    """
    top = _fields(document, "A pipeline", 'pipeline: shop, and below it schedule: "@daily"')
    known = arguments_of("pipeline", _PIPELINE)
    _known(document, (*_TOP, *SECTIONS, *known), "setting of a pipeline")
    if "pipeline" not in top:
        raise DefinitionError("The pipeline has no name.", where=document.place, hint="pipeline: shop")
    name = _text(top["pipeline"], "The name of a pipeline")
    given = {key: node for key, node in top.items() if key not in (*_TOP, *SECTIONS)}
    _check_types(given, known)
    pipeline: Pipeline = _made(document, lambda: Pipeline(name, **{key: node.plain() for key, node in given.items()}))
    for source, node in _section(top, "sources"):
        _add_source(pipeline, source, node)
    for table, node in _section(top, "tables"):
        _add_table(pipeline, table, node)
    for name, kind in SECTIONS.items():
        for node in _elements(top, name):
            several, given = _apart(name, kind, _arguments(name, kind, node))
            _made(node, lambda kind=kind, several=several, given=given: kind.function(pipeline, *several, **given))
            _made(node, pipeline.spec)  # names of tables are looked at here, where their place is known
    return pipeline


def _elements(top: Mapping[str, Node], name: str) -> Iterable[Node]:
    if name not in top:
        return ()
    if top[name].items is None:
        raise DefinitionError(f'"{name}" is {top[name].kind}, and must be a list.', where=top[name].place)
    return top[name].items or ()


def _section(top: Mapping[str, Node], name: str) -> Iterator[tuple[str, Node]]:
    if name in top:
        yield from _fields(top[name], f'"{name}"', f"{name}:\n  orders: ...").items()


def _add_source(pipeline: Pipeline, name: str, node: Node) -> None:
    given = _fields(node, f'Source "{name}"', "files: in/*.csv")
    chosen = [key for key in given if key in SOURCES]
    _known(node, (*SOURCES, *SOURCE_OPTIONS, "checks"), "setting of a source")
    if len(chosen) != 1:
        what = f"has {len(chosen)} kinds: {', '.join(chosen)}" if chosen else "does not say where it comes from"
        raise DefinitionError(f'Source "{name}" {what}.', where=node.place, hint="one of: " + ", ".join(SOURCES))
    kind = SOURCES[chosen[0]]
    arguments = _arguments(chosen[0], kind, given[chosen[0]])
    options = {key: value.plain() for key, value in given.items() if key not in (*SOURCES, "checks")}
    at = given[chosen[0]] if given[chosen[0]].value is not None else node
    checks = given.get("checks")
    if chosen[0] == "files":
        pattern = arguments.pop("pattern")
        made = [_made(node, lambda: pipeline.files(pattern, name=name, **arguments, **options))]
    elif kind.many:
        found = _made(at, lambda: kind.function(**arguments))
        made = [_made(node, lambda one=one: pipeline.source(one, **options)) for one in found]
    else:
        connector = _made(at, lambda: kind.function(**arguments))
        made = [_made(node, lambda: pipeline.source(connector, name=name, **options))]
    for handle in made:
        _add_checks(handle, checks)


def _add_table(pipeline: Pipeline, name: str, node: Node) -> None:
    given = _fields(node, f'Table "{name}"', "sql: models/revenue.sql")
    _known(node, ("sql", "from", *OF_TABLES, "checks"), "setting of a table")
    if ("sql" in given) == ("from" in given):
        raise DefinitionError(f'Table "{name}" is made either by sql or from a table.', where=node.place)
    options = {key: value.plain() for key, value in given.items() if key not in ("sql", "from", "checks")}
    if "from" in given:
        upstream = _text(given["from"], "The table that rows come from").replace('"', "")
        model = {"text": f'SELECT * FROM {{{{ batch("{upstream}") }}}}'}  # noqa: S608 - a name, quoted by the template
        options.setdefault("materialized", "incremental")
    else:
        text = _text(given["sql"], "SQL")
        model = {"file": text} if text.strip().endswith(".sql") and "\n" not in text.strip() else {"text": text}
    handle = _made(node, lambda: pipeline.sql(name=name, **model, **options))
    _add_checks(handle, given.get("checks"))


def _add_checks(handle: Any, node: Node | None) -> None:
    if node is None:
        return
    if node.items is None:
        raise DefinitionError(f"checks is {node.kind}.", where=node.place, hint="checks: [{not_null: id}]")
    for one in node.items:
        handle.expect(_check(one))


def _check(node: Node) -> Expectation:
    given = _fields(node, "A check", "- not_null: id")
    _known(node, CHECKS, "check")
    if len(given) != 1:
        raise DefinitionError("A check has one name.", where=node.place, hint="- not_null: id\n    - unique: id")
    ((name, value),) = given.items()
    kind = CHECKS[name]
    columns, arguments = _apart(name, kind, _arguments(name, kind, value))
    found: Expectation = _made(value, lambda: kind.function(*columns, **arguments))
    return found


def _arguments(name: str, kind: Kind, node: Node) -> dict[str, Any]:
    """The arguments of a kind, looked at."""
    known = arguments_of(name, kind)
    given = node.fields
    if given is None:
        if node.value is None:
            given = {}
        elif kind.first:
            given = {kind.first: node}
        else:
            hint = f"{name}: {{{', '.join(f'{n}: ...' for n, a in known.items() if a.needed) or '...'}}}"
            raise DefinitionError(f'"{name}" is {node.kind}.', where=node.place, hint=hint)
    else:
        _known(node, known, f'argument of "{name}"')
    for argument, about in known.items():
        if about.needed and argument not in given:
            raise DefinitionError(f'"{name}" needs "{argument}".', where=node.place, hint=f"{argument}: ...")
    _check_types({a: n for a, n in given.items() if not known[a].spread and a not in MADE}, known)
    for argument, value in given.items():
        if known[argument].spread:
            for one in value.items if value.items is not None else (value,):
                _check_types({argument: one}, known)
    return {argument: _value(argument, value) for argument, value in given.items()}


def _apart(name: str, kind: Kind, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The values of the argument that stands for any number of them, and the others by name."""
    spread = [argument for argument, about in arguments_of(name, kind).items() if about.spread]
    several = [value for one in spread for value in _listed(arguments.get(one, ()))]
    return several, {argument: value for argument, value in arguments.items() if argument not in spread}


def _value(argument: str, node: Node) -> Any:
    """A value of an argument; one that a function makes is made."""
    if argument not in MADE or (argument == "details" and node.fields is None):
        return node.plain()
    names = MADE[argument]
    given = node.fields
    if given is None and isinstance(node.value, str) and node.value in names:
        chosen = str(node.value)
        for needed in (a for a, about in arguments_of(chosen, PARTS[chosen]).items() if about.needed):
            raise DefinitionError(f'"{chosen}" needs "{needed}".', where=node.place, hint=f"{{{chosen}: ...}}")
        return _made(node, lambda: PARTS[chosen].function())
    if argument == "details":
        return _made(node, lambda: PARTS["details"].function(**_arguments("details", PARTS["details"], node)))
    given = _fields(node, f'"{argument}"', f"{argument}: {{{names[0]}: ...}}")
    _known(node, names, f"way of {argument}")
    if len(given) != 1:
        raise DefinitionError(f'"{argument}" is one of several ways.', where=node.place, hint=", ".join(names))
    ((name, value),) = given.items()
    arguments = _arguments(name, PARTS[name], value)
    return _made(value, lambda: PARTS[name].function(**arguments))


def _check_types(given: Mapping[str, Node], known: Mapping[str, Any]) -> None:
    for name, node in given.items():
        if not fits(known[name].hint, node.plain()):
            raise DefinitionError(f'"{name}" is {node.kind}, and must be {told(known[name].hint)}.', where=node.place)


def _known(node: Node, names: Iterable[str], what: str) -> None:
    """Raise UnknownName, with the nearest names, for the first name that is none."""
    names = list(names)
    for name in node.fields or ():
        if name not in names:
            assert node.keys is not None
            raise UnknownName.of(what, name, names, where=node.keys[name].place)


def _fields(node: Node, what: str, hint: str) -> Mapping[str, Node]:
    if node.fields is None:
        raise DefinitionError(f"{what} is {node.kind}, and must be a mapping.", where=node.place, hint=hint)
    return node.fields


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        raise DefinitionError(f"{what} is {node.kind}, and must be a text.", where=node.place)
    return node.value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _made(node: Node, make: Any) -> Any:
    """What `make` gives, as if it stood in the document."""
    try:
        with standing_at(node.line_place):
            return make()
    except TidemillError as error:
        if error.where in (None, "", node.line_place):
            error.where = (_blamed(node, error.what) or node).place
        error.hint = as_written(error.hint)
        raise


def _blamed(node: Node, what: str) -> Node | None:
    """The text in a document that an error quotes, if there is one."""
    for one in (node.fields or {}).values() if node.fields is not None else node.items or ():
        found = _blamed(one, what)
        if found is not None:
            return found
    quoted = isinstance(node.value, str) and (f'"{node.value}"' in what or repr(node.value) in what)
    return node if quoted else None

"""Connections as Airflow writes them, by its rules: an address or JSON becomes parts; and what is otherwise here.

    AIRFLOW_CONN_SHOP="http://me:pw@https%3A%2F%2Fapi.example/?timeout=5"
    AIRFLOW_CONN_SHOP='{"conn_type": "http", "host": "https://api.example", "extra": {"timeout": 5}}'

Parts are `conn_type, host, port, login, password, schema, extra, description`; what is not said is None, or an
empty text where Airflow has one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from tidemill.model.errors import SettingsError

Parts: TypeAlias = dict[str, Any]

#: Everything that a connection of Airflow has beside its name; `extra` is any JSON.
FIELDS = ("conn_type", "host", "port", "login", "password", "schema", "extra", "description")
#: Before the names of connections and of variables in the environment.
CONNECTION, VARIABLE = "AIRFLOW_CONN_", "AIRFLOW_VAR_"
#: In an address, this one of its query is all of `extra` as JSON.
_EXTRA = "__extra__"
_FILES = ("sqlite", "duckdb")
_WEB = ("http", "https")


def parts_of(text: str, name: str) -> Parts:
    """The parts of a connection, of its address or its JSON.

    Raises:
        SettingsError: it is neither; its value is not shown.
    """
    try:
        return _of_json(text) if text.lstrip().startswith("{") else _of_address(text)
    except ValueError:
        raise SettingsError(
            f'The connection "{name}" is neither an address nor the JSON of a connection.',
            hint="kind://login:password@host:port/schema?extra=1, with @ as %40, or "
            '{"conn_type": "postgres", "host": "db"}',
        ) from None


def text_of(parts: Mapping[str, Any]) -> str:
    """The JSON of a connection, by which it is kept: nothing of it is lost."""
    return json.dumps({name: parts[name] for name in FIELDS if parts.get(name) is not None}, sort_keys=True)


def is_text(address: str) -> bool:
    """Whether the address of a connection is such JSON."""
    return address.startswith("{")


def _of_json(text: str) -> Parts:
    given = json.loads(text)
    extra = given.get("extra") or None
    if isinstance(extra, str):
        extra = _extra_of(extra)
    port = int(given["port"]) if given.get("port") else None
    kept = {name: given.get(name) for name in FIELDS}
    return {**kept, "conn_type": _kind(str(given.get("conn_type") or "")), "port": port, "extra": extra}


def _extra_of(text: str) -> Any:
    """`extra` as it is written: what is no JSON stays a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _kind(scheme: str) -> str:
    return "postgres" if scheme == "postgresql" else scheme.replace("-", "_")


def _of_address(address: str) -> Parts:
    if address.count("://") > 2:
        raise ValueError("more than one scheme before the host")
    kind = urlsplit(address).scheme
    # `kind://https://host`: the scheme of the host itself stands before it.
    twice = address.count("://") == 2
    rest = address.replace(f"{kind}://", "" if twice else "//", 1)
    if twice and set("@:") & set(rest.partition("://")[0]):
        raise ValueError("a login before the scheme of the host")
    parts = urlsplit(rest)
    host = _host(parts)
    if twice and host:
        host = f"{parts.scheme}://{host}"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra: Any = _extra_of(query[_EXTRA]) if _EXTRA in query else {k: _extra_of(v) for k, v in query.items()}
    return {
        "conn_type": _kind(kind),
        "host": host,
        "port": parts.port,
        "login": unquote(parts.username) if parts.username is not None else None,
        "password": unquote(parts.password) if parts.password is not None else None,
        "schema": unquote(parts.path[1:]),
        "extra": extra or None,
        "description": None,
    }


def _host(parts: SplitResult) -> str:
    host = unquote(parts.hostname or "")
    if "/" not in host:
        return host
    # An encoded path or address as host keeps its letters as they are.
    return unquote(parts.netloc.rpartition("@")[2].partition(":")[0])


def address_of(parts: Mapping[str, Any]) -> str:
    """The address of a connection, as Airflow's `get_uri` writes it."""
    kind, host = str(parts.get("conn_type") or ""), str(parts.get("host") or "")
    made = f"{kind.lower().replace('_', '-')}://" if kind else "//"
    scheme, sign, bare = host.partition("://")
    if sign and scheme != kind:
        made, host = f"{made}{scheme}://", bare
    login = quote(str(parts["login"]), safe="") if parts.get("login") is not None else ""
    login += ":" + quote(str(parts["password"]), safe="") if parts.get("password") is not None else ""
    made += f"{login}@" if login else ""
    made += quote(host, safe="")
    if parts.get("port"):
        made += f":{parts['port']}" if host or login else f"@:{parts['port']}"
    schema, extra = parts.get("schema"), parts.get("extra")
    made += f"/{quote(str(schema), safe='')}" if schema else ""
    if not extra:
        return made
    plain = isinstance(extra, dict) and all(isinstance(value, str) for value in extra.values())
    query = urlencode(extra if plain else {_EXTRA: extra if isinstance(extra, str) else json.dumps(extra)})
    return f"{made}{'' if schema else '/'}?{query}"


# What is otherwise here -----------------------------------------------------------------------------------------------


def to_ours(parts: Mapping[str, Any]) -> Parts:
    """The parts as our own adapters read them: a web service's scheme is its kind and its path its schema, a file is
    the schema, `extra` is a mapping, and nothing is None but a port.
    """
    made = {name: parts.get(name) or "" for name in FIELDS if name not in ("port", "extra", "description")}
    extra = parts.get("extra")
    made |= {"port": parts.get("port"), "extra": extra if isinstance(extra, dict) else {}}
    host, schema = str(made["host"]), str(made["schema"])
    if made["conn_type"] in _WEB:
        scheme, sign, rest = host.partition("://")
        kind = scheme if sign else (schema if schema in _WEB else made["conn_type"])
        found = urlsplit(f"//{rest if sign else host}")
        path = found.path.strip("/") or ("" if schema in _WEB else schema)
        made |= {"conn_type": kind, "host": found.hostname or "", "port": found.port or made["port"], "schema": path}
    elif made["conn_type"] in _FILES and not schema:
        made |= {"schema": host, "host": ""}
    return made


def to_theirs(ours: Mapping[str, Any]) -> Parts:
    """The parts of one of our own addresses as Airflow's hooks read them; the opposite of `to_ours`."""
    made: Parts = {name: ours.get(name) or None for name in FIELDS}
    kind, port = str(ours["conn_type"]), ours.get("port")
    made["conn_type"] = _kind(kind)
    if kind in _WEB:
        made["conn_type"] = "http"
        if ours["schema"]:
            server = f"{ours['host']}:{port}" if port else ours["host"]
            made |= {"host": f"{kind}://{server}/{ours['schema']}", "port": None, "schema": None}
        else:
            made["schema"] = kind
    elif kind in _FILES:
        made |= {"host": ours["schema"], "schema": None}
    return made

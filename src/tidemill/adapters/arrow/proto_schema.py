"""Protocol Buffers schemas: .proto texts compiled, and what the fields of a message are as columns.

Texts are compiled by the real compiler, in a process of its own (0.2 s, once a text): it ends a process that it does
not like, and says why on its standard error.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError as ProtobufError

from tidemill.model.errors import DefinitionError, SettingsError
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIMESTAMPTZ,
    Decimal,
    List,
    Map,
    Struct,
    Type,
)

_SECONDS = 60
_MAIN = "schema.proto"
#: What the compiler says against a file; it says other things, too.
_COMPLAINT = re.compile(r"\S+\.proto:")

_SCALARS: dict[int, Type] = {
    FieldDescriptor.CPPTYPE_INT32: INT,
    FieldDescriptor.CPPTYPE_UINT32: LONG,
    FieldDescriptor.CPPTYPE_INT64: LONG,
    FieldDescriptor.CPPTYPE_UINT64: Decimal(20, 0),
    FieldDescriptor.CPPTYPE_DOUBLE: DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT: FLOAT,
    FieldDescriptor.CPPTYPE_BOOL: BOOLEAN,
    FieldDescriptor.CPPTYPE_ENUM: STRING,
}
TIMESTAMP_NAME = "google.protobuf.Timestamp"
#: Messages around one value, so that it can be absent.
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
#: Messages of any shape: as JSON text.
LOOSE = frozenset(
    f"google.protobuf.{kind}" for kind in ("Struct", "Value", "ListValue", "Any", "Duration", "FieldMask")
)


def class_of(message: str) -> Any:
    """A generated class by its name, `module:Class`.

    Raises:
        DefinitionError: there is no such class of messages.
    """
    module, _, name = message.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        found.DESCRIPTOR.fields_by_name  # noqa: B018 - whether it is a class of messages
    except (ImportError, AttributeError, TypeError) as error:
        raise DefinitionError(f'"{message}" is no class of Protocol Buffers messages: {error}.') from None
    return found


def compiled(text: str, imports: Mapping[str, str]) -> Any:
    """The file of a schema as a registry keeps it: .proto text, or the file's description in base64.

    Args:
        text: the schema.
        imports: the texts of files that it imports, by the names that it uses.

    Raises:
        DefinitionError: the compiler does not take it; has its reasons.
        SettingsError: the compiler is not installed.
    """
    return _compiled(text, tuple(sorted(imports.items())))


@lru_cache(maxsize=256)
def _compiled(text: str, imports: Sequence[tuple[str, str]]) -> Any:
    pool = descriptor_pool.DescriptorPool()
    described = _described(text)
    files = [described] if described is not None else _compile(text, imports)
    if described is not None:
        for name in described.dependency:
            pool.AddSerializedFile(_own_file(name))
    try:
        for each in files:
            pool.AddSerializedFile(each.SerializeToString())
    except TypeError as error:
        raise DefinitionError(f"The Protocol Buffers schema cannot be used: {error}.") from None
    return pool.FindFileByName(files[-1].name)


def _own_file(name: str) -> bytes:
    """The description of a file of Google's that comes with the package."""
    try:
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ImportError:
        raise DefinitionError(f'The Protocol Buffers schema imports "{name}", which is not here.') from None
    described: bytes = module.DESCRIPTOR.serialized_pb
    return described


def _described(text: str) -> Any:
    """The description that a text is in base64; None where it is none."""
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError, ProtobufError):
        return None


def _compile(text: str, imports: Sequence[tuple[str, str]]) -> list[Any]:
    if importlib.util.find_spec("grpc_tools") is None:
        raise SettingsError(
            "The compiler of Protocol Buffers is not installed.", hint="pip install 'tidemill[protobuf]'"
        )
    with tempfile.TemporaryDirectory(prefix="tidemill-proto-") as folder:
        root = Path(folder)
        for name, content in (*imports, (_MAIN, text)):
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts:
                raise DefinitionError(f'A Protocol Buffers schema imports "{name}", which leads out of its folder.')
            (root / pure).parent.mkdir(parents=True, exist_ok=True)
            (root / pure).write_text(content, "utf-8")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", "--include_imports"]
        try:
            done = subprocess.run(
                [*command, f"--descriptor_set_out={root / 'out'}", _MAIN], capture_output=True, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise DefinitionError(f"The Protocol Buffers compiler took longer than {_SECONDS} seconds.") from None
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").replace(f"{root}/", "").strip().splitlines()
            said = "; ".join([line for line in lines if _COMPLAINT.match(line)] or lines)
            raise DefinitionError(f"The Protocol Buffers schema cannot be compiled: {said}")
        return list(descriptor_pb2.FileDescriptorSet.FromString((root / "out").read_bytes()).file)


def message_in(file: Any, name: str) -> Any:
    """A message of a file, by its full name, or by the last part of it where that is enough.

    Raises:
        DefinitionError: there is none, or several.
    """
    every = list(_messages(file.message_types_by_name.values()))
    found = [each for each in every if each.full_name == name] or [each for each in every if each.name == name]
    if len(found) != 1:
        known = ", ".join(each.full_name for each in every)
        raise DefinitionError(f'The Protocol Buffers schema has no message "{name}".', hint=f"messages: {known}")
    return found[0]


def _messages(some: Any) -> Any:
    for each in some:
        yield each
        yield from _messages(each.nested_types)


def make_class(descriptor: Descriptor) -> Any:
    """The class of a message's description."""
    return message_factory.GetMessageClass(descriptor)


def path_of(descriptor: Descriptor) -> list[int]:
    """Where a message stands in its file: among the messages of each level."""
    within = descriptor.containing_type
    if within is None:
        return [list(descriptor.file.message_types_by_name.values()).index(descriptor)]
    return [*path_of(within), list(within.nested_types).index(descriptor)]


def at_path(file: Any, path: Sequence[int]) -> Any:
    """The message at a place; None where there is none."""
    some = list(file.message_types_by_name.values())
    found = None
    for number in path:
        if not 0 <= number < len(some):
            return None
        found = some[number]
        some = list(found.nested_types)
    return found


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map, which is written as a list of entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fields_of(descriptor: Descriptor, within: tuple[str, ...] = ()) -> list[tuple[str, Type]]:
    """The fields of a message, as columns.

    Raises:
        DefinitionError: a message that contains itself.
    """
    if descriptor.full_name in within:
        raise DefinitionError(
            f'The message "{descriptor.full_name}" contains itself, so no column type can hold it.',
            hint="leave the field out: columns={...}",
        )
    return [(field.name, _type_of(field, (*within, descriptor.full_name))) for field in descriptor.fields]


def type_of_field(field: FieldDescriptor) -> Type:
    """The column of one field."""
    return _type_of(field, (field.containing_type.full_name,))


def _type_of(field: FieldDescriptor, within: tuple[str, ...]) -> Type:
    if is_map(field):
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        return Map(_one(key, within), _one(value, within))
    one = _one(field, within)
    return List(one) if field.is_repeated else one


def _one(field: FieldDescriptor, within: tuple[str, ...]) -> Type:
    if field.message_type is not None:
        name = field.message_type.full_name
        if name == TIMESTAMP_NAME:
            return TIMESTAMPTZ
        if name in WRAPPERS:
            return _one(field.message_type.fields_by_name["value"], within)
        return STRING if name in LOOSE else Struct(tuple(fields_of(field.message_type, within)))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BINARY
    return _SCALARS.get(field.cpp_type, STRING)

"""Codecs of topics: from their description to the adapter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tidemill.model.codec import Avro, CodecSpec, Json, JsonSchema, Part, Protobuf, Raw, Text
from tidemill.wiring.loading import loading

if TYPE_CHECKING:
    from tidemill.ports.codec import Codec
    from tidemill.ports.registry import Registry
    from tidemill.wiring.stream_settings import StreamSettings


def open_codec(spec: CodecSpec, topic: str, part: Part = "value", registry: Registry | None = None) -> Codec:
    """The codec for a topic's values or keys.

    Args:
        spec: how the messages are written.
        topic: the topic's name, of which subjects in the registry are made.
        part: which half of the messages.
        registry: needed where messages name their schemas.

    Raises:
        DefinitionError: a schema that cannot be read.
    """
    with loading():
        match spec:
            case Json():
                from tidemill.adapters.arrow.json_codec import JsonCodec

                return JsonCodec(spec)
            case Text() | Raw():
                from tidemill.adapters.arrow.plain_codec import PlainCodec

                return PlainCodec(spec)
            case Avro():
                from tidemill.adapters.arrow.avro_codec import AvroCodec
                from tidemill.adapters.arrow.registered import Place

                return AvroCodec(spec, Place(registry, topic, part))
            case Protobuf():
                from tidemill.adapters.arrow.protobuf_codec import ProtobufCodec
                from tidemill.adapters.arrow.registered import Place

                return ProtobufCodec(spec, Place(registry, topic, part))
            case JsonSchema():
                from tidemill.adapters.arrow.json_schema_codec import JsonSchemaCodec
                from tidemill.adapters.arrow.registered import Place

                return JsonSchemaCodec(spec, Place(registry, topic, part))


def open_registry(
    urls: str,
    user: str = "",
    password: str = "",
    token: str = "",
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> Registry:
    """The schema registry at these addresses, separated by commas; the rest is as for `RegistrySettings`.

    Raises:
        SettingsError: an address that is none, a file that cannot be read.
    """
    from tidemill.adapters.registry.client import HttpRegistry, RegistrySettings

    addresses = [url for url in urls.split(",") if url.strip()]
    return HttpRegistry(RegistrySettings(addresses, user, password, token, ca, certificate, key))


def registry_of(settings: StreamSettings) -> Registry | None:
    """The schema registry, if the settings name one."""
    if not settings.registry:
        return None
    return open_registry(
        settings.registry, settings.registry_user, settings.registry_password, settings.registry_token,
        settings.registry_ca or None, settings.registry_certificate or None, settings.registry_key or None,
    )  # fmt: skip


def codec_opener(settings: StreamSettings) -> Callable[[CodecSpec, str, Part], Codec]:
    """What makes codecs of a project; the registry is opened for the first that may need it."""
    registry = cache(registry_of)

    def open_(spec: CodecSpec, topic: str, part: Part) -> Codec:
        return open_codec(spec, topic, part, registry(settings) if isinstance(spec, REGISTERED) else None)

    return open_


#: Formats with schemas of their own.
REGISTERED = (Avro, Protobuf, JsonSchema)

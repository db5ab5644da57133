"""Whether brokers let this process in: asked once, before anything else.

librdkafka tries a login that was refused again and again, and answers every call with a timeout: without this a wrong
password is half a minute of silence and then "no answer".
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException

from tidemill.adapters.kafka.errors import told
from tidemill.adapters.kafka.settings import KafkaSettings

#: Seconds between two looks at what the client has heard.
_LOOK = 0.2
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)


def see_login(settings: KafkaSettings) -> None:
    """Log in, where the settings have a login or certificates. Brokers that do not answer are somebody else's affair.

    Raises:
        SettingsError: they let nobody in with these settings, or are not who they should be.
    """
    if str(settings.options.get("security.protocol", "plaintext")).lower() == "plaintext":
        return
    heard: list[KafkaError] = []
    client = settings.producer({}, {}, heard.append)
    until = time.monotonic() + settings.seconds
    while time.monotonic() < until:
        try:
            client.list_topics(timeout=_LOOK)
        except KafkaException:
            client.poll(0)
        else:
            return
        for error in heard:
            if error.code() in _REFUSED:
                raise told(error, "There is no way in", settings.servers)

"""Which certificates are trusted: the system's, and those of an authority of one's own that a connection names.

A connection's `?ca_file=/whole/path.pem` is that file; all the rest of its query are headers.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping

from tidemill.model.errors import SettingsError

#: What the query of a connection's address calls the file.
CA_FILE = "ca_file"
#: OpenSSL's numbers for a certificate that is good, and another host's.
_OTHER_NAME = (62, 64)


def headers_of(extra: Mapping[str, str]) -> dict[str, str]:
    """The headers that a connection gives to each request."""
    return {name: value for name, value in extra.items() if name != CA_FILE}


def ca_file_of(extra: Mapping[str, str]) -> str | None:
    """The file of certificates that a connection names."""
    return extra.get(CA_FILE) or None


def trusting(files: Iterable[str]) -> ssl.SSLContext:
    """Trust in what the system trusts, and in the certificates of some files.

    Raises:
        SettingsError: a file is not there, or holds no certificates.
    """
    context = ssl.create_default_context()
    for file in files:
        try:
            context.load_verify_locations(file)
        except OSError as error:  # ssl.SSLError is one
            why = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate"
            raise SettingsError(
                f'The certificates in "{file}" cannot be read: {why}.',
                hint=f"{CA_FILE}= of the connection is the whole path of a file in PEM format",
            ) from None
    return context


def untrusted(host: str, error: BaseException) -> SettingsError | None:
    """The error for a server that does not show who it is; None: it is another one."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    hint = f"if an authority of your own has signed it: connection=..., with ?{CA_FILE}=/path/of/its.pem in the address"
    if error.verify_code in _OTHER_NAME:
        hint = "the address has to be the name that the certificate is for"
    return SettingsError(f"The certificate of {host} is not trusted: {error.verify_message.rstrip('.')}.", hint=hint)

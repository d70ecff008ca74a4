"""Text that is safe to show: addresses without their secrets, control characters as one can read them."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")
_USER = re.compile(r"[^/?#@]*@|[^/?#@:]+:[^?#@]*@")
"""What stands before the host: `name@`, `name:password@`; a password may have a slash that nobody encoded."""
_OPTION = re.compile(r"[?&]([^=&]*)=([^&]*)")
_USER_IN_OPTION = re.compile(r"[^/@]*(?:@|%40)")
_KNOWN = {
    *("region", "scheme", "endpoint_override", "connect_timeout", "request_timeout", "allow_bucket_creation"),
    *("allow_bucket_deletion", "retry_limit_seconds", "project_id", "tls_ca_file_path", "check_directory_existence"),
}
"""Options of an address that say where, not who."""
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0\ufdd1]")
"""Control characters but line feed and tab, marks that reorder text, and halves of surrogate pairs."""


def without_secrets(text: str) -> str:
    """`text` without the credentials in its addresses: names and passwords, and options that are not known harmless.

    >>> without_secrets("s3://key:secret@bucket/runs?region=eu&token=abc cannot be reached")
    's3://bucket/runs?region=eu cannot be reached'
    """
    return _ADDRESS.sub(_public, text) if "://" in text else text


def _public(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    place, mark, options = rest.partition("?")
    place = _USER.sub("", place, count=1) if _USER.match(place) else place
    kept = [
        f"{key}={_USER_IN_OPTION.sub('', value.replace('%2F', '/'))}"
        for key, value in _OPTION.findall(mark + options)
        if key in _KNOWN
    ]
    return f"{scheme}{place}{'?' if kept else ''}{'&'.join(kept)}"


def shown(text: str) -> str:
    """`text` for a terminal or a log: without secrets, and with what could steer the terminal escaped.

    >>> shown("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], without_secrets(text))


def shown_json(text: str) -> str:
    """The same for a JSON document."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", without_secrets(text))

"""Redaction of passwords and tokens in addresses. Libraries quote the addresses that they receive in their errors."""

import re

_NEXT_URL = r"(?=(?:[\"',;=|<>(){}[\]]|::)[\w+.-]+://)"
# host, port and path of an address without a user, followed by another address
_WITHOUT_USER = rf"[^\s:@/]*?(?:/[^\s:]*?|:\d+(?:[^\w\s:@][^\s:@]*?)?)?{_NEXT_URL}"
_ADDRESS = re.compile(rf"(\w://)(?:{_WITHOUT_USER}|(\S+))")
_SENSITIVE_NAMES = r"[\w.-]*(?:token|secret|password|passwd|signature|credential|access_?key|api_?key)[\w.-]*|sig"
_SECRET_PARAMETER = re.compile(rf"(?i)([?&;](?:{_SENSITIVE_NAMES})=)[^\s&;\"'<>]*")
_NETLOC = re.compile(r"://([^/?#]*)(.*)", re.DOTALL)


def redacted(text: str) -> str:
    """Return the text with `***` in place of users and passwords in URLs, and of tokens and signatures in queries.

    A password may contain any character except a space. All text before a later `@` may therefore be part of the password.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _ADDRESS.sub(_redact_user, text))


def _redact_user(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2] or ""
    before, _, after = rest.rpartition("@")
    if ":" in before:
        return f"{scheme}***@{after}"
    host, slash, path = rest.partition("/")
    return f"{scheme}***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else match[0]


def holds_secret(uri: str) -> bool:
    """Return whether a URI contains a password, or a token or signature in its query."""
    return any(_has_password(part) or _SECRET_PARAMETER.search(part) for part in uri.split("::"))


def _has_password(uri: str) -> bool:
    """Return whether a URL contains a password.

    A secret key may contain a slash, which ends the host. Text after a colon that is not a port is therefore a
    password.
    """
    if not (match := _NETLOC.search(uri)):
        return False
    host, rest = match.groups()
    user, at, _ = host.rpartition("@")
    if at:
        return ":" in user or uri.startswith(("http://", "https://"))
    name, colon, port = host.rpartition(":")
    return bool(colon) and "]" not in port and (not port.isdecimal() or ("@" in rest and not name.startswith("[")))

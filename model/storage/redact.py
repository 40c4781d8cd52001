"""Addresses without what opens them: for errors of libraries, which quote the addresses that they were given."""

import re

_NEXT = r"(?=(?:[\"',;=|<>(){}[\]]|::)[\w+.-]+://)"
_PLAIN = rf"[^\s:@/]*?(?:/[^\s:]*?|:\d+(?:[^\w\s:@][^\s:@]*?)?)?{_NEXT}"  # host, port and path, and another address
_ADDRESS = re.compile(rf"(\w://)(?:{_PLAIN}|(\S+))")
_NAMES = r"[\w.-]*(?:token|secret|password|passwd|signature|credential|access_?key|api_?key)[\w.-]*|sig"
_QUERY = re.compile(rf"(?i)([?&;](?:{_NAMES})=)[^\s&;\"'<>]*")
_NETLOC = re.compile(r"://([^/?#]*)(.*)", re.DOTALL)


def redacted(text: str) -> str:
    """The text with `***` for user and password of every URL in it, and for tokens and signatures of its query.

    A password may have any characters but spaces: what is before a later `@` may all be part of it.
    """
    return _QUERY.sub(r"\1***", _ADDRESS.sub(_without_user, text))


def _without_user(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2] or ""
    before, _, after = rest.rpartition("@")
    if ":" in before:
        return f"{scheme}***@{after}"
    host, slash, path = rest.partition("/")
    return f"{scheme}***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else match[0]


def holds_secret(uri: str) -> bool:
    """Whether a URI has a password, or a token or signature in its query."""
    return any(_has_password(part) or _QUERY.search(part) for part in uri.split("::"))


def _has_password(uri: str) -> bool:
    """A secret key may have a slash, which ends a host: what is no port before it must be one."""
    if not (found := _NETLOC.search(uri)):
        return False
    host, rest = found.groups()
    user, at, _ = host.rpartition("@")
    if at:
        return ":" in user or uri.startswith(("http://", "https://"))
    name, colon, port = host.rpartition(":")
    return bool(colon) and "]" not in port and (not port.isdecimal() or ("@" in rest and not name.startswith("[")))

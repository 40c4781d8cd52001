"""What becomes of good bytes and good trees, by a random number generator of the case's own."""

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.thrift import BINARY, I16, I32, I64, LIST, Listing, Struct

EXTREMES = (0, 1, -1, 127, 128, 255, 2**15, 2**16, 10**6, 10**9, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62)
EXTREMES += (2**63 - 1, -(2**63), 2**64 - 1)
WORDS = ("", " ", "\0", "text", "\ud7ff\U0010ffff", "a" * 5000, "../../etc/passwd", "__reduce__", "nan", "[MASK]", "{")
ODD = (None, True, 0, -1, 0.5, float("inf"), float("nan"), 10**400, "", "x", [], {}, [[]], {"a": 1}, [None])


def bytes_of(draw: Random, data: bytes, others: list[bytes]) -> bytes:
    """One to eight changes of bytes: flips, cuts, copies, other files' parts, and numbers set to extremes."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        draw.choice(_CHANGES)(draw, out, others)
    return bytes(out)


def _at(draw: Random, out: bytearray) -> int:
    """Headers lie at the ends: places there are as likely as all others."""
    size, near = len(out), draw.random()
    if near < 0.3:
        return draw.randrange(min(size, 64) + 1)
    return size - draw.randrange(min(size, 600) + 1) if near < 0.5 else draw.randrange(size + 1)


def _flip(draw: Random, out: bytearray, _: list[bytes]) -> None:
    if at := min(_at(draw, out), len(out) - 1) + 1:
        out[at - 1] ^= 1 << draw.randrange(8)


def _set(draw: Random, out: bytearray, _: list[bytes]) -> None:
    if at := min(_at(draw, out), len(out) - 1) + 1:
        out[at - 1] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _number(draw: Random, out: bytearray, _: list[bytes]) -> None:
    form = draw.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
    at, size = _at(draw, out), struct.calcsize(form)
    out[at : at + size] = struct.pack(form, draw.choice(EXTREMES) & (256**size - 1))


def _cut(draw: Random, out: bytearray, _: list[bytes]) -> None:
    at = _at(draw, out)
    del out[at : at + draw.choice((1, 2, 8, 64, len(out)))]


def _copy(draw: Random, out: bytearray, _: list[bytes]) -> None:
    a, b = sorted((_at(draw, out), _at(draw, out)))
    at = _at(draw, out)
    out[at:at] = out[a : min(b, a + 4096)]


def _splice(draw: Random, out: bytearray, others: list[bytes]) -> None:
    other = draw.choice(others)
    at = _at(draw, out)
    start = draw.randrange(len(other) + 1)
    out[at : at + draw.choice((0, 16, 256))] = other[start : start + draw.choice((4, 16, 256, 4096))]


_CHANGES: tuple[Callable[[Random, bytearray, list[bytes]], None], ...] = (_flip, _set, _number, _cut, _copy, _splice)


def tree_of(draw: Random, tree: Any) -> Any:
    """A JSON-like tree with one to four values changed, dropped, renamed, doubled or moved; the tree itself is kept."""
    tree = _copied(tree)
    for _ in range(draw.choice((1, 1, 2, 4))):
        holders = list(_holders(tree))
        if not holders:
            return _copied(draw.choice(ODD))
        holder = draw.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw.choice(keys)
        match draw.randrange(7):
            case 0:
                del holder[key]
            case 1:
                holder[key] = draw.choice(EXTREMES)
            case 2:
                holder[key] = draw.choice(WORDS)
            case 3:
                holder[key] = _copied(draw.choice(draw.choice([holders, [ODD]])))
            case 4 if isinstance(holder, dict):
                holder[draw.choice(WORDS)] = holder.pop(key)
            case 5:
                for _ in range(draw.choice((3, 200))):  # deep
                    holder[key] = draw.choice(([holder[key]], {"a": holder[key]}))
            case _:
                holder[key] = _copied(draw.choice(ODD))
    return tree


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else tree


def _holders(tree: Any) -> Any:
    """Every dict and list of the tree that is not empty."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict | list) and node:
            yield node
            pending += list(node.values() if isinstance(node, dict) else node)


def thrift_of(draw: Random, root: Struct) -> None:
    """Changes one to four fields of a decoded Thrift struct in place."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        structs = list(_structs(root))
        fields = [one for each in structs for one in each.fields]
        one = draw.choice(fields)
        kind, value = one[1], one[2]
        roll = draw.random()
        if roll < 0.1:
            draw.choice([each for each in structs if each.fields]).fields.pop()
        elif kind in {I16, I32, I64}:
            one[2] = draw.choice((*EXTREMES, value + 1, value - 1, -value, value * 2, draw.randrange(40)))
        elif kind == BINARY:
            one[2] = draw.choice((b"", b"\xff\xfe", b"a.b", b"text", value[:1], value * 2, value[::-1], bytes(300)))
        elif isinstance(value, Listing):
            _listing(draw, value)
        else:
            one[0] = draw.randrange(1, 20)


def _listing(draw: Random, listing: Listing) -> None:
    match draw.randrange(4):
        case 0:
            listing.claims = draw.choice((0, 1, 14, 15, 10**6, 2**31 - 1, 2**32 - 1))
        case 1 if listing.items:
            listing.items.pop(draw.randrange(len(listing.items)))
        case 2 if listing.items:
            listing.items += [draw.choice(listing.items)] * draw.choice((1, 3, 100))
        case _:
            draw.shuffle(listing.items)
            if listing.kind in {I16, I32, I64} and listing.items:
                listing.items[0] = draw.choice(EXTREMES)


def _structs(value: Any) -> Any:
    if isinstance(value, Struct):
        yield value
        for _, _, inner in value.fields:
            yield from _structs(inner)
    elif isinstance(value, Listing):
        for item in value.items:
            yield from _structs(item)


__all__ = ["LIST", "bytes_of", "thrift_of", "tree_of"]

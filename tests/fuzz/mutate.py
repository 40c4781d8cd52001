"""Mutations of valid bytes, JSON-like trees and Thrift structs. Each case has its own random number generator."""

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.thrift import BINARY, I16, I32, I64, LIST, Listing, Struct

EXTREMES = (0, 1, -1, 127, 128, 255, 2**15, 2**16, 10**6, 10**9, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62)
EXTREMES += (2**63 - 1, -(2**63), 2**64 - 1)
WORDS = ("", " ", "\0", "text", "\ud7ff\U0010ffff", "a" * 5000, "../../etc/passwd", "__reduce__", "nan", "[MASK]", "{")
ODD = (None, True, 0, -1, 0.5, float("inf"), float("nan"), 10**400, "", "x", [], {}, [[]], {"a": 1}, [None])


def mutate_bytes(draw: Random, data: bytes, others: list[bytes]) -> bytes:
    """Return the bytes after one to eight changes.

    The changes are flips, cuts, copies, parts of other files, and numbers set to extreme values.
    """
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        draw.choice(_CHANGES)(draw, out, others)
    return bytes(out)


def _position(draw: Random, out: bytearray) -> int:
    """Draw a position. Half of the positions are near the ends of the file, where the headers are."""
    size, roll = len(out), draw.random()
    if roll < 0.3:
        return draw.randrange(min(size, 64) + 1)
    return size - draw.randrange(min(size, 600) + 1) if roll < 0.5 else draw.randrange(size + 1)


def _flip(draw: Random, out: bytearray, _: list[bytes]) -> None:
    if at := min(_position(draw, out), len(out) - 1) + 1:
        out[at - 1] ^= 1 << draw.randrange(8)


def _set(draw: Random, out: bytearray, _: list[bytes]) -> None:
    if at := min(_position(draw, out), len(out) - 1) + 1:
        out[at - 1] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _number(draw: Random, out: bytearray, _: list[bytes]) -> None:
    form = draw.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
    at, size = _position(draw, out), struct.calcsize(form)
    out[at : at + size] = struct.pack(form, draw.choice(EXTREMES) & (256**size - 1))


def _cut(draw: Random, out: bytearray, _: list[bytes]) -> None:
    at = _position(draw, out)
    del out[at : at + draw.choice((1, 2, 8, 64, len(out)))]


def _copy(draw: Random, out: bytearray, _: list[bytes]) -> None:
    a, b = sorted((_position(draw, out), _position(draw, out)))
    at = _position(draw, out)
    out[at:at] = out[a : min(b, a + 4096)]


def _splice(draw: Random, out: bytearray, others: list[bytes]) -> None:
    other = draw.choice(others)
    at = _position(draw, out)
    start = draw.randrange(len(other) + 1)
    out[at : at + draw.choice((0, 16, 256))] = other[start : start + draw.choice((4, 16, 256, 4096))]


_CHANGES: tuple[Callable[[Random, bytearray, list[bytes]], None], ...] = (_flip, _set, _number, _cut, _copy, _splice)


def mutate_tree(draw: Random, tree: Any) -> Any:
    """Return a copy of a JSON-like tree in which one to four values are changed, dropped, renamed, nested or copied."""
    tree = _copy_tree(tree)
    for _ in range(draw.choice((1, 1, 2, 4))):
        containers = list(_containers(tree))
        if not containers:
            return _copy_tree(draw.choice(ODD))
        container = draw.choice(containers)
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        key = draw.choice(keys)
        match draw.randrange(7):
            case 0:
                del container[key]
            case 1:
                container[key] = draw.choice(EXTREMES)
            case 2:
                container[key] = draw.choice(WORDS)
            case 3:
                container[key] = _copy_tree(draw.choice(draw.choice([containers, [ODD]])))
            case 4 if isinstance(container, dict):
                container[draw.choice(WORDS)] = container.pop(key)
            case 5:
                for _ in range(draw.choice((3, 200))):  # 200: too deep for a recursive reader
                    container[key] = draw.choice(([container[key]], {"a": container[key]}))
            case _:
                container[key] = _copy_tree(draw.choice(ODD))
    return tree


def _copy_tree(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy_tree(value) for key, value in tree.items()}
    return [_copy_tree(value) for value in tree] if isinstance(tree, list) else tree


def _containers(tree: Any) -> Any:
    """Yield every dict and list of the tree that is not empty."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict | list) and node:
            yield node
            pending += list(node.values() if isinstance(node, dict) else node)


def mutate_thrift(draw: Random, root: Struct) -> None:
    """Change one to four fields of a decoded Thrift struct in place."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        structs = list(_structs(root))
        fields = [field for struct_ in structs for field in struct_.fields]
        field = draw.choice(fields)
        kind, value = field[1], field[2]
        roll = draw.random()
        if roll < 0.1:
            draw.choice([struct_ for struct_ in structs if struct_.fields]).fields.pop()
        elif kind in {I16, I32, I64}:
            field[2] = draw.choice((*EXTREMES, value + 1, value - 1, -value, value * 2, draw.randrange(40)))
        elif kind == BINARY:
            field[2] = draw.choice((b"", b"\xff\xfe", b"a.b", b"text", value[:1], value * 2, value[::-1], bytes(300)))
        elif isinstance(value, Listing):
            _mutate_listing(draw, value)
        else:
            field[0] = draw.randrange(1, 20)


def _mutate_listing(draw: Random, listing: Listing) -> None:
    match draw.randrange(4):
        case 0:
            listing.stated_count = draw.choice((0, 1, 14, 15, 10**6, 2**31 - 1, 2**32 - 1))
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


__all__ = ["LIST", "mutate_bytes", "mutate_thrift", "mutate_tree"]

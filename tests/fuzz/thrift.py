"""The part of Thrift's compact protocol that the metadata of Parquet needs: a decoder to trees, and an encoder.

A struct is a Struct of [field id, type, value]. A list is a Listing with the type and the values of its elements.
"""

from dataclasses import dataclass, field
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


@dataclass
class Struct:
    """A struct with its fields in order."""

    fields: list[list[Any]] = field(default_factory=list)

    def get(self, number: int) -> Any:
        return next((value for field_id, _, value in self.fields if field_id == number), None)


@dataclass
class Listing:
    """A list of elements of one type. stated_count: a false number of elements to encode, or None."""

    kind: int
    items: list[Any]
    stated_count: int | None = None


class Reader:
    """A decoder of bytes. at: the position of the next byte."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def raw(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def value(self, kind: int) -> Any:
        if kind in {I16, I32, I64}:
            return self.signed()
        if kind in {TRUE, FALSE}:
            return kind == TRUE
        if kind == BINARY:
            return self.raw(self.varint())
        if kind in {BYTE, DOUBLE}:
            return self.raw(1 if kind == BYTE else 8)
        if kind in {LIST, SET}:
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            inner = head & 15
            boolean = inner in {TRUE, FALSE}
            return Listing(inner, [self.byte() if boolean else self.value(inner) for _ in range(count)])
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"expected a type of Parquet's metadata, got type {kind}")

    def struct(self) -> Struct:
        decoded, last = Struct(), 0
        while head := self.byte():
            last = last + (head >> 4) if head >> 4 else self.signed()
            decoded.fields.append([last, head & 15, self.value(head & 15)])
        return decoded


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def signed(value: int) -> bytes:
    return varint((value << 1 if value >= 0 else (-value << 1) - 1) & (2**64 - 1))


def encode(kind: int, value: Any) -> bytes:
    if kind in {I16, I32, I64}:
        return signed(value)
    if kind in {TRUE, FALSE}:
        return b""
    if kind == BINARY:
        return varint(len(value)) + value
    if kind in {BYTE, DOUBLE}:
        return value
    if kind in {LIST, SET}:
        count = len(value.items) if value.stated_count is None else value.stated_count
        head = bytes([count << 4 | value.kind]) if 0 <= count < 15 else bytes([0xF0 | value.kind]) + varint(count)
        boolean = value.kind in {TRUE, FALSE}
        return head + b"".join(bytes([item]) if boolean else encode(value.kind, item) for item in value.items)
    return struct(value)


def struct(value: Struct) -> bytes:
    data, last = b"", 0
    for number, kind, inner in value.fields:
        step = number - last
        data += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + signed(number)
        data += encode(kind, inner)
        last = number
    return data + b"\0"


def footer(file: bytes) -> Struct:
    """Decode the FileMetaData of a Parquet file."""
    return Reader(file[-8 - int.from_bytes(file[-8:-4], "little") : -8]).struct()


def with_footer(file: bytes, metadata: Struct) -> bytes:
    """Return the file with another footer."""
    data = struct(metadata)
    body = file[: -8 - int.from_bytes(file[-8:-4], "little")]
    return body + data + len(data).to_bytes(4, "little") + b"PAR1"

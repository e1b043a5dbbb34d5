"""Framed records in append-only files: the bytes under the fact log.

A record is a head of 20 bytes, (magic, payload length, CRC-32 of the payload, CRC-32 of the 16 bytes before), and its
payload. The head's own checksum tells a garbled length from a record that a crash cut short.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC = b"FACT"
HEAD = struct.Struct("<4sQI")
CHECK = struct.Struct("<I")
HEAD_BYTES = HEAD.size + CHECK.size


class Frame(NamedTuple):
    """Where one record lies in a file."""

    offset: int
    """Bytes before its head."""
    payload: bytes
    """What it holds."""

    @property
    def end(self) -> int:
        """Bytes up to the end of its payload."""
        return self.offset + HEAD_BYTES + len(self.payload)


class FrameError(ValueError):
    """A record that is not whole.

    Attributes:
      offset: where it begins in the file.
      torn: True where no intact head follows it, as after a crash in mid-write.
    """

    def __init__(self, reason: str, offset: int, *, torn: bool):
        super().__init__(reason)
        self.offset = offset
        self.torn = torn


def frame(payload: bytes) -> bytes:
    """Returns the bytes of one record."""
    head = HEAD.pack(MAGIC, len(payload), zlib.crc32(payload))
    return head + CHECK.pack(zlib.crc32(head)) + payload


def read_frame(content: bytes, offset: int) -> Frame:
    """Returns the record at `offset`.

    Raises:
      FrameError: there is no whole record.
    """

    def bad(reason: str) -> FrameError:
        return FrameError(reason, offset, torn=not _head_follows(content, offset + 1))

    if offset + HEAD_BYTES > len(content):
        raise bad("its head is cut short")
    if not _is_head(content, offset):
        raise bad("its head is garbled")
    _, length, checksum = HEAD.unpack_from(content, offset)
    payload = content[offset + HEAD_BYTES : offset + HEAD_BYTES + length]
    if len(payload) < length:
        raise bad(f"{len(payload)} of {length} bytes are there")
    if zlib.crc32(payload) != checksum:
        raise bad("its checksum is wrong")
    return Frame(offset, payload)


def read_frames(content: bytes) -> Iterator[Frame]:
    """Yields the records of a file from its first byte to its last.

    Raises:
      FrameError: at the first record that is not whole.
    """
    offset = 0
    while offset < len(content):
        found = read_frame(content, offset)
        yield found
        offset = found.end


def append_durably(path: Path, data: bytes, offset: int) -> None:
    """Writes `data` at `offset` of an existing file, in place of anything that a crash left there, and waits for it."""
    with path.open("r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _is_head(content: bytes, offset: int) -> bool:
    head = content[offset : offset + HEAD.size]
    check = content[offset + HEAD.size : offset + HEAD_BYTES]
    return head.startswith(MAGIC) and check == CHECK.pack(zlib.crc32(head))


def _head_follows(content: bytes, offset: int) -> bool:
    found = content.find(MAGIC, offset)
    while found >= 0:
        if _is_head(content, found):
            return True
        found = content.find(MAGIC, found + 1)
    return False

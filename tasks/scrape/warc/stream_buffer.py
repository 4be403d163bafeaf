"""Stream buffer: a stretch of a stream of bytes, read as far as needed and let go of behind; search within bounded memory."""

import re
from typing import Protocol

from tasks.formats.compressed import DamagedFile

CHUNK_BYTES = 1 << 16
LINE_ENDS = re.compile(rb"[\r\n]++")


class ByteStream(Protocol):
    """A stream: `read` gives the next bytes, b"" at the end, and raises DamagedFile where the rest cannot be had."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        ...


class StreamBuffer:
    """The stretch of a stream that is held: `data`, whose first byte is the stream's byte `base`."""

    def __init__(self, stream: ByteStream) -> None:
        self.data, self.base = bytearray(), 0
        self.ended = False
        self.damage: DamagedFile | None = None
        self._stream = stream

    def fill(self, size: int) -> bool:
        """Read until `size` bytes are there; False if the stream ends before."""
        while len(self.data) < size and not self.ended:
            try:
                block = self._stream.read(CHUNK_BYTES)
            except DamagedFile as damage:
                self.damage, block = damage, b""
            self.ended = not block
            self.data += block
        return len(self.data) >= size

    def drop(self, size: int) -> None:
        """Let go of the first `size` bytes."""
        size = min(size, len(self.data))
        del self.data[:size]
        self.base += size

    def strip(self) -> None:
        """Let go of all line ends at the start."""
        while self.fill(1) and (found := LINE_ENDS.match(self.data)):
            self.drop(found.end())

    def search(self, pattern: re.Pattern[bytes], start: int, limit: int, longest: int) -> re.Match[bytes] | None:
        """The first match of `pattern`, whose matches are at most `longest` bytes, from `start` on, in the first `limit` bytes."""
        while True:
            if found := pattern.search(self.data, start, limit):
                return found
            start = max(start, len(self.data) - longest + 1)
            if len(self.data) >= limit or not self.fill(len(self.data) + 1):
                return None

    def find(self, what: bytes, start: int, limit: int | None) -> int:
        """Where `what` is, from `start` on, in the first `limit` bytes (None: anywhere); -1 if nowhere.

        Without a limit, what was looked through is let go of, and `what` then stands at the start.
        """
        while True:
            at = self.data.find(what, start)
            if at >= 0:
                if limit is None:
                    self.drop(at)
                    return 0
                return at
            start = max(start, len(self.data) - len(what) + 1)
            if limit is None:
                self.drop(start)
                start = 0
            elif len(self.data) >= limit:
                return -1
            if not self.fill(len(self.data) + 1):
                return -1

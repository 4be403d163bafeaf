"""Files as streams of bytes, decompressed by suffix, within bounds: what is damaged or swells ends the stream, and says so."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa

from tasks.core.errors import UserError

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
"""Suffix → pyarrow's name of the codec. Several streams in a row, as `cat a.gz b.gz` makes them, are one."""

BLOCK_BYTES = 1 << 14
"""Small: of a stream that breaks off, what was read since the last block is lost."""

MAX_RATIO = 500
FREE_BYTES = 64 << 20
"""A stream may swell by 500 times, beyond its first 64 MiB: text shrinks 3 to 20 times, while nested zeros reach 1,000 (gzip) and more."""


class DamagedFile(Exception):
    """The rest of a file cannot be read: `reason` (truncated_file, corrupt_file, decompression_bomb) and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def compression_of(path: Path) -> str | None:
    """The compression that the last suffix names."""
    return CODECS.get(path.suffix.lower())


def format_suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case: `.jsonl` of `x.jsonl.gz`."""
    return (path.with_suffix("") if compression_of(path) else path).suffix.lower()


class FileStream:
    """The bytes of a file that does not change meanwhile. `size`: its own bytes; `at`: bytes read so far.

    `compressed` says whether it is decompressed, if its suffix names a codec.
    """

    def __init__(self, path: Path, decompress: bool = True) -> None:
        self.path, self.codec, self.at = path, compression_of(path) if decompress else None, 0
        try:
            self._before = _state(path)
            self._file: Any = path.open("rb")
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}. Mend it, or leave the file out.") from None
        self.size = self._before[0]
        if self.codec:
            self._file = pa.input_stream(self._file, compression=self.codec)

    def __enter__(self) -> "FileStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """Up to `size` bytes, b"" at the end.

        Raises:
            DamagedFile: the rest cannot be decompressed, or would be too large.
            UserError: the file has changed since it was opened.
        """
        try:
            block: bytes = self._file.read(size)
        except (OSError, pa.ArrowException) as error:
            self.check_unchanged()
            cut = "truncated" in str(error).lower()
            reason = "truncated_file" if cut else "corrupt_file"
            raise DamagedFile(reason, f"{self.path}: after {self.at} decompressed bytes: {error}") from None
        self.at += len(block)
        if self.codec and self.at > max(FREE_BYTES, MAX_RATIO * self.size):
            raise DamagedFile(
                "decompression_bomb", f"{self.path}: more than {MAX_RATIO} times its {self.size} bytes come out of it"
            )
        if not block:
            self.check_unchanged()
        return block

    def read_whole(self, max_bytes: int) -> bytes:
        """All of it.

        Raises:
            DamagedFile: as `read`, or too_large.
            UserError: as `read`.
        """
        parts = []
        while block := self.read(1 << 20 if not self.codec else BLOCK_BYTES):
            parts.append(block)
            if self.at > max_bytes:
                raise DamagedFile("too_large", f"{self.path}: more than {max_bytes} bytes")
        return b"".join(parts)

    def check_unchanged(self) -> None:
        """What was read of a file that changes is neither the old nor the new.

        Raises:
            UserError: it has changed, or is gone.
        """
        try:
            same = _state(self.path) == self._before
        except OSError:
            same = False
        if not same:
            raise UserError(f"{self.path}: changed while it was read. Start again when nothing writes to it.")


def _state(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ino


class ReadableStream(Protocol):
    """What `split_lines` reads."""

    path: Path

    def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        ...


def split_lines(stream: ReadableStream, max_bytes: int) -> Iterator[tuple[int, bytes | DamagedFile]]:
    """Number (from 1) and content of each line, its end left out; blank ones are left out.

    In the place of a line longer than `max_bytes`, and of all that is damaged at the end, stands what is wrong. Never
    holds more than `max_bytes` and a block.
    """
    rest, number, too_long = bytearray(), 0, False
    damage: DamagedFile | None = None

    def whole(line: bytes) -> bytes | DamagedFile | None:
        if too_long or len(line) > max_bytes:
            return DamagedFile("too_large", f"{stream.path}, line {number}: more than {max_bytes} bytes")
        return line.rstrip(b"\r") if line.strip() else None

    while True:
        try:
            block = stream.read()
        except DamagedFile as error:
            damage, block = error, b""
        if not block:
            break
        first, *others = block.split(b"\n")
        rest += first
        for following in others:
            number += 1
            if (line := whole(bytes(rest))) is not None:
                yield number, line
            rest, too_long = bytearray(following), False
        if len(rest) > max_bytes:
            rest, too_long = bytearray(), True
    number += 1
    if (line := whole(bytes(rest))) is not None:
        yield number, line
    if damage:
        yield number + 1, damage

"""A file of the Hugging Face hub as a local one, fetched as far as it is read."""

from pathlib import Path
from types import TracebackType
from typing import Any

BLOCK_BYTES = 8 << 20
"""Bytes asked for at once."""
TAIL_BYTES = 8
"""Length of a Parquet file's footer, and its mark."""


class HubDownload:
    """A local file of the size of `address` (`hf://…`): what was not fetched of it reads as zeros and takes no room.

    It is removed at the end. What the hub's client raises, when it is out of reach, comes through as it is.
    """

    def __init__(self, address: str, path: Path) -> None:
        from huggingface_hub import HfFileSystem

        self.path = path
        self._fs, self._address = HfFileSystem(), address
        self._size = int(self._fs.info(address)["size"])
        self._there: set[int] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(self._size)

    def __enter__(self) -> "HubDownload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def fetch(self, start: int, end: int) -> None:
        """See to it that these bytes are there, each asked for once.

        Raises:
            ConnectionError: the hub sends fewer.
        """
        first, last = max(0, start) // BLOCK_BYTES, (min(end, self._size) - 1) // BLOCK_BYTES
        wanted = [block for block in range(first, last + 1) if block not in self._there]
        if not wanted:
            return
        remote: Any = self._fs.open(self._address, "rb", cache_type="none")
        with remote, self.path.open("rb+") as local:
            for block in wanted:
                at = block * BLOCK_BYTES
                remote.seek(at)
                content = remote.read(min(BLOCK_BYTES, self._size - at))
                if len(content) != min(BLOCK_BYTES, self._size - at):
                    raise ConnectionError(f"{self._address}: {len(content)} bytes came at {at} of {self._size}")
                local.seek(at)
                local.write(content)
                self._there.add(block)

    def fetch_all(self) -> None:
        """The whole file."""
        self.fetch(0, self._size)

    def fetch_footer(self) -> None:
        """The end of a Parquet file, which says where the rest stands."""
        self.fetch(self._size - TAIL_BYTES, self._size)
        with self.path.open("rb") as file:
            file.seek(max(0, self._size - TAIL_BYTES))
            length = int.from_bytes(file.read(4), "little")
        self.fetch(self._size - TAIL_BYTES - length, self._size)

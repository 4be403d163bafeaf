"""Files over the network, by fsspec: listed, and read forwards within bounds of size and time."""

import gzip
import logging
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from tasks.core.errors import UserError
from tasks.text.compressed import Damaged, Stream
from tasks.web.sources import USER_AGENT
from tasks.web.window import Bytes

BLOCK_BYTES = 8 << 20
LEAST_BLOCK_BYTES = 1 << 16
LONGEST_WAIT_S = 120.0
MAX_LIST_BYTES = 64 << 20
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow",
}
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """Bounds of what is read over the network: seconds a request, further tries, seconds before the first, bytes a file."""

    timeout_s: float
    retries: int
    retry_delay_s: float
    max_file_bytes: int


def is_url(path: str) -> bool:
    """Whether `path` is for fsspec: it has a scheme (and not the letter of a drive)."""
    return _scheme(path) != ""


def _scheme(path: str) -> str:
    found = SCHEME.match(path)  # `urlsplit` would refuse http://[, before there is anyone to explain it
    return found[1].lower() if found else ""


def expand(patterns: tuple[str, ...], prefix: str, network: Network, where: str) -> Iterator[str]:
    """The files that the patterns name, local globs and URLs (globs where the file system can list), lists of them read.

    Raises:
        UserError: a pattern matches nothing, a list or file system is out of reach, or its package is missing.
    """
    for pattern in patterns:
        for path in _matches(pattern, network, where):
            name = path.partition("?")[0]
            if name.endswith((".paths", ".paths.gz")):
                for line in _lines(path, network, where):
                    with _explained(f"{where}: {path}: {line}"):
                        listed = line if is_url(line) else urljoin(prefix, line)
                    yield listed
            else:
                yield path


def _matches(pattern: str, network: Network, where: str) -> list[str]:
    if not is_url(pattern):
        found = sorted(str(path) for path in _glob(pattern) if path.is_file())
    elif any(sign in pattern for sign in "*[") and _scheme(pattern) not in ("http", "https"):
        with _explained(f"{where}: {pattern}"):
            system, path = _open_system(pattern, network)
            found = sorted(system.unstrip_protocol(name) for name in system.glob(path))
    else:
        return [pattern]
    if not found:
        raise UserError(f"{where}: paths: {pattern!r} matches no file")
    return found


def _glob(pattern: str) -> Iterator[Path]:
    import glob

    yield from (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  absolute patterns too


def _lines(path: str, network: Network, where: str) -> list[str]:
    try:
        with open_bytes(path, network) as stream:
            parts: list[bytes] = []
            while block := stream.read(1 << 16):
                parts.append(block)
        content = b"".join(parts)
        if content.startswith(b"\x1f\x8b"):
            inflate = zlib.decompressobj(wbits=31)
            content = inflate.decompress(content, MAX_LIST_BYTES)
        return [line.strip() for line in content.decode().splitlines() if line.strip()]
    except (Damaged, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {path}: cannot be read as a list of paths ({error})") from None


@contextmanager
def open_bytes(path: str, network: Network) -> Iterator[Bytes]:
    """The bytes of a local file as they are, or of a URL.

    Raises:
        UserError: a local file cannot be opened or changes meanwhile, a file system's package is missing.
    """
    if not is_url(path):
        with Stream(Path(path), compressed=False) as stream:
            yield stream
        return
    remote = RemoteFile(path, network)
    try:
        yield remote
    finally:
        remote.close()


class RemoteFile:
    """A file over the network, read forwards. A request that fails is tried again from the byte it had come to."""

    def __init__(self, url: str, network: Network) -> None:
        self.url, self.at = url, 0
        self._network, self._block_bytes = network, BLOCK_BYTES
        self._file: Any = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end.

        Raises:
            Damaged: unreachable: what the last of the tries failed of; file_too_large.
            UserError: the package for the URL's scheme is missing.
        """
        wait_s = self._network.retry_delay_s
        for attempt in range(self._network.retries + 1):
            try:
                if self._file is None:
                    self._open()
                block: bytes = self._file.read(size)
            except UserError:
                raise
            except (FileNotFoundError, PermissionError) as error:
                self.close()
                raise Damaged("unreachable", f"{self.url}: {error!r}") from None
            except Exception as error:  # each file system has its own
                self.close()
                if "range requests" in str(error):  # the server knows none: read in one go, without blocks
                    self._block_bytes = 0
                elif self._block_bytes:
                    self._block_bytes = max(self._block_bytes // 4, LEAST_BLOCK_BYTES)  # to come as far as possible
                if attempt == self._network.retries:
                    raise Damaged("unreachable", f"{self.url}: after {self.at} bytes: {error!r}"[:500]) from None
                log.warning("%s: %r; trying again in %.0f s", self.url, error, wait_s)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self.at += len(block)
            if self.at > self._network.max_file_bytes:
                raise Damaged("file_too_large", f"{self.url}: more than {self._network.max_file_bytes} bytes")
            return block
        raise AssertionError

    def close(self) -> None:
        """Let go of the connection."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        with _explained(self.url):
            system, path = _open_system(self.url, self._network, stream=not self._block_bytes)
        blocks = {"block_size": self._block_bytes, "cache_type": "readahead"}
        options = {} if _scheme(self.url) == "memory" else blocks
        self._file = system.open(path, "rb", **options)
        if not self.at:
            return
        try:
            self._file.seek(self.at)
        except (ValueError, OSError):  # a server without ranges: read on from the start
            left = self.at
            while left and (block := self._file.read(min(left, BLOCK_BYTES))):
                left -= len(block)


def _open_system(url: str, network: Network, stream: bool = False) -> tuple[Any, str]:
    import fsspec

    scheme = _scheme(url)
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        # Of a file in one go the time that may pass between two packets is bounded, of a block the whole.
        limits = {"sock_connect": network.timeout_s, "sock_read": network.timeout_s}
        timeout = (
            aiohttp.ClientTimeout(total=None, **limits) if stream else aiohttp.ClientTimeout(total=network.timeout_s)
        )
        options = {"client_kwargs": {"timeout": timeout, "headers": {"User-Agent": USER_AGENT}}}
    elif scheme in ("s3", "s3a"):
        limits = {"connect_timeout": network.timeout_s, "read_timeout": network.timeout_s}
        options = {"config_kwargs": {**limits, "retries": {"max_attempts": 1}}}
    system, path = fsspec.core.url_to_fs(url, **options)
    return system, path


def _named(package: str) -> str:
    """As pip takes it: s3fs and gcsfs want the very version of fsspec that their own number says."""
    import fsspec

    return f"{package}=={fsspec.__version__}" if package in ("s3fs", "gcsfs") else package


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """File systems that are not installed or not known are the user's to mend."""
    try:
        yield
    except ImportError as error:
        scheme = _scheme(what.rpartition(": ")[2])
        package = PACKAGES.get(scheme)
        how = f"{scheme} URLs need the package {package}: pip install {_named(package)}" if package else str(error)
        raise UserError(f"{what}: {how}") from None
    except ValueError as error:
        raise UserError(f"{what}: {error}") from None
    except (OSError, TimeoutError) as error:
        raise UserError(f"{what}: cannot be listed ({error!r}). Is it there, and the network?") from None

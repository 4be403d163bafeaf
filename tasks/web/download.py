"""Scrapy's downloader with a bound on what stands before a body: its own bounds count the body alone."""

from typing import Any

from scrapy.core.downloader.handlers.http11 import (
    HTTP11DownloadHandler,
    _LenientHTTP11ClientFactory,
    _LenientHTTP11ClientProtocol,
    _LenientHTTPClientParser,
)

from tasks.web.http_message import HEAD_BYTES


class HeadTooLarge(Exception):
    """More than HEAD_BYTES of status lines and headers."""


class Handler(HTTP11DownloadHandler):  # type: ignore[misc]
    """Ends a connection on which more than HEAD_BYTES come before the body, interim answers (1xx) included."""

    def __init__(self, crawler: Any) -> None:
        super().__init__(crawler)
        self._pool._factory = _Factory


class _Parser(_LenientHTTPClientParser):  # type: ignore[misc]
    head_bytes = 0

    def lineReceived(self, line: bytes) -> None:  # noqa: N802  Twisted's name
        self.head_bytes += len(line) + 1
        if self.head_bytes > HEAD_BYTES:
            raise HeadTooLarge
        super().lineReceived(line)


class _Protocol(_LenientHTTP11ClientProtocol):  # type: ignore[misc]
    def request(self, request: Any) -> Any:
        answered = super().request(request)
        self._parser.__class__ = _Parser  # as Scrapy puts its own in: Twisted's request() names the class
        return answered


class _Factory(_LenientHTTP11ClientFactory):  # type: ignore[misc]
    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        return _Protocol(self._quiescentCallback)


def is_head_too_large(error: BaseException) -> bool:
    """Whether it is for HeadTooLarge that the downloader raised `error`."""
    reasons = getattr(error.__cause__, "reasons", None) or ()
    return any(reason.check(HeadTooLarge) for reason in reasons)

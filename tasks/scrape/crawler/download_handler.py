"""Scrapy's downloader with a bound on what stands before a body: its own bounds count the body alone."""

import re
from typing import Any

from scrapy.core.downloader.handlers.http11 import (
    HTTP11DownloadHandler,
    _LenientHTTP11ClientFactory,
    _LenientHTTP11ClientProtocol,
    _LenientHTTPClientParser,
)
from twisted.web._newclient import HEADER

from tasks.http.response import HEAD_BYTES

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""The name of a header (RFC 9110, 5.6.2)."""


class HeadTooLarge(Exception):
    """More than HEAD_BYTES of status lines and headers."""


class Handler(HTTP11DownloadHandler):  # type: ignore[misc]
    """Ends a connection on which more than HEAD_BYTES come before the body, interim answers (1xx) included."""

    def __init__(self, crawler: Any) -> None:
        super().__init__(crawler)
        self._pool._factory = _Factory


class _Parser(_LenientHTTPClientParser):  # type: ignore[misc]
    """Passes over header lines that are none, as browsers do, where Twisted loses the page (scrapy/scrapy#210, #4774)."""

    head_bytes = 0

    def lineReceived(self, line: bytes) -> None:  # noqa: N802  Twisted's name
        self.head_bytes += len(line) + 1
        if self.head_bytes > HEAD_BYTES:
            raise HeadTooLarge
        if self.state == HEADER and self._partialHeader is None and line[:1] in (b" ", b"\t"):
            return  # goes on with a header, where there was none
        super().lineReceived(line)

    def headerReceived(self, name: bytes, value: bytes) -> None:  # noqa: N802
        name = name.rstrip()
        again = name.lower() == b"content-length" and value in self.connHeaders.getRawHeaders(name, ())
        if TOKEN.fullmatch(name) and not again:
            super().headerReceived(name, value)


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

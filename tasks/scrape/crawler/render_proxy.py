"""The render proxy, SSRF-safe: the only way of a browser to the network; a proxy on loopback that makes each request as the crawler would.

The browser that builds a page asks for scripts and data. None of it leaves the machine by itself: the crawler asks, with
its robots.txt rules, delays, limits of bytes and refusal of private addresses, and hands on what it got. TLS ends here
(the browser is told to accept any certificate), or the URLs of a site over https could not be judged.
"""

import asyncio
import re
import secrets
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from tasks.scrape.crawler.fetch_result import FetchResult

MAX_REQUESTS = 100
HEAD_BYTES = 1 << 16
PASSED_ON = ("content-type", "access-control-allow-origin", "content-security-policy")
NOT_TEXT = re.compile(r"\.(png|jpe?g|gif|webp|avif|ico|svg|woff2?|ttf|otf|eot|css|mp[34]|webm|ogg|pdf|zip|wasm)$", re.I)
NAMED_HOST = re.compile(rb"//([A-Za-z0-9.-]+(?::\d+)?)[/\"'?#\s]")


class RenderProxy:
    """Serves one page, once, to a browser, and what the page asks for. `refused` counts what it was denied.

    Only hosts are asked that the page's HTML names: the browser's own services (updates, telemetry) are not.
    """

    def __init__(
        self, url: str, page: FetchResult, fetch: Callable[[str], Awaitable[FetchResult]], tls: ssl.SSLContext
    ) -> None:
        self._url, self._page, self._fetch, self._tls = url, page, fetch, tls
        self._hosts = {host.decode().lower() for host in NAMED_HOST.findall(page.body)} | {urlsplit(url).netloc.lower()}
        self.requests = 0
        self.refused = 0
        self.mark = secrets.token_hex(16).encode()
        self.led_to = url
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "RenderProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1]) if self._server else 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, target, headers = await _head(reader)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self._tls)
                host = target.removesuffix(":443")
                method, path, headers = await _head(reader)
                target = f"https://{host}{path}"
            status, fields, body = await self._respond(method, target, headers)
            lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in fields)]
            lines += [f"Content-Length: {len(body)}", "Connection: close"]
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.refused += 1  # no HTTP, or the browser left
        finally:
            writer.close()

    async def _respond(self, method: str, url: str, headers: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body. In the place of a page other than the one to be built (a frame's, or where a script
        leads to) stands an empty one with a mark, by which to tell that the browser is no longer where it was.
        """
        navigation = re.search(r"^accept: *text/html", headers, re.I | re.M) is not None
        if navigation:
            if url == self._url and self._page.body:
                body, self._page = self._page, FetchResult(self._page.outcome)
                return 200, _passed_on(body), body.body
            self.refused += 1
            self.led_to = url
            return 200, [("Content-Type", "text/html")], b"<title>" + self.mark + b"</title>"
        host = urlsplit(url).netloc.lower()
        unwanted = NOT_TEXT.search(urlsplit(url).path) or re.search(r"^upgrade:", headers, re.I | re.M)
        if method != "GET" or host not in self._hosts or unwanted or self.requests >= MAX_REQUESTS:
            self.refused += 1
            return 403, [], b""
        self.requests += 1
        result = await self._fetch(url)
        if result.redirect_target is not None:
            return 302, [("Location", result.redirect_target)], b""
        if result.outcome.name != "saved":
            self.refused += result.outcome.status is None
            return result.outcome.status or 403, [], b""
        return 200, _passed_on(result), result.body


def _passed_on(result: FetchResult) -> list[tuple[str, str]]:
    return [(name, value) for name, value in result.headers if name.lower() in PASSED_ON]


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, str]:
    """Method, target and the header lines of a request."""
    first, _, headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n")
    method, target, _ = first.split(" ", 2)
    return method, target, headers


def self_signed_context() -> ssl.SSLContext:
    """TLS with a certificate made for this process; only a browser that accepts any takes it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "textmill proxy")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "proxy.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(pem)
    return context

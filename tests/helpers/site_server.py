"""A small website on loopback with everything that goes wrong on the web; counts what it is asked for."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MEGABYTE = b"x" * 1_000_000
BOMB = gzip.compress(b" " * 50_000_000)
Reply = tuple[int, dict[str, str], bytes]


class Site:
    """`pages`: path → HTML. `asked`: path with query → requests so far. `robots`: the text of robots.txt, or None.

    `replies`: path → a function of the request's number (1, 2, ...) that gives status, headers and body.
    `follow`: path with query → HTML, for sites that make up their pages.
    `requests`: (monotonic time in s, path with query, headers) of each request.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.replies: dict[str, Callable[[int], Reply]] = {}
        self.follow: Callable[[str], bytes] | None = None
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.asked: Counter[str] = Counter()
        self.robots: str | None = "User-agent: *\nDisallow: /secret\n"
        self.robots_status = 200
        self.delay_s = 0.0
        self.url = ""
        self.sent = 0

    def link_to(self, *paths: str) -> str:
        return "<html><body>" + "".join(f'<p><a href="{path}">to {path}</a></p>' for path in paths) + "</body></html>"


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            fields = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
            for name, value in {**fields, **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            site.asked[self.path] += 1
            site.requests.append((time.monotonic(), self.path, dict(self.headers)))
            path = self.path.partition("?")[0]
            if path == "/robots.txt":
                self.answer((site.robots or "").encode(), site.robots_status, Content_Type="text/plain")
                return
            time.sleep(site.delay_s)
            if path in site.replies:
                status, headers, body = site.replies[path](site.asked[self.path])
                self.answer(body, status, **headers)
            elif self.path in site.pages or path in site.pages:
                self.answer(site.pages.get(self.path, site.pages.get(path, "")).encode())
            elif site.follow:
                self.answer(site.follow(self.path))
            elif path.startswith("/loop"):
                self.answer(b"", 302, Location="/loop2" if path == "/loop1" else "/loop1")
            elif path.startswith("/hop"):
                self.answer(b"", 301, Location=f"/hop{int(path[4:]) + 1}")
            elif path == "/moved":
                self.answer(b"", 301, Location="/target")
            elif path == "/target":
                self.answer(b"<p>the target of a redirect</p>")
            elif path == "/to-private":
                self.answer(b"", 302, Location="http://10.0.0.1/inside")
            elif path == "/flaky":
                fails = site.asked[self.path] < 3
                self.answer(b"<p>works at the third try</p>", 500 if fails else 200)
            elif path == "/always-500":
                self.answer(b"no", 500)
            elif path == "/huge":  # 50 MB, its length announced
                self.huge({"Content-Length": str(50 * len(MEGABYTE))}, chunked=False)
            elif path == "/huge-chunked":
                self.huge({"Transfer-Encoding": "chunked"}, chunked=True)
            elif path == "/bomb":
                self.answer(BOMB, Content_Encoding="gzip")
            elif path == "/gzip":
                self.answer(gzip.compress(b"<p>gzip, and <a href='/from-gzip'>a link</a></p>"), Content_Encoding="gzip")
            elif path == "/broken-gzip":
                self.answer(gzip.compress(b"<p>never seen</p>" * 99)[:-20], Content_Encoding="gzip")
            elif path == "/image":
                self.answer(b"\x89PNG", Content_Type="image/png")
            elif path == "/cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"only this")
                self.close_connection = True
            elif path == "/bytes":
                self.answer(b"<p>\x81\xfe\xff\x00\x9d</p>", Content_Type="text/html; charset=no-such-thing")
            elif path == "/slow":
                time.sleep(2)  # and then nothing
                self.close_connection = True
            else:
                self.answer(b"<p>nothing here</p>", 404)

        def huge(self, headers: dict[str, str], chunked: bool) -> None:
            self.send_response(200)
            for name, value in {"Content-Type": "text/html", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for _ in range(50):
                    part = b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE) if chunked else MEGABYTE
                    self.wfile.write(part)
                    site.sent += len(part)
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Rendering: pages that scripts build; a headless Chromium runs them and gives the document that comes out.

It runs in its sandbox, as another user where the crawler is root, for a bounded time, and reaches no network but
through tasks.scrape.crawler.render_proxy.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.parallel.processes import PR_SET_PDEATHSIG
from tasks.scrape.crawler.fetch_result import FetchResult
from tasks.scrape.crawler.render_proxy import RenderProxy, self_signed_context

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NOBODY = 65534  # Chromium's sandbox does not start as root
TIMEOUT_S = 60.0
SCRIPT_MS = 10_000  # timers of the page run that far ahead, in virtual time, once the network is quiet
AT_ONCE = 2  # a browser takes some 300 MB
LAUNCH = (
    "import ctypes, os, sys\n"
    f"os.getuid() == 0 and (os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY}))\n"
    f"sys.platform == 'linux' and ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}, 0, 0, 0)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedMode,HttpsFirstBalancedModeAutoEnable",  # the URL as it is
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--blink-settings=imagesEnabled=false",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",  # else this machine's own servers would be asked past the proxy
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--ignore-certificate-errors",  # the proxy's
    f"--virtual-time-budget={SCRIPT_MS}",
)


@dataclass(frozen=True)
class Rendered:
    """`html`: the document as UTF-8, or None; `note`: by what it was made, or why there is none.

    `led_to`: the URL to which a script took the browser away from the page.
    """

    html: bytes | None
    note: str
    led_to: str | None = None


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require_browser(source: str) -> None:
    """Check that there is a browser for the source of this name.

    Raises:
        UserError: there is none; says what to do.
    """
    if not find_browser():
        raise UserError(
            f"scrape: source {source}: render: true needs Chromium or Chrome, and none is installed. Install it "
            "(Debian: apt-get install chromium), or set render: false."
        )


class Browser:
    """Renders pages, a few at a time. `fetch` makes a request of the browser as the crawler makes its own."""

    def __init__(
        self, executable: str, user_agent: str, max_bytes: int, fetch: Callable[[str], Awaitable[FetchResult]]
    ) -> None:
        self._executable, self._user_agent, self._max_bytes, self._fetch = executable, user_agent, max_bytes, fetch
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tls = self_signed_context()

    async def render(self, url: str, page: FetchResult) -> Rendered:
        """The document that `page`, fetched from `url`, becomes by its scripts."""
        async with self._places, RenderProxy(url, page, self._fetch, self._tls) as proxy:
            with tempfile.TemporaryDirectory(prefix="textmill-browser-", ignore_cleanup_errors=True) as profile:
                if os.getuid() == 0:
                    os.chown(profile, NOBODY, NOBODY)
                try:
                    html = await asyncio.wait_for(self._run(url, proxy.port, Path(profile)), TIMEOUT_S)
                except TimeoutError:
                    return Rendered(None, f"not rendered: more than {TIMEOUT_S:g} s")
                except ValueError as error:
                    return Rendered(None, f"not rendered: {error}")
            if proxy.mark in html:
                return Rendered(None, f"not rendered: a script leads to {proxy.led_to}", proxy.led_to)
            return Rendered(html, f"rendered; {proxy.requests} further requests, {proxy.refused} refused")

    async def _run(self, url: str, port: int, profile: Path) -> bytes:
        """What the browser prints.

        Raises:
            ValueError: it prints too much, or nothing.
        """
        command = [self._executable, *OPTIONS, f"--user-data-dir={profile}", f"--proxy-server=http://127.0.0.1:{port}"]
        command += [f"--user-agent={self._user_agent}", "--dump-dom", url]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(profile), "LANG": "C.UTF-8"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101  asked for above
        try:
            parts: list[bytes] = []
            size = 0
            while part := await process.stdout.read(1 << 16):
                parts.append(part)
                size += len(part)
                if size > self._max_bytes:
                    raise ValueError(f"more than {self._max_bytes} bytes come out")
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # helpers of the browser too
            while await process.stdout.read(1 << 16):
                pass  # wait() returns after the pipe's end, which is not seen while unread bytes pause it
            await process.wait()
        html = b"".join(parts).strip()
        if code or not html:
            raise ValueError(f"the browser ended with exit code {code} and {len(html)} bytes")
        return b"<!DOCTYPE html>\n" + html + b"\n"

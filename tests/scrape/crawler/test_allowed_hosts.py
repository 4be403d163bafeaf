"""Who may be asked, and who is told who asks."""

from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.scrape.crawler.resolver import GuardedResolver, is_public
from tasks.scrape.sources import WebSource
from tests.helpers.scraping import (
    outcomes,
    scrape,
    web,
)
from tests.helpers.site_server import serve


class Addresses:
    """A resolver whose answers change from question to question, as in an attack by DNS rebinding."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.nameResolver = list(answers), self

    def resolveHostName(self, receiver: Any, hostName: str, *_: Any, **__: Any) -> None:  # noqa: N802, N803
        from twisted.internet.address import IPv4Address, IPv6Address

        receiver.resolutionBegan(None)
        for answer in self.answers.pop(0):
            receiver.addressResolved((IPv6Address if ":" in answer else IPv4Address)("TCP", answer, 80))
        receiver.resolutionComplete()


class Receiver:
    def __init__(self) -> None:
        self.addresses: list[str] = []

    def resolutionBegan(self, resolution: Any) -> None:  # noqa: N802
        pass

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        self.addresses.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802
        pass


def test_rebinding_gives_no_private_address() -> None:
    answers = (["93.184.216.34"], ["10.0.0.1"], ["93.184.216.34", "::ffff:127.0.0.1"], ["64:ff9b::a00:1"], ["10.0.0.2"])
    reactor = Addresses(*answers)
    resolver = GuardedResolver(reactor, frozenset({"intranet.example"}))
    seen = []
    for name in ("evil.example",) * 4 + ("Intranet.example",):
        receiver = Receiver()
        resolver.resolveHostName(receiver, name)
        seen.append(receiver.addresses)
    assert seen == [["93.184.216.34"], [], [], [], ["10.0.0.2"]]
    assert GuardedResolver.refused.pop("evil.example") == "64:ff9b::a00:1"
    assert not is_public("64:ff9b::7f00:1")
    assert is_public("64:ff9b::808:808")


@pytest.mark.slow
def test_private_hosts_are_allowed_by_name(tmp_path: Path) -> None:
    with serve() as site, serve() as inside:
        port, within = site.url.rpartition(":")[2], inside.url.rpartition(":")[2]
        site.pages["/"] = site.link_to(
            "/out", f"http://localhost:{within}/", f"http://127.1:{within}/", "http://[::1]/"
        )
        site.replies["/out"] = lambda _: (302, {"Location": f"http://localhost:{within}/admin"}, b"")
        inside.pages |= {"/": "<p>secret</p>", "/admin": "<p>secret</p>"}
        source = web(site, allow=["."], allow_private=["127.0.0.1"], retries=0)
        _, outputs = scrape(tmp_path / "one", source)
        found = outcomes(site, outputs)
        assert found["/"] == "saved"
        assert found["/out"] == "redirect"
        refused = [
            f"http://localhost:{within}/admin",
            f"http://localhost:{within}/",
            f"http://127.1:{within}/",
            "http://[::1]/",
        ]
        assert {found[url] for url in refused} == {"private_address"}
        assert not inside.requests
        scrape(tmp_path / "true", {**source, "allow_private": True})  # the start's hosts, no other
        assert not inside.requests
        metrics, _ = scrape(tmp_path / "two", {**source, "allow_private": ["127.0.0.1", "LOCALHOST"]})
        assert metrics["pages"] == 3
        assert inside.asked["/admin"] == 1
        assert port != within


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"start": ["http://192.0.2.1:9/"]}, False),
        ({"start": ["http://8.8.8.8:9/"], "contact": "https://e.org/bot"}, False),
        ({"start": ["http://handbook.invalid/"]}, False),
        ({"start": ["http://wiki/"]}, False),
        ({"start": ["http://www.python.org/"]}, True),
        ({"start": ["http://8.8.8.8:9/"]}, True),
        ({"start": ["http://8.8.8.8:9/"], "user_agent": "MyBot/1 (+mailto:me@e.org)"}, False),
    ],
)
def test_owners_of_public_hosts_should_know_whom_to_ask(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    warned: bool,
) -> None:
    from tasks.scrape.crawler import crawl_process

    monkeypatch.setattr(crawl_process, "_run", lambda _: 1)  # no request is made
    with pytest.raises(RuntimeError):
        crawl_process.crawl(WebSource(name="s", **options), tmp_path, tmp_path / "p", tmp_path / "l")
    assert ("contact" in caplog.text) == warned


@pytest.mark.parametrize("contact", ["me) (x", "a\r\nX: y", ""])
def test_a_contact_that_would_break_the_header(tmp_path: Path, contact: str) -> None:
    with pytest.raises(UserError, match="contact"):
        scrape(tmp_path, {"name": "s", "kind": "web", "start": ["http://e.org"], "contact": contact})

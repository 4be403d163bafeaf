"""The DNS resolver: host names to addresses for the crawler, refusing addresses that are not on the public Internet.

The check stands where the connection's address comes from: a name that first resolves to a public address and then to
a private one (DNS rebinding) is refused as well.
"""

import asyncio
import socket
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from zope.interface import implementer  # type: ignore[import-untyped]

from tasks.http.public_addresses import is_public


def proxy_hosts() -> set[str]:
    """The hosts of the proxies that the environment names."""
    named = {
        urlsplit(url if "//" in url else f"//{url}").hostname
        for kind, url in urllib.request.getproxies().items()
        if kind != "no"  # NO_PROXY: names that no proxy is asked for
    }
    return {host for host in named if host}


async def private_behind_proxy(url: str) -> str | None:
    """An address of the URL's host that is not public, where GuardedResolver would not see it: a proxy would connect to it
    in our place, or has the same name; else None.

    Raises:
        OSError: the name has no address here, so that nobody knows where the proxy would lead.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = urllib.request.getproxies()
    direct = not proxies.keys() & {parts.scheme, "all"} or urllib.request.proxy_bypass(host)
    if direct and host not in proxy_hosts():
        return None
    found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 0, type=socket.SOCK_STREAM)
    return next((str(address[0]) for *_, address in found if not is_public(str(address[0]))), None)


@implementer(IHostnameResolver)
class GuardedResolver:
    """Resolves by the system's resolver; names that have an address that is not public fail.

    Those listed in the setting `CRAWL_PRIVATE_HOSTS` may have any.

    `refused` tells why: name → address. A proxy named in the environment is the user's own choice and is not checked.
    """

    refused: dict[str, str] = {}  # noqa: RUF012  Scrapy makes the resolver; a crawl has its process to itself

    def __init__(self, reactor: Any, private_hosts: Collection[str]) -> None:
        self._reactor, self._inner, self._private_hosts = reactor, reactor.nameResolver, private_hosts
        self._proxies = proxy_hosts()

    @classmethod
    def from_crawler(cls, crawler: Any, reactor: Any) -> "GuardedResolver":
        return cls(reactor, frozenset(crawler.settings.getlist("CRAWL_PRIVATE_HOSTS")))

    def install_on_reactor(self) -> None:
        self._reactor.installNameResolver(self)

    def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **options: Any) -> Any:  # noqa: N802, N803  Twisted's names
        if hostName.lower() not in self._private_hosts and hostName not in self._proxies:
            receiver = _Guard(receiver, hostName, self.refused)
        return self._inner.resolveHostName(receiver, hostName, *args, **options)


@implementer(IResolutionReceiver)
class _Guard:
    """Holds back a name's addresses until all are known to be public."""

    def __init__(self, receiver: Any, name: str, refused: dict[str, str]) -> None:
        self._receiver, self._name, self._refused = receiver, name, refused
        self._addresses: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:  # noqa: N802
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        self._addresses.append(address)

    def resolutionComplete(self) -> None:  # noqa: N802
        private = [address.host for address in self._addresses if not is_public(address.host)]
        if private:
            self._refused[self._name] = private[0]
        else:
            for address in self._addresses:
                self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()

"""Access control: who is answered; asked for by a name of this server, by no web page of elsewhere, with a key where there are keys."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.http.public_addresses import is_ip_address
from tasks.serving.admission import Admission
from tasks.serving.api_keys import is_known
from tasks.serving.protocol import RequestError
from tasks.serving.responses import error_response

HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/?#@\[\]]+))(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: digests of keys (`tasks.serving.api_keys`); none: everybody who reaches this server.
        hosts: names of this server, besides `localhost` and every IP address.
        origins: web pages that may ask, such as `https://chat.example.org`.
    """

    keys: Sequence[bytes] = ()
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def check(self, path: str, headers: Headers) -> None:
        """Let a request pass.

        Raises:
            RequestError: it is for another host, of a foreign page, or without a key.
        """
        if not self._names_this_server(headers.get("host")):
            # A page whose name is made to resolve to this machine has the browser's permission to read the answer.
            raise RequestError("this server is not known by that Host. Its names: --allow-host", status=403)
        if (origin := headers.get("origin")) is not None and origin not in self.origins:
            raise RequestError("web pages of that Origin may not ask. Those that may: --allow-origin", status=403)
        if self.keys and path != "/health" and not is_known(_bearer(headers), self.keys):
            raise RequestError("an API key is needed: Authorization: Bearer KEY", code="invalid_api_key", status=401)

    def _names_this_server(self, host: str | None) -> bool:
        if host is None:  # HTTP/1.0: no browser
            return True
        found = HOST.fullmatch(host)
        name = (found[1] or found[2]).lower() if found else ""
        return name in ("localhost", *self.hosts) or is_ip_address(name)


class AccessMiddleware:
    """Refuses what `access` does not let in, and everything once the admission is closed. ASGI middleware."""

    def __init__(self, app: ASGIApp, access: Access, admission: Admission) -> None:
        self._app, self._access, self._admission = app, access, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._access.check(scope["path"], Headers(scope=scope))
            self._admission.require_open()
        except RequestError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _bearer(headers: Headers) -> bytes:
    scheme, _, key = headers.get("authorization", "").encode("latin-1").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""

"""`python -m flows.prefect_app PORT`: Prefect's server on loopback, for this machine's own pages and programs alone.

Prefect itself answers whatever reaches its port: a page of elsewhere that a user visits could send a form there and make a
deployment, whose command a worker then runs. A browser names the page in Origin, and what it was told the server's name
is in Host, so that what comes by another page, or by a name that was turned to 127.0.0.1, is refused (OWASP, Cross-Site
Request Forgery Prevention: verifying origin with standard headers). The settings are those of the environment.
"""

import sys
from typing import Any


class SameOrigin:
    """ASGI middleware that refuses requests and websockets of another host, or of a page of another origin, with 403."""

    def __init__(self, app: Any, hosts: set[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what may pass."""
        if scope["type"] == "lifespan" or self._allowed(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"Asked for under another name, or by a page of elsewhere: refused."
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": body})

    def _allowed(self, headers: list[tuple[bytes, bytes]]) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        return len(hosts) == 1 and {*hosts, *(origin.removeprefix("http://") for origin in origins)} <= self._hosts


def main(port: int) -> None:
    """Serve until a signal arrives."""
    import uvicorn
    from prefect.server.api.server import create_app

    app = SameOrigin(create_app(final=True), {f"127.0.0.1:{port}", f"localhost:{port}"})
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))

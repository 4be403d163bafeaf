"""`python -m flows.guarded_server prefect|mlflow PORT`: that server on loopback, for this machine's own pages and programs alone.

Both answer whatever reaches their port: a page of elsewhere that a user visits could send a form there and make a
deployment, whose command a worker then runs, or add to an experiment. A browser names the page in Origin, and what it was
told the server's name is in Host, so that what comes by another page, or by a name that was turned to 127.0.0.1, is refused
(OWASP, Cross-Site Request Forgery Prevention: verifying origin with standard headers). Other users of the machine lack the
key. The settings are those of the environment.
"""

import base64
import hmac
import os
import sys
from pathlib import Path
from typing import Any

from flows.server import auth_string

OPEN_PATH = "/health"
"""Says that a server is there, and nothing else."""
FOREIGN = b"Asked for under another name, or by a page of elsewhere: refused."
KEY_WANTED = b"Wants the user and the password that stand in .textmill/auth, joined by a colon."


class SameOrigin:
    """ASGI middleware that refuses requests and websockets of another host, or of a page of another origin, with 403."""

    def __init__(self, app: Any, hosts: set[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what may pass."""
        if scope["type"] == "lifespan" or self._allowed(scope["headers"]):
            await self._app(scope, receive, send)
        else:
            await _refuse(
                scope, receive, send, 403, b"Asked for under another name, or by a page of elsewhere: refused."
            )

    def _allowed(self, headers: list[tuple[bytes, bytes]]) -> bool:
        hosts, origins, modes = (
            [value.decode("latin-1").lower() for name, value in headers if name == asked]
            for asked in (b"host", b"origin", b"sec-fetch-mode")
        )
        if "no-cors" in modes and (b"sec-fetch-site", b"same-origin") not in headers:
            return False  # what a page embeds names no origin
        return len(hosts) == 1 and {*hosts, *(origin.removeprefix("http://") for origin in origins)} <= self._hosts


class KeyAuth:
    """ASGI middleware that answers only who sends `key`, a user and a secret joined by a colon, as HTTP's Basic
    authentication (RFC 7617), which browsers and MLflow's clients know; others get 401.
    """

    def __init__(self, app: Any, key: str) -> None:
        self._app = app
        self._expected = b"basic " + base64.b64encode(key.encode())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what may pass."""
        if scope["type"] == "lifespan" or scope["path"] == OPEN_PATH or self._sent(scope["headers"]):
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 401, KEY_WANTED, (b"www-authenticate", b'Basic realm="Textmill"'))

    def _sent(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, rest = (given[0] if len(given) == 1 else b"").partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + rest.strip(), self._expected)


async def _refuse(scope: Any, receive: Any, send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = ((b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers)
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def prefect_app() -> Any:
    """Prefect's own, which wants the key itself (PREFECT_SERVER_API_AUTH_STRING)."""
    from prefect.server.api.server import create_app

    return create_app(final=True)


def mlflow_app() -> Any:
    """MLflow's own behind the key of this checkout. Its store is what `mlflow server` takes from MLFLOW_BACKEND_STORE_URI and
    MLFLOW_ARTIFACTS_DESTINATION: not on the command line, which other users see.
    """
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server.fastapi_app import app

    return KeyAuth(app, auth_string(Path.cwd()))


def main(which: str, port: int) -> None:
    """Serve until a signal arrives."""
    import uvicorn

    app = SameOrigin(
        {"prefect": prefect_app, "mlflow": mlflow_app}[which](), {f"127.0.0.1:{port}", f"localhost:{port}"}
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

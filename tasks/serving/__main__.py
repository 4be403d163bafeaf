"""`make serve`: an OpenAI-compatible server of the quantized model. `python -m tasks.serving --help`."""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.serving.engine import Engine, find_model, read_model

GRACE_S = 2
"""How long answers under way may go on after Ctrl-C."""


def require_free(host: str, port: int) -> None:
    """Check that nothing listens there.

    Raises:
        UserError: something does, or this machine has no such address.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot listen on {host}:{port} ({error}). Take another: make serve PORT=8081") from None


def serve(model: Path, host: str, port: int, slots: int, name: str) -> None:
    """Serve until SIGTERM or SIGINT, which end the process with exit code 0.

    Raises:
        UserError: no such model, or the port is taken.
    """
    import uvicorn

    from tasks.core.execution import load_execution
    from tasks.serving.app import make_app

    read_model(model)
    require_free(host, port)
    app = make_app(Engine(model, load_execution().thread_count(1), slots), name)
    print(f"{model} at http://{host}:{port}/v1 (OpenAI chat and completions), {slots} conversations at a time.")
    print("Ctrl-C ends it.", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it has ended
        signal.signal(number, lambda *_: None)
    uvicorn.Server(
        uvicorn.Config(app, host, port, log_level="warning", timeout_graceful_shutdown=GRACE_S, server_header=False)
    ).run()
    os._exit(0)  # ended by itself, llama.cpp waits for every answer under way


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: the one of data/quantize")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no authentication")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--slots", type=int, default=4, help="conversations at a time")
    parser.add_argument("--name", default="textmill", help="the model's name in the API")
    options = parser.parse_args(arguments)
    try:
        serve(options.model or find_model(), options.host, options.port, options.slots, options.name)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())

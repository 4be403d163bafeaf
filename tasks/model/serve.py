"""`make serve`: an OpenAI-compatible server of the quantized model, by llama.cpp. `python -m tasks.model.serve --help`."""

import argparse
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

from tasks.core.errors import EXIT_USER_ERROR, UserError

MODEL = Path("data/quantize/q8_0/model.gguf")


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
    import xllamacpp

    from tasks.core.execution import load_execution
    from tasks.model.llama_cpp import server_parameters

    settings = server_parameters(model, context_length(model), load_execution().thread_count(1), slots)
    require_free(host, port)
    settings.hostnames, settings.port = [host], port
    settings.model_alias = {name}
    settings.endpoint_metrics = True
    settings.use_jinja = True
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    server = xllamacpp.Server(settings)
    print(f"{model} at {server.listening_address}/v1 (OpenAI chat and completions), {slots} conversations at a time.")
    print("Ctrl-C ends it.", flush=True)
    stop.wait()
    os._exit(0)  # ended by itself, llama.cpp waits for every answer under way, and no signal is heard meanwhile


def context_length(model: Path) -> int:
    """The context that a GGUF model was trained with, in tokens.

    Raises:
        UserError: there is no such file, or it is no GGUF.
    """
    from gguf import GGUFReader

    if not model.is_file():
        raise UserError(f"{model}: no such model. Make it first: make run")
    try:
        field = GGUFReader(model).get_field("llama.context_length")
        return int(field.contents())  # type: ignore[union-attr]
    except (ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(
            f"{model}: no readable GGUF model ({error}). Restore it: dvc checkout --force {model}"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.model.serve", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help=f"a GGUF file (default {MODEL})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no authentication")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--slots", type=int, default=4, help="conversations at a time")
    parser.add_argument("--name", default="textmill", help="the model's name in the API")
    options = parser.parse_args(arguments)
    try:
        serve(options.model, options.host, options.port, options.slots, options.name)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())

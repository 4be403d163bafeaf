"""`make serve`: an OpenAI-compatible server of the quantized model. `python -m tasks.serving --help`.

It ends on SIGTERM or Ctrl-C, once the answers under way are given; at a second one at once.
"""

import argparse
import logging
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.logs import start_log
from tasks.serving.api_keys import KEYS_VARIABLE, read_keys
from tasks.serving.asked_model import asked_model

EXIT_CUT = 143
"""Exit code of a server that a second signal ended (128 + SIGTERM)."""


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal; the exit code.

    Raises:
        UserError: no such model, the address is taken, or it is not this machine's own and there is no key.
    """
    from tasks.core.execution import load_execution
    from tasks.serving.access import Access
    from tasks.serving.admission import Admission
    from tasks.serving.app import make_app
    from tasks.serving.engine import Engine
    from tasks.serving.server import DrainingServer, listening
    from tasks.serving.supervisor import Supervisor

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(EXIT_CUT))  # until the server has its own way of ending
    keys = read_keys(options.api_key, options.api_key_file)
    origins = [origin.rstrip("/") for origin in options.allow_origin]
    access = Access(keys, [name.lower() for name in (options.host, *options.allow_host)], origins)
    with (
        listening(options.host, options.port, open_to_all=not keys) as listener,
        TemporaryDirectory(prefix="textmill-", ignore_cleanup_errors=True) as folder,
    ):
        engine, admission = Engine(asked_model(options.model, Path.cwd()), Path(folder, "llama.sock")), Admission()
        llama = Supervisor(engine, load_execution().thread_count(1), options.slots)
        try:
            llama.begin()
            address = f"http://{options.host}:{listener.getsockname()[1]}/v1"
            print(f"{engine.path} at {address} (OpenAI chat and completions), {options.slots} conversations at a time.")
            print("Ctrl-C ends it.", flush=True)
            server = DrainingServer(make_app(engine, options.name, access, admission), admission, llama)
            server.run([listener])
        finally:
            llama.stop()
    return EXIT_CUT if server.force_exit else 0


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.serving", description=__doc__)
    add = parser.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("--model", help="a GGUF file or a released version (champion, latest, 3); default: the one of data/quantize")
    add("--host", default="127.0.0.1", help="address to listen on; one that other machines reach needs an API key")
    add("--port", type=int, default=8080)
    add("--slots", type=int, default=4, help="conversations at a time")
    add("--name", default="textmill", help="the model's name in the API")
    add(
        "--api-key-file",
        type=Path,
        help=f"API keys, one a line; or in the environment: {KEYS_VARIABLE}, with spaces between",
    )
    add("--api-key", **several, help="an API key; may be given several times. Other users of this machine can see it")
    add("--allow-host", **several, help="a name by which this server is asked, besides localhost and addresses")
    add("--allow-origin", **several, help="a web page that may ask, such as https://chat.example.org; none by default")
    try:
        start_log(logging.WARNING)
        return serve(parser.parse_args(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())

"""llama.cpp listening on a socket in the file system: in this process, or as a program that `make serve` starts.

`python -m tasks.serving.llama_process MODEL SOCKET THREADS SLOTS` ends when its standard input does.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.serving.engine import Engine, Sampling


@contextmanager
def running_llama(engine: Engine, threads: int, slots: int = 1) -> Iterator[None]:
    """Run llama.cpp in this process for `engine`; it answers `slots` prompts at a time.

    The socket gets its name when the model has said a token: whoever finds it finds a model that answers.

    Raises:
        UserError: llama.cpp cannot load the model, or gives no answer.
    """
    import xllamacpp

    from tasks.model.llama_cpp import server_parameters, single_request_threads

    threads = single_request_threads(engine.path, threads) if slots == 1 else threads
    settings = server_parameters(engine.path, engine.model.context, threads, slots)
    starting = Engine(engine.path, engine.socket.with_name("starting.sock"))  # llama.cpp knows sockets by this ending
    settings.hostnames = [str(starting.socket)]
    starting.socket.unlink(missing_ok=True)
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise UserError(f"{engine.path}: llama.cpp cannot load this model ({error})") from None
    list(starting.chunks([engine.encoder.start], Sampling(1)))  # else, ended at once, it waits for itself forever
    starting.socket.rename(engine.socket)
    yield
    del server  # stops it


def main(arguments: list[str]) -> int:
    """Run llama.cpp until standard input ends; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):  # sent to all of a service: the one that started this decides
        signal.signal(number, signal.SIG_IGN)
    model, socket, threads, slots = arguments
    try:
        with running_llama(Engine(Path(model), Path(socket)), int(threads), int(slots)):
            sys.stdin.read()
            os._exit(0)  # ended by itself, llama.cpp waits for every answer under way
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Stop strings in a stream of text."""

from collections.abc import Sequence


class StopBuffer:
    """Lets text through up to the first stop string; holds back only what may be the beginning of one.

    A stop string may begin in one chunk and end in another. At the end of the stream `flush` gives what was held back:
    llama.cpp's own stop strings lose it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held = tuple(stops), ""
        self.stopped = False

    def feed(self, chunk: str) -> str:
        """What of the text so far can be told; after a stop string has come `stopped` is true."""
        text = self._held + chunk
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, now that the stream has ended."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)

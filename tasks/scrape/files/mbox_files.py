"""mbox: a file of e-mail messages (RFC 4155), taken apart. What is in a message, `tasks.clean.readers.mail` reads."""

import re
from collections.abc import Iterator
from pathlib import Path

from tasks.formats.compressed import DamagedFile, FileStream
from tasks.scrape.files.row_documents import ScrapedDocument, unreadable_document

# A time stands in the line: a paragraph that begins with "From " is none, though some writers leave it as it is.
SEPARATOR = re.compile(rb"From [^\n]{0,200}\d\d:\d\d[^\n]{0,50}\r?\n?")
QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


def read_mbox(path: Path, url: str, max_bytes: int) -> Iterator[tuple[str, bytes] | ScrapedDocument]:
    """URL (`<file>#M<number>`) and bytes of each message, its `>From ` lines restored.

    In the place of a message of more than `max_bytes`, and of what is damaged or begins with no separator, stands an
    `ScrapedDocument` with the reason.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    number = 0
    message: list[bytes] | None = None
    size, blank = 0, True

    def done() -> Iterator[tuple[str, bytes] | ScrapedDocument]:
        if message is None:
            return
        where, name = f"{path}, message {number}", f"{url}#M{number}"
        if size > max_bytes:
            yield unreadable_document(where, name, "too_large", f"{where}: more than {max_bytes} bytes")
        elif number == 0:
            if b"".join(message).strip():
                yield unreadable_document(
                    where, url, "no_mbox", f"{path}: does not begin with a line 'From <sender> <date>'"
                )
        elif not any(line.strip() for line in message):
            yield unreadable_document(where, name, "empty", f"{where}: nothing in it")
        else:
            yield name, QUOTED.sub(rb"\1", b"".join(message))

    try:
        for line in _lines(path):
            if blank and SEPARATOR.fullmatch(line):
                yield from done()
                number, message, size = number + 1, [], 0
            else:
                message = [] if message is None else message
                size += len(line)
                if size <= max_bytes:
                    message.append(line)
            blank = not line.strip()
    except DamagedFile as damage:
        yield from done()
        yield unreadable_document(str(path), f"{url}#M{number + 1}", damage.reason, damage.detail)
        return
    yield from done()


def _lines(path: Path) -> Iterator[bytes]:
    """The file's lines with their ends; a line of more than a block comes in pieces."""
    rest = b""
    with FileStream(path) as stream:
        while block := stream.read(1 << 16):
            *whole, rest = (rest + block).splitlines(keepends=True)
            yield from whole
            if len(rest) > 1 << 16 or rest.endswith(b"\n"):
                yield rest
                rest = b""
    if rest:
        yield rest

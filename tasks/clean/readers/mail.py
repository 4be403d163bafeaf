"""E-mail (RFC 5322, MIME): the text of a message, with its subject, sender and date; what is attached is counted."""

import re
from datetime import UTC
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

from tasks.clean.html.extract import extract_with_resiliparse, is_too_complex
from tasks.clean.readers.document_content import DocumentContent, UnreadableDocument
from tasks.formats.encodings.decode import decode_page

TEXTS = ("text/plain", "text/html")
MAX_DEPTH = 20
FLOWED = re.compile(r"(?m)(?<!^--) \r?\n(?!>)")
"""A line that goes on in the next (RFC 3676); that of the signature, "-- ", does not."""


def read(body: bytes, format: str) -> DocumentContent:
    """The text of a message: of alternatives the plain one, else the HTML's; of other parts all that are text.

    Raises:
        UnreadableDocument: no_text (nothing but attachments).
    """
    message = message_from_bytes(body, policy=policy.default)
    texts: list[str] = []
    attachments = _walk(message, format, texts, 0)
    text = "\n\n".join(part for part in (text.strip("\r\n") for text in texts) if part.strip())
    about: dict[str, Any] = {"from": _header(message, "from"), "date": _date(_header(message, "date"))}
    about = {name: value for name, value in about.items() if value}
    if attachments:
        about["attachments"] = attachments
    if not text:
        raise UnreadableDocument("no_text", f"{attachments} attachments and no text")
    return DocumentContent(text, _header(message, "subject"), about)


def _walk(part: Any, format: str, texts: list[str], depth: int) -> int:
    """Collect the texts of a part; returns the number of attachments in it."""
    kind = part.get_content_type()
    if part.is_multipart() and depth < MAX_DEPTH and not _is_attached(part):
        parts = [child for child in part.get_payload() if hasattr(child, "get_content_type")]
        if kind == "multipart/alternative":
            parts = sorted(parts, key=_preference)[:1]
        return sum(_walk(child, format, texts, depth + 1) for child in parts)
    is_text = kind in TEXTS or kind.startswith("multipart/")  # parts between which no border stands are one text
    if not is_text or _is_attached(part) or part.is_multipart():
        return 1
    payload = part.get_payload(decode=True) or b""
    text = decode_page(payload, part.get_content_charset("") or "", kind == "text/html").text
    if kind == "text/html":
        if is_too_complex(text):
            return 1
        text = extract_with_resiliparse(text, False, (), format)[0]
    elif str(part.get_param("format", "")).lower() == "flowed":
        text = FLOWED.sub("" if str(part.get_param("delsp", "")).lower() == "yes" else " ", text)
    texts.append(text)
    return 0


def _preference(part: Any) -> int:
    """Of alternatives, plain text comes first; then what has text in it, such as multipart/related, then HTML."""
    kind = part.get_content_type()
    return TEXTS.index(kind) if kind in TEXTS else 1 if part.is_multipart() else 2


def _is_attached(part: Any) -> bool:
    return bool(str(part.get("content-disposition", "")).lower().lstrip().startswith("attachment"))


def _header(message: EmailMessage, name: str) -> str:
    """The value of a header, encoded words decoded; broken ones as they stand there."""
    try:
        value = str(message.get(name) or "")
    except Exception:  # the parser of headers raises many kinds
        value = next((str(value) for key, value in message.raw_items() if key.lower() == name), "")
    return " ".join(value.encode("utf-8", "replace").decode().split())


def _date(text: str) -> str:
    """ISO 8601 in UTC where the date is one, else as it stands."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return text

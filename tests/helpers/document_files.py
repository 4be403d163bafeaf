"""Documents made by hand, as small as their formats allow: PDF, EPUB, Word, LaTeX, e-mail."""

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any

import docx

FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)


def lines(text: str) -> bytes:
    """A page's content: lines of text from the top."""
    shown = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in text.split("\n")]
    return b"BT /F 12 Tf 14 TL 50 780 Td %s ET" % b" ".join(b"(%s) Tj T*" % line.encode("cp1252") for line in shown)


def pdf(
    pages: Sequence[str | bytes], more: Sequence[bytes] = (), trailer: bytes = b"", resources: bytes = b""
) -> bytes:
    """A PDF with these pages (text, or content streams). `more` are further objects: the first has number 4."""
    first = 4 + len(more)
    kids = b" ".join(b"%d 0 R" % (first + 2 * n) for n in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/Outlines 4 0 R>>"
        if more and b"/First" in more[0]
        else b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), kids),
        FONT,
        *more,
    ]
    for number, page in enumerate(pages):
        content = lines(page) if isinstance(page, str) else page
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 3 0 R>>%s>>/Contents %d 0 R>>"
            % (resources, first + 2 * number + 1)
        )
        objects.append(stream(content))
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, len(body))
    return body + head + table + end


def locked_pdf() -> bytes:
    """A PDF that wants a password (standard security handler, 40 bits)."""
    owner = b"<%s>" % (b"41" * 32)
    encrypt = b"/Encrypt<</Filter/Standard/V 1/R 2/O %s/U %s/P -4>>/ID[<41><41>]" % (owner, owner)
    return pdf(["secret"], trailer=encrypt)


def swelling_pdf() -> bytes:
    """Forms that show ten of the next each, thirty deep: reading it to the end has no end."""
    depth = 30
    forms = [
        stream(
            b"/X Do " * 10 if n < depth - 1 else lines("x"),
            b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</Font<</F 3 0 R>>/XObject<</X %d 0 R>>>>" % (5 + n),
        )
        for n in range(depth)
    ]
    return pdf([b"/X Do"], forms, resources=b"/XObject<</X 4 0 R>>")


CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'


def epub(chapters: dict[str, str], spine: Sequence[str] | None = None, nav: str = "", **more: str) -> bytes:
    """A book of XHTML bodies by name, in the order of the spine; `more`: further files by name."""
    items = "".join(f'<item id="{n}" href="{n}.xhtml" media-type="application/xhtml+xml"/>' for n in chapters)
    items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>' * bool(nav)
    order = "".join(f'<itemref idref="{n}"/>' for n in (spine or chapters))
    opf = f"""<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>The Mill</dc:title><dc:creator>Ann Miller</dc:creator></metadata>
<manifest>{items}</manifest><spine>{order}</spine></package>"""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", opf)
        for name, body in chapters.items():
            page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head><body>{body}</body></html>'
            archive.writestr(f"OEBPS/{name}.xhtml", page)
        if nav:
            archive.writestr("OEBPS/nav.xhtml", f"<html><body><nav>{nav}</nav></body></html>")
        for name, content in more.items():
            archive.writestr(name, content)
    return out.getvalue()


PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."


def word(build: Any) -> bytes:
    made = docx.Document()
    build(made)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


BOOK = {"one": f"<h1>First</h1><p>{PROSE}</p>", "two": "<p>The second &amp; last.</p>"}
PAPER = r"""\documentclass{article} % not text
\newcommand{\mill}{the mill}
\title{On \emph{mills}} \author{Ann {\"O}st}
\begin{document} \maketitle
They grind 5\% of the grain, see \cite{ann24} and Eq.~\ref{e}. % a comment
\section[short]{Of $n$ stones {in} braces}
\begin{equation} E = mc^2 \end{equation}
\begin{itemize}\item wheat \item rye\end{itemize}
\begin{lstlisting}[language=Python]
def f(x):
    return x % 2
\end{lstlisting}
\subsection*{Links} \href{http://x.org/}{a link} \input{/etc/passwd} \today
\begin{figure}\includegraphics[width=3cm]{a.png}\caption{A picture.}\end{figure}
\end{document} after"""


def message(**options: Any) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["Date"] = "J\u00f6rg <joerg@mill.org>", "Thu, 26 Nov 2026 13:00:00 +0100"
    made["Subject"] = "Gr\u00fc\u00dfe"
    return made

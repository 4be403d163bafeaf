"""LaTeX by pylatexenc: the text of the document's body, formulas as they are written, section by section."""

import re
from functools import cache
from typing import Any

from tasks.clean.readers.document_content import MAX_CHARACTERS, DocumentContent
from tasks.documents.sections import TextBuilder
from tasks.formats.encodings.decode import decode_page

LEVELS = ("part", "chapter", "section", "subsection", "subsubsection")
HEADING = re.compile(rf"^[ \t]*\\({'|'.join(LEVELS)})\*?[ \t]*+(?:\[[^\]\n]*\])?[ \t]*\{{", re.MULTILINE)
BODY = re.compile(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", re.DOTALL)
GIVEN = {name: re.compile(rf"^[^%\n]*\\{name}[ \t]*\{{", re.MULTILINE) for name in ("title", "author")}
LISTING = re.compile(r"\\(begin|end)\{(?:lstlisting|minted|[BL]?Verbatim)\*?\}(?:\[[^\]\n]{0,1000}\])?(?:\{\w+\})?")
"""Environments of code, which the parser knows as `verbatim`."""


def read(body: bytes, format: str) -> DocumentContent:
    """The text of the document environment, or all of it where there is none. Files that it names are not looked for."""
    source = LISTING.sub(r"\\\1{verbatim}", decode_page(body, html=False).text)
    inside = found.group(1) if (found := BODY.search(source)) else source
    built = TextBuilder(MAX_CHARACTERS)
    at = 0
    headings = list(HEADING.finditer(inside))
    for heading, following in zip([None, *headings], [*headings, None], strict=True):
        if heading:
            title, at = _braced(inside, heading.end())
            title = " ".join(_text(title).split())
            built.begin("sections", title)
            level = max(LEVELS.index(heading.group(1)) - 1, 0) + 1
            built.add(f"{'#' * level} {title}" if format == "markdown" else title)
        built.add(_text(inside[at : following.start() if following else len(inside)]))
    given = {
        name: " ".join(_text(_braced(source, match.end())[0]).split())
        for name, pattern in GIVEN.items()
        if (match := pattern.search(source))
    }
    return DocumentContent(built.text, given.pop("title", ""), {**given, **built.offsets})


def _braced(source: str, start: int) -> tuple[str, int]:
    """What stands up to the brace that closes the one before `start`, and where that ends."""
    depth, at = 1, start
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(source, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        at = match.end()
        if not depth:
            return source[start : match.start()], at
    return source[start:at], at


def _text(source: str) -> str:
    from pylatexenc.latexwalker import LatexWalker

    parse, writer = _contexts()
    nodes, _, _ = LatexWalker(source, latex_context=parse, tolerant_parsing=True).get_latex_nodes()
    text: str = writer.nodelist_to_text(nodes)
    return text.strip()


@cache
def _contexts() -> tuple[Any, Any]:
    """What the parser and the writer know of LaTeX: their own, and what is missing or would not be text there."""
    from pylatexenc import latex2text, latexwalker, macrospec

    parse = latexwalker.get_default_latex_context_db()
    parse.add_context_category(
        "textmill",
        macros=[macrospec.MacroSpec("href", "{{"), macrospec.MacroSpec("caption", "[{")],
        environments=[macrospec.EnvironmentSpec("tabular", "[{"), macrospec.EnvironmentSpec("tabularx", "{{")],
        prepend=True,
    )
    say = latex2text.get_default_latex_context_db()
    references = ("cite", "citet", "citep", "ref", "eqref", "autoref", "cref", "pageref")
    say.add_context_category(
        "textmill",
        macros=[
            *(latex2text.MacroTextSpec(name, _named) for name in references),
            latex2text.MacroTextSpec("href", lambda node, l2tobj: _argument(node, l2tobj, 1)),
            latex2text.MacroTextSpec("caption", lambda node, l2tobj: f"\n{_argument(node, l2tobj, 1)}\n"),
            *(
                latex2text.MacroTextSpec(name, "")
                for name in ("includegraphics", "today", "maketitle", "input", "include")
            ),
        ],
        environments=[latex2text.EnvironmentTextSpec("verbatim", simplify_repl=_verbatim)],
        prepend=True,
    )
    return parse, latex2text.LatexNodes2Text(latex_context=say, math_mode="verbatim", strict_latex_spaces=True)


def _argument(node: Any, writer: Any, number: int) -> str:
    given = node.nodeargd.argnlist if node.nodeargd else []
    return str(writer.nodelist_to_text([given[number]])) if len(given) > number and given[number] else ""


def _named(node: Any, l2tobj: Any) -> str:
    """A reference by its key, in brackets."""
    given = [argument for argument in (node.nodeargd.argnlist if node.nodeargd else []) if argument is not None]
    return f"[{l2tobj.nodelist_to_text([given[-1]])}]" if given else ""


def _verbatim(node: Any, l2tobj: Any) -> str:
    text = getattr(node.nodeargd, "verbatim_text", None)
    return f"\n{(text or '').strip(chr(10))}\n"

"""What a file is, by its name: the kinds that `scrape` reads."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from tasks.core.errors import UserError
from tasks.formats.compressed import CODECS, format_suffix

Format = Literal[
    "jsonl", "json", "csv", "tsv", "parquet", "text", "markdown", "code", "html", "latex", "pdf", "docx", "epub",
    "mail", "mbox",
]  # fmt: skip
FORMATS: tuple[Format, ...] = get_args(Format)

LANGUAGES: dict[str, str] = {
    **dict.fromkeys((".adb", ".ads"), "Ada"),
    **dict.fromkeys((".c", ".h"), "C"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), "C++"),
    **dict.fromkeys((".clj", ".cljs"), "Clojure"),
    **dict.fromkeys((".ex", ".exs"), "Elixir"),
    **dict.fromkeys((".f", ".f90", ".f95", ".for"), "Fortran"),
    **dict.fromkeys((".js", ".jsx", ".mjs"), "JavaScript"),
    **dict.fromkeys((".kt", ".kts"), "Kotlin"),
    **dict.fromkeys((".ml", ".mli"), "OCaml"),
    **dict.fromkeys((".pl", ".pm"), "Perl"),
    **dict.fromkeys((".py", ".pyi"), "Python"),
    **dict.fromkeys((".sh", ".bash", ".zsh"), "Shell"),
    **dict.fromkeys((".ts", ".tsx"), "TypeScript"),
    ".css": "CSS",
    ".cs": "C#",
    ".cu": "CUDA",
    ".dart": "Dart",
    ".el": "Emacs Lisp",
    ".erl": "Erlang",
    ".fs": "F#",
    ".go": "Go",
    ".groovy": "Groovy",
    ".hs": "Haskell",
    ".java": "Java",
    ".jl": "Julia",
    ".lisp": "Common Lisp",
    ".lua": "Lua",
    ".nim": "Nim",
    ".pas": "Pascal",
    ".php": "PHP",
    ".ps1": "PowerShell",
    ".r": "R",
    ".rb": "Ruby",
    ".rs": "Rust",
    ".scala": "Scala",
    ".scm": "Scheme",
    ".sql": "SQL",
    ".swift": "Swift",
    ".v": "Verilog",
    ".vhd": "VHDL",
    ".zig": "Zig",
}
"""Suffix of source code → its language."""

SUFFIXES: dict[str, Format] = {
    **dict.fromkeys(LANGUAGES, "code"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".text", ".rst"), "text"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".tex", ".latex"), "latex"),
    ".pdf": "pdf",
    ".docx": "docx",
    ".epub": "epub",
    ".eml": "mail",
    **dict.fromkeys((".mbox", ".mbx"), "mbox"),
}
MEDIA_TYPES: dict[Format, str] = {
    "html": "text/html",
    "latex": "text/x-tex",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "epub": "application/epub+zip",
    "mail": "message/rfc822",
    "mbox": "message/rfc822",  # of each message in it
}
"""The kinds that are kept as they are, as pages: what becomes text of them is the work of `clean`."""

PACKAGES: dict[Format, tuple[str, str]] = {
    "pdf": ("pypdfium2", "pypdfium2"),
    "docx": ("docx", "python-docx"),
    "latex": ("pylatexenc", "pylatexenc"),
}
"""The module that reads a kind, and its name on PyPI: the extra `documents`."""


def format_of(path: Path, wanted: str) -> Format | None:
    """The kind of a file: `wanted`, or by its suffix if that is `auto`; None where that is unknown."""
    return SUFFIXES.get(format_suffix(path)) if wanted == "auto" else wanted  # type: ignore[return-value]


def known_suffixes() -> str:
    """The known suffixes, in words."""
    return f"{', '.join(sorted(SUFFIXES))}, {', '.join(CODECS)} behind it if it is compressed"


def require_package(kind: Format, where: str) -> None:
    """Check that the package that reads files of this kind is there.

    Raises:
        UserError: it is not; says how to install it.
    """
    if (needed := PACKAGES.get(kind)) and find_spec(needed[0]) is None:
        raise UserError(
            f"{where}: {kind} files are read by the package {needed[1]}, which is missing. Install the extra "
            f"`documents` of pyproject.toml: pip install {' '.join(name for _, name in PACKAGES.values())}"
        )

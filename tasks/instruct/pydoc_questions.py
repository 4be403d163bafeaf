"""Questions and answers out of Python's documentation pages (pydoc): a name, and the first sentence said about it.

Nothing is made up: the answer is the documentation's own sentence, the question only names its subject. Pages of another
shape give no questions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.held_out.split import fraction_of

TEMPLATES = {
    "function": ("What does {name} do?", "What is {name} for?", "Explain {name} in one sentence."),
    "class": ("What is {name}?", "What is the class {name} for?", "Explain {name} in one sentence."),
    "module": ("What is the module {name}?", "What is the module {name} for?", "What does the module {name} offer?"),
}
SECTION_HEADINGS = {"Modules", "Package Contents", "Classes", "Functions", "Data", "Submodules"}
MAX_ANSWER_CHARACTERS = 300
"""Characters; what is longer is no first sentence but a list or a table."""
MAX_HEADING_CHARACTERS = 2000
"""Characters of a line that can be a class, a signature or the head of a list of members."""
HEAD_LINES = 12
"""Lines at the top of a page within which its head ends."""

_MODULE = re.compile(r"/([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)\.html$")
_CLASS = re.compile(r"(?:(\w+) = )?class (\w+)(?:\(.*\))?$")
_CALL = re.compile(r"(?:async )?([A-Za-z_]\w*)\((.*?)\)(?: -> .+)?(?: from [\w.]+)?(?: method of [\w.]+ instance)?$")
_MEMBERS = re.compile(r"[A-Z][\w ]+ (defined here|inherited from .+):$")
_SENTENCE = re.compile(r"(.+?[.!?])(?=\s+[A-Z(\"'`]|\s*$)")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|resp|approx)\.$")


@dataclass(frozen=True)
class PydocQuestion:
    """`kind` is a key of TEMPLATES; `name` is what is asked about, with its module."""

    kind: str
    name: str
    answer: str

    @property
    def text(self) -> str:
        """The question, in words chosen by the name's hash."""
        templates = TEMPLATES[self.kind]
        return templates[int(fraction_of(self.name, "question") * len(templates))].format(name=self.name)


def pydoc_questions(url: str | None, text: str) -> list[PydocQuestion]:
    """The questions that a page answers; none where it is no page of pydoc about a public module."""
    try:
        found = _MODULE.search(urlsplit(url or "").path)
    except ValueError:  # as of http://[
        return []
    lines = [" ".join(line.split()) for line in text.splitlines()]
    if (
        not found
        or found[1].split(".")[0] in ("test", "index", "topics", "keywords")
        or not SECTION_HEADINGS & set(lines)
    ):
        return []
    unique: dict[str, PydocQuestion] = {}
    for kind, name, documentation in _entries(lines, found[1]):
        if (answer := first_sentence(documentation, name)) is not None:
            unique.setdefault(name, PydocQuestion(kind, name, answer))
    return list(unique.values())


def _entries(lines: list[str], module: str) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, full name and documentation of what the page defines itself and names without a leading underscore."""
    first = next(number for number, line in enumerate(lines) if line in SECTION_HEADINGS)
    head = [number for number, line in enumerate(lines[: min(first, HEAD_LINES)]) if _is_head(line, module)]
    if head:
        yield "module", module, lines[head[-1] + 1 : first]
    section, owner, members, last = "", "", "", ""
    entry: tuple[str, str, list[str]] | None = None
    for line in lines[first:]:
        heading, following = True, None
        if len(line) > MAX_HEADING_CHARACTERS:
            heading = False
        elif line in SECTION_HEADINGS:
            section, owner, members, last = line, "", "", ""
        elif section == "Classes" and (match := _CLASS.match(line)):
            owner, members, last = match[1] or match[2], "", ""
            following = ("class", f"{module}.{owner}")
        elif owner and (match := _MEMBERS.match(line)):
            members, last = match[1], ""
        elif (section == "Functions" or members) and (match := _CALL.match(line)) and match[1] >= last:
            last = match[1]  # pydoc sorts by name, so what goes back is text that looks like a call
            if section == "Functions" or members == "defined here":
                following = ("function", ".".join(filter(None, (module, owner, last))))
        elif line != "Method resolution order:":
            heading = False
        if heading:
            if entry:
                yield entry
            entry = (*following, []) if following and not following[1].split(".")[-1].startswith("_") else None
        elif entry:
            entry[2].append(line)
    if entry:
        yield entry


def _is_head(line: str, module: str) -> bool:
    """Whether a line belongs to the head of a page: the module's name with its version, its file, its reference."""
    leads_on = line.removeprefix(module)
    return (
        line == "Module Reference"
        or line.endswith((".py", "(built-in)"))
        or (leads_on != line and (not leads_on or leads_on.startswith((" (version", " index"))))
    )


def first_sentence(lines: list[str], name: str) -> str | None:
    """The first sentence of a documentation text, without the signature that may lead it; None if there is none.

    It begins with a capital letter, has at least three words and at most MAX_ANSWER_CHARACTERS characters.
    """
    short = name.rpartition(".")[2]
    said: list[str] = []
    for line in lines:
        if not said and (not line or line.startswith(f"{short}(") or line == "--"):
            continue
        if not line or line == "--":
            break
        said.append(line)
    whole, match = " ".join(said), None
    paragraph = whole[: MAX_ANSWER_CHARACTERS + 2]  # what ends later is too long
    for match in _SENTENCE.finditer(paragraph):
        if not _ABBREVIATION.search(match[1]):
            break
    else:
        match = None if len(paragraph) < len(whole) else match
    if match is None:
        return None
    sentence = paragraph[: match.end(1)]
    good = sentence[0].isupper() and len(sentence.split()) >= 3 and len(sentence) <= MAX_ANSWER_CHARACTERS
    return sentence if good and ">>>" not in sentence and "->" not in sentence else None

"""Text that a regular expression takes longest over, made from its own parts: what each repeat repeats, without end.

A pattern costs more than its text's length where it goes over the same characters from many places (a run looked at from
each of its beginnings) or in many ways (two repeats that may share a run between them). Both show on a text that repeats
what a repeat accepts, and then does not go on as the pattern wants (Davis et al. 2018, doi:10.1145/3236024.3236027).
"""

import ast
import importlib
import pkgutil
import re
import re._constants as sre
import re._parser as parser
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from tasks.instruct.pydoc_questions import MAX_ANSWER_CHARACTERS, MAX_HEADING_CHARACTERS
from tests.helpers.checkout import ROOT

PACKAGES = ("tasks", "flows")
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
FROM_THE_START = {"match", "fullmatch"}
METHODS = ("match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
TRIED = "".join(map(chr, (*b"az09AZ -./:;,\"'<>()[]{}=&@#%\\_+\t\n\r!", 1, *range(0xA0, 0x180), 0x301, 0x200B, 0x4E00)))
KINDS = {sre.CATEGORY_DIGIT: str.isdecimal, sre.CATEGORY_SPACE: str.isspace, sre.CATEGORY_WORD: str.isidentifier}
INVERSE = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
}
AT_MOST = {
    "tasks.instruct.pydoc_questions: _MEMBERS": MAX_HEADING_CHARACTERS,
    "tasks.instruct.pydoc_questions: _SENTENCE": MAX_ANSWER_CHARACTERS + 2,
}
"""Characters of the longest text that these are ever given; all others meet texts of any length."""
Tree = Iterable[tuple[Any, Any]]


def attacks(pattern: re.Pattern[Any]) -> list[tuple[str, str, str]]:
    """(before, unit, after): texts are before, the unit repeated to the length that is wanted, and after."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = parser.parse(source, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags)
    wholes = [_example(tree, choice) for choice in range(4)]
    units = {("", unit) for unit in (*wholes, *wholes[0])}
    for before, unit in _repeated(tree):
        units |= {(before, unit), ("", unit), ("", before + unit), ("", before + unit * 20)}
    return [(before, unit, after) for before, unit in sorted(units) if unit for after in ("", "\0", "!\n")]


def _repeated(tree: Tree, before: str = "") -> Iterator[tuple[str, str]]:
    """For each repeat an example of what stands before it, and of what it repeats."""
    for kind, value in tree:
        if kind in REPEATS:
            yield from ((before, _example(value[2], choice)) for choice in range(3))
            yield from _repeated(value[2], before)
        else:
            for inner in _inner(kind, value):
                yield from _repeated(inner, before)
        before += _piece(kind, value, 0)


def _inner(kind: Any, value: Any) -> list[Tree]:
    if kind is sre.BRANCH:
        return list(value[1])
    if kind is sre.SUBPATTERN:
        return [value[3]]
    if kind is sre.ATOMIC_GROUP:
        return [value]
    return [value[1]] if kind in (sre.ASSERT, sre.ASSERT_NOT) else []


def _example(tree: Tree, choice: int) -> str:
    """A short string that the tree matches, lookarounds aside; `choice` picks among alternatives."""
    return "".join(_piece(kind, value, choice) for kind, value in tree)


def _piece(kind: Any, value: Any, choice: int) -> str:
    if kind is sre.LITERAL:
        return chr(value)
    if kind in (sre.NOT_LITERAL, sre.ANY, sre.IN):
        wanted = [(sre.NEGATE, None), (sre.LITERAL, value)] if kind is sre.NOT_LITERAL else value
        return "a" if kind is sre.ANY else _member(wanted)
    if kind in REPEATS:
        return _example(value[2], choice) * max(value[0], 1 - choice % 2)
    inner = _inner(kind, value) if kind not in (sre.ASSERT, sre.ASSERT_NOT) else []
    return _example(inner[choice % len(inner)], choice) if inner else ""


def _member(items: list[tuple[Any, Any]]) -> str:
    """A character of a set."""
    ends = "".join(
        chr(value if kind is sre.LITERAL else value[0]) for kind, value in items if kind in (sre.LITERAL, sre.RANGE)
    )
    return next((character for character in TRIED + ends if _has(items, character)), "a")


def _has(items: list[tuple[Any, Any]], character: str) -> bool:
    inverted = items[0][0] is sre.NEGATE
    return inverted != any(_is(kind, value, character) for kind, value in items[inverted:])


def _is(kind: Any, value: Any, character: str) -> bool:
    if kind is sre.LITERAL:
        return ord(character) == value
    if kind is sre.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    if value in INVERSE:
        return not _is(kind, INVERSE[value], character)
    return bool(KINDS[value](f"a{character}" if value is sre.CATEGORY_WORD else character))


@cache
def patterns() -> dict[str, tuple[re.Pattern[Any], frozenset[str]]]:
    """Every pattern of the code base by its name, with the methods by which it is used; {"finditer"} where that is not seen.

    Those are the ones that modules hold, also in their tables, and those written out where they are used.
    """
    found: dict[str, tuple[re.Pattern[Any], frozenset[str]]] = {}
    known: set[str | bytes] = set()
    sources = {path: path.read_text("utf-8") for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
    uses = defaultdict(set)  # in a module, and, under "", in all
    for path, source in sources.items():
        for name, method in re.findall(rf"\b(\w+)\.({'|'.join(METHODS)})\(", source):
            uses[".".join(path.relative_to(ROOT).with_suffix("").parts), name].add(method)
            uses["", name].add(method)
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not module.name.endswith("__main__"):
                for name, value in vars(importlib.import_module(module.name)).items():
                    used = frozenset(uses[module.name, name] or uses["", name] or {"finditer"})
                    for place, pattern in _held(value, name):
                        known.add(pattern.pattern)
                        found.setdefault(f"{module.name}: {place}", (pattern, used))
    for path, source in sources.items():
        for call in ast.walk(ast.parse(source)):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="re"), attr=method), args=[ast.Constant(value=text), *_]
                ) if text not in known and method != "escape":
                    flags = re.MULTILINE if "re.M" in ast.unparse(call) else 0
                    found.setdefault(
                        f"{path.relative_to(ROOT)}: {text!r}", (re.compile(text, flags), frozenset({method}))
                    )
    once: dict[tuple[Any, int, frozenset[str]], str] = {}
    for name, (pattern, used) in found.items():
        once.setdefault((pattern.pattern, pattern.flags, used), name)
    return {name: found[name] for name in once.values()}


def _held(value: Any, name: str) -> Iterator[tuple[str, re.Pattern[Any]]]:
    if isinstance(value, re.Pattern):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _held(inner, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _held(inner, f"{name}[{place}]")


def seconds(name: str, attack: tuple[str, str, str], size: int) -> float:
    """Processor time of a pattern, used as the code uses it, on an attack of about `size` characters."""
    pattern, used = patterns()[name]
    before, unit, after = attack
    text = before + unit * (min(size, AT_MOST.get(name, size)) // len(unit)) + after
    subject = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
    began = time.process_time()
    if used <= FROM_THE_START:
        for method in used:
            getattr(pattern, method)(subject)
    else:
        for _ in pattern.finditer(subject):
            pass
    return time.process_time() - began

"""Formulas of a page as TeX, once: what KaTeX, MathJax and MediaWiki show is there twice, for the eye and in MathML.

The TeX that a page carries with its MathML (annotation, alttext) is taken as it is; other MathML is written on one line.
"""

import re
from typing import Any

SHOWN = ".katex, .mwe-math-element, mjx-container, .MathJax"
"""Whatever one of these holds besides the MathML is the same formula once more."""
WIKI = re.compile(r"\{\\(?:display|text)style (.*)\}", re.DOTALL)
DEEPEST = 50


def replace_formula(tree: Any, math: Any, dollars: bool) -> None:
    """Put text in the place of a `math` element of resiliparse's tree, and of what shows it once more."""
    tex = _tex(math)
    text = _linear(math) if tex is None else tex
    if tex is not None:
        block = math.getattr("display") == "block" or math.closest(".katex-display") is not None
        before, after = (
            (("$$", "$$") if block else ("$", "$")) if dollars else ("\\[", "\\]") if block else ("\\(", "\\)")
        )
        text = f"{before}{text}{after}"
    (math.closest(SHOWN) or math).replace_with(tree.create_text_node(text))


def _tex(math: Any) -> str | None:
    annotation = math.query_selector("annotation[encoding='application/x-tex'], annotation[encoding='TeX']")
    tex = annotation.text if annotation is not None else math.getattr("alttext")
    if not tex or not tex.strip():
        return None
    tex = " ".join(tex.split())
    return whole[1].strip() if (whole := WIKI.fullmatch(tex)) else tex


def _linear(node: Any, depth: int = 0) -> str:
    """MathML on one line, with the signs that TeX and people at a keyboard use: x^2, a_i, (a+b)/c, sqrt(x)."""
    if not node.has_child_nodes() or depth > DEEPEST:
        return " ".join((node.text or "").split())
    tag = node.tag
    if tag in ("annotation", "annotation-xml", "none", "mprescripts"):
        return ""
    parts = [part for child in node.child_nodes[:] if (part := _linear(child, depth + 1))]
    match tag, parts:
        case "msup" | "mover", [base, high]:
            return f"{base}^{_group(high)}"
        case "msub" | "munder", [base, low]:
            return f"{base}_{_group(low)}"
        case "msubsup" | "munderover", [base, low, high]:
            return f"{base}_{_group(low)}^{_group(high)}"
        case "mfrac", [over, under]:
            return f"{_group(over)}/{_group(under)}"
        case "mroot", [radicand, degree]:
            return f"{_group(radicand)}^(1/{degree})"
        case "msqrt", _:
            return f"sqrt({''.join(parts)})"
        case "mtr", _:
            return ", ".join(parts)
        case "mtable", _:
            return "; ".join(parts)
    return "".join(parts)


def _group(text: str) -> str:
    return text if re.fullmatch(r"[\d.]+|\w", text) else f"({text})"

"""LaTeX: what is set in type, without commands, comments and files of elsewhere."""

from tests.helpers.document_files import PAPER
from tests.helpers.reading_documents import at, read


def test_latex() -> None:
    content = read("latex", PAPER)
    assert content.text.startswith("They grind 5% of the grain, see [ann24] and Eq.\xa0[e].")
    assert "E = mc^2" in content.text
    assert "def f(x):\n    return x % 2\n" in content.text
    assert "* wheat" in content.text
    assert "A picture." in content.text
    assert "a link" in content.text
    for gone in ("a comment", "not text", "after", "root:", "202", "short"):
        assert gone not in content.text
    assert at(content) == {"Of $n$ stones in braces": "Of", "Links": "Links"}
    assert (content.title, content.meta["author"]) == ("On mills", "Ann \u00d6st")
    assert "## Links\n" in read("latex", PAPER, "markdown").text
    assert read("latex", r"no document, \textbf{bold} --- but text").text == "no document, bold \u2014 but text"

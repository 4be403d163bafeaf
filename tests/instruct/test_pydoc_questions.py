"""Questions and answers out of pages of pydoc: what the page says, and nothing that it does not."""

import pytest

from tasks.instruct.pydoc_questions import pydoc_questions
from tests.helpers.instructing import PAGE


def test_questions_of_a_documentation_page():
    found = {question.name: question.answer for question in pydoc_questions("http://127.0.0.1:1/shelf.html", PAGE)}
    assert found == {
        "shelf": "Keeps books on shelves.",
        "shelf.Shelf": "A place where books stand, e.g. Novels and poems.",
        "shelf.Shelf.close": "Put the books away.",
        "shelf.Shelf.open": "Open the shelf with both hands.",
        "shelf.burn": "Never do this to a book!",
        "shelf.count": "Return how many books the given shelves hold.",
        "shelf.zip": "Return a zip.",
    }
    texts = [question.text for question in pydoc_questions("http://127.0.0.1:1/shelf.html", PAGE)]
    assert all(name in text for name, text in zip(found, texts, strict=True))


@pytest.mark.parametrize("url", ["http://x/shelf.txt", "http://x/", "http://x/_shelf.html", "file:shelf", None])
def test_nothing_is_invented_for_other_pages(url):
    assert pydoc_questions(url, PAGE) == []
    assert pydoc_questions("http://x/shelf.html", "Functions are nice. burn(book)\nIt says so.") == []


def test_real_pydoc_pages():
    import pydoc

    from resiliparse.extract.html2text import extract_plain_text

    name, html = "json", pydoc.html.page("json", pydoc.html.document(__import__("json"), "json"))
    found = {
        question.name: question.answer
        for question in pydoc_questions(f"http://x/{name}.html", extract_plain_text(html))
    }
    assert found["json.dumps"] == "Serialize ``obj`` to a JSON formatted ``str``."  # json.dumps.__doc__
    assert "json.load" in found

"""Places of pages and sections move with the text that is changed around them."""

import json

from tasks.documents.sections import map_sections, meta_without_lines


def test_places_move_with_the_text() -> None:
    text = "one   \n\n\ntwo\nthree \n\nfour"
    meta = {"pages": [[0, "1"], [9, "2"], [21, "3"]], "sections": [[13, "of three"]]}
    new = map_sections(text, meta, lambda part: "\n".join(line.rstrip() for line in part.split("\n")).strip("\n"))
    assert new == "one\n\ntwo\nthree\n\nfour"
    assert [(new[start:][:3], label) for start, label in meta["pages"]] == [("one", "1"), ("two", "2"), ("fou", "3")]
    assert [new[start:] for start, _ in meta["sections"]] == ["three\n\nfour"]
    kept = json.loads(meta_without_lines(json.dumps(meta), new, "one\n\nthree\n\nfour") or "")
    assert kept["pages"] == [[0, "1"], [5, "2"], [12, "3"]]
    theirs = json.dumps({"pages": 12, "sections": [["a", 1]]})
    assert meta_without_lines(theirs, "a\nb", "b") == theirs
    assert map_sections("a", json.loads(theirs), str.upper) == "A"

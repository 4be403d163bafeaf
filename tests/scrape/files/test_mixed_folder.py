"""A folder as people have it: every file is read, or is in `removed` with the reason why not."""

import csv
import gzip
import io
import json
import mailbox
import shutil
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.formats import file_kinds
from tasks.scrape.files.csv_files import read_csv
from tasks.scrape.files.file_reader import find_files
from tasks.scrape.files.row_documents import Columns, WrongColumns
from tests.helpers.scraping import files, pages, rows, scrape

NOTE = "A note about the mill by the river, with enough words in it to be kept by the cleaner."


pytestmark = pytest.mark.usefixtures("corpus")


def reasons(outputs: Any) -> dict[str, str]:
    return {row["url"]: row["reason"] for row in rows(outputs, "removed")}


def fill(folder: Path) -> None:
    (folder / "B.TXT").write_text(NOTE)
    (folder / "a.txt").write_text(NOTE)
    (folder / "m.py").write_text(f"# {NOTE}\n\n\ndef grind():\n    return 1\n")
    (folder / "d.json").write_text(json.dumps([{"text": NOTE, "n": 1}, {"text": NOTE + "2"}]))
    (folder / "f.csv").write_text(f'id,text\n1,"{NOTE}"\n')
    (folder / "noext").write_text(NOTE)
    (folder / "k.srt").write_text(NOTE)
    (folder / "l.xml").write_text(f"<a>{NOTE}</a>")
    (folder / "p.txt.zip").write_bytes(b"PK\3\4")
    (folder / "o.json.gz").write_bytes(b"x")
    (folder / "sub").mkdir()
    (folder / "sub" / "i.txt.gz").write_bytes(gzip.compress(NOTE.encode()))
    (folder / ".hidden.txt").write_text(NOTE)
    (folder / ".git").mkdir()
    (folder / ".git" / "description.txt").write_text(NOTE)


@pytest.mark.parametrize("pattern", ["corpus", "corpus/**"])
def test_every_file_is_read_or_named_with_its_reason(
    corpus: Path, tmp_path: Path, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(corpus)
    _, outputs = scrape(tmp_path, files(pattern))
    assert [row["url"] for row in rows(outputs)] == [
        "file:corpus/B.TXT",
        "file:corpus/a.txt",
        "file:corpus/d.json#R1",
        "file:corpus/d.json#R2",
        "file:corpus/f.csv#L2",
        "file:corpus/m.py",
        "file:corpus/sub/i.txt.gz",
    ]
    assert reasons(outputs) == {
        "file:corpus/k.srt": "unknown_kind",
        "file:corpus/l.xml": "unknown_kind",
        "file:corpus/noext": "unknown_kind",
        "file:corpus/p.txt.zip": "unknown_kind",
        "file:corpus/o.json.gz": "truncated_file",
    }
    assert "suffix '.xml'" in next(r["detail"] for r in rows(outputs, "removed") if r["url"].endswith(".xml"))
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "4 files are of a kind that is not read: .srt 1, .xml 1, no suffix 1, .zip 1" in warning


def test_a_file_of_unknown_kind_that_is_named_alone_is_an_error(corpus: Path, tmp_path: Path) -> None:
    fill(corpus)
    with pytest.raises(UserError, match=r"l\.xml: the suffix '\.xml' does not tell the kind.*Set format"):
        scrape(tmp_path, files("corpus/a.txt", "corpus/l.xml"))
    _, outputs = scrape(tmp_path, files("corpus/noext", format="text"))
    assert [row["text"] for row in rows(outputs)] == [NOTE]


def test_hidden_files_are_read_only_by_name(corpus: Path) -> None:
    fill(corpus)
    named = find_files(["corpus/.hidden.txt", "corpus/.git"], Path.cwd(), "auto", "x")
    assert [file.path.name for file in named] == ["description.txt", ".hidden.txt"]


def test_a_name_with_the_signs_of_a_glob(corpus: Path) -> None:
    (corpus / "notes [1].txt").write_text(NOTE)
    [file] = find_files(["corpus/notes [1].txt"], Path.cwd(), "auto", "x")
    assert file.path.name == "notes [1].txt"


def test_source_code_has_its_language(corpus: Path, tmp_path: Path) -> None:
    code = "def grind(grain):\n    if grain:\n        return 'flour'\n"
    (corpus / "mill.py").write_text(code)
    (corpus / "mill.RS").write_text("fn main() {}\n")
    _, outputs = scrape(tmp_path, files("corpus"))
    assert {(row["text"], json.loads(row["meta"])["language"]) for row in rows(outputs)} == {
        (code, "Python"),
        ("fn main() {}\n", "Rust"),
    }


def test_a_missing_package_is_named_with_its_extra(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_kinds, "find_spec", lambda name: None)
    (corpus / "a.txt").write_text(NOTE)
    scrape(tmp_path, files("corpus"))
    (corpus / "a.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(UserError, match=r"pypdfium2, which is missing.*extra `documents`.*pip install pypdfium2"):
        scrape(tmp_path, files("corpus"))


def table(path: Path, **options: Any) -> list[Any]:
    how = {"columns": Columns("text", "messages"), "declared": None, "max_bytes": 10**6, "tabs": path.suffix == ".tsv"}
    return list(read_csv(path, "u", **{**how, **options}))


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\x00\ufeff"), max_size=12)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1), st.sampled_from([",", ";", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_of_csv_wrote_is_read(
    tmp_path: Path, records: list[tuple[str, str]], delimiter: str, end: str
) -> None:
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "other"), *records])
    items = table(tmp_path / "x.csv")
    assert [(item.text, item.meta.get("other", "")) for item in items if item.reason is None] == [
        record for record in records if record[0].strip()
    ]
    assert all(item.reason in (None, "no_text", "empty") for item in items)
    assert len(items) == len(records)


def test_pandas_reads_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    content = 'n,text\r\n1,"a ""quoted"" word, and\r\na second line"\r\n2,plain\r\n\r\n3,"ends with comma,"\r\n'
    (tmp_path / "x.csv").write_text(content, newline="")
    theirs = pandas.read_csv(io.StringIO(content))
    assert [item.text for item in table(tmp_path / "x.csv")] == theirs["text"].tolist()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252", "cp1251"])
def test_encodings_of_tables(tmp_path: Path, encoding: str) -> None:
    said = "Пшеница мелется на мельнице у реки" if encoding == "cp1251" else "Grüße aus dem alten Köln, schöne Bäume"
    content = "text;n\r\n" + "".join(f'"{said} {n}";{n}\r\n' for n in range(50))
    (tmp_path / "x.csv").write_bytes(content.encode(encoding))
    assert [item.text for item in table(tmp_path / "x.csv")] == [f"{said} {n}" for n in range(50)]


@pytest.mark.parametrize(
    ("stray", "as_it_is"), [(b"\0", "a\0b"), (b"\xff", "a\ufffdb"), ("\u00e9".encode(), "a\u00e9b")]
)
def test_a_stray_byte_far_into_a_table_costs_itself(tmp_path: Path, stray: bytes, as_it_is: str) -> None:
    (tmp_path / "x.csv").write_bytes(b"text,n\n" + b"caf\xc3\xa9 au lait,1\n" * 10_000 + b"a" + stray + b"b,2\n")
    items = table(tmp_path / "x.csv")
    assert {item.text for item in items} == {"caf\u00e9 au lait", as_it_is}
    assert all(item.reason is None for item in items)


def test_a_quote_that_never_closes_costs_its_line(tmp_path: Path) -> None:
    lines = ["text,n", "one,1", '"two,2', "three,3", '"four" or so,4', "five", "six,6,7", '"se""ven",7', ""]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    items = table(tmp_path / "x.csv")
    assert [item.text for item in items if item.reason is None] == ["one", "three", 'se"ven']
    assert [(item.where.rpartition(" ")[2], item.reason) for item in items if item.reason] == [
        ("3", "broken_row"),
        ("5", "broken_row"),
        ("6", "broken_row"),
        ("7", "broken_row"),
    ]


def test_quotes_in_tables_by_tabs(tmp_path: Path) -> None:
    """A quote at the start of a field is a character there, unless fields are seen to hold line ends."""
    (tmp_path / "x.tsv").write_text('text\tn\n"Hello, he said\t1\nplain\t2\n"a ""b"""\t3\n')
    assert [item.text for item in table(tmp_path / "x.tsv")] == ['"Hello, he said', "plain", 'a "b"']
    (tmp_path / "y.tsv").write_text('text\tn\n"two\nlines"\t1\nplain\t2\n')
    assert [item.text for item in table(tmp_path / "y.tsv")] == ["two\nlines", "plain"]


def test_a_missing_column_is_an_error_that_names_those_there_are(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.csv").write_text("id;body\n1;x\n")
    (corpus / "b.txt").write_text(NOTE)
    with pytest.raises(UserError, match=r"a\.csv: has no column 'text' or 'messages', only id, body\. Set text_column"):
        scrape(tmp_path, files("corpus/*.csv"))
    with pytest.raises(WrongColumns):
        table(corpus / "a.csv")
    _, outputs = scrape(tmp_path / "named", files("corpus/*.csv", text_column="body"))
    assert [row["text"] for row in rows(outputs)] == ["x"]
    _, outputs = scrape(tmp_path / "found", files("corpus"))  # a table that happens to lie there
    assert reasons(outputs) == {"file:corpus/a.csv": "no_text_column"}
    (detail,) = [row["detail"] for row in rows(outputs, "removed")]
    assert detail.startswith("corpus/a.csv: has no column 'text'")  # no place of this checkout


def test_conversations_in_a_table(corpus: Path, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    with (corpus / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "n"], [json.dumps(said), "1"], ["hi", "2"]])
    _, outputs = scrape(tmp_path, files("corpus/*.csv"))
    assert json.loads(rows(outputs)[0]["meta"]) == {"messages": said, "n": "1"}
    assert list(reasons(outputs).values()) == ["malformed_messages"]


@pytest.mark.parametrize(
    ("content", "texts", "lost"),
    [
        ('{"text": "one"}', ["one"], []),
        ('[{"text": "one"}, 7, {"body": "x"}]', ["one"], ["broken_json", "no_text"]),
        ('{"text": "one"}\n{"text": "two"}\n', ["one", "two"], []),
        ('[{"text": "a\\ud800b"}]', ["a\ufffdb"], []),
        ("[" * 100_000, [], ["broken_json"]),
        ('[{"text": "cut"', [], ["broken_json"]),
    ],
)
def test_json(corpus: Path, tmp_path: Path, content: str, texts: list[str], lost: list[str]) -> None:
    (corpus / "a.json").write_text(content)
    (corpus / "b.txt").write_text(NOTE)
    _, outputs = scrape(tmp_path, files("corpus"))
    assert [row["text"] for row in rows(outputs)][: len(texts)] == texts
    assert list(reasons(outputs).values()) == lost


def message(subject: str, text: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["Subject"], made["Date"] = "Ann <ann@mill.example>", subject, "Thu, 26 Nov 2026 12:00:00 +0000"
    made.set_content(text)
    return made


def test_messages_of_a_mailbox_are_pages(corpus: Path, tmp_path: Path) -> None:
    box = mailbox.mbox(corpus / "in.mbox")
    for number in range(3):
        box.add(message(f"Letter {number}", f"From here on it is text.\n\nFrom the mill, number {number}.\n"))
    box.close()
    shutil.copy(corpus / "in.mbox", corpus / "copy.mbox.tmp")
    (corpus / "in2.mbox.gz").write_bytes(gzip.compress((corpus / "in.mbox").read_bytes()))
    (corpus / "no.mbox").write_text(NOTE)
    _, outputs = scrape(tmp_path, files("corpus"))
    found = pages(outputs, "mine")
    names = [f"file:corpus/{box}#M{n}" for box in ("in.mbox", "in2.mbox.gz") for n in (1, 2, 3)]
    assert list(found) == names
    for number, (_, body) in enumerate(found.values()):
        assert f"Subject: Letter {number % 3}\n" in body.decode()
        assert body.decode().endswith(f"\n\nFrom here on it is text.\n\nFrom the mill, number {number % 3}.\n\n")
    assert reasons(outputs) == {"file:corpus/no.mbox": "no_mbox", "file:corpus/copy.mbox.tmp": "unknown_kind"}

"""Data sets of a hub and of folders: every kind of file that `datasets` finds, within the same bounds as other files."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.conversations.conversation import messages_of
from tasks.core.errors import UserError
from tasks.scrape.files.arrow_files import read_arrow
from tasks.scrape.files.row_documents import Columns
from tests.helpers import hub_server
from tests.helpers.checkout import ROOT
from tests.helpers.scraping import counted, rows, scrape

LINES = [json.dumps({"text": f"text {n}"}).encode() for n in range(2000)]
COLUMNS = Columns("text", "messages")


pytestmark = pytest.mark.usefixtures("corpus")


def hub(folder: Path | str, **options: Any) -> dict[str, Any]:
    return {"name": "mine", "kind": "huggingface", "dataset": str(folder), **options}


def test_folders_of_data_sets(corpus: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (corpus / "train.jsonl").write_bytes(b"\n".join(LINES[:10]))
    (corpus / "test.jsonl").write_text(json.dumps({"text": "held out"}))
    chats = corpus.parent / "chats"
    chats.mkdir()
    pq.write_table(pa.table({"messages": [turns, None], "n": [1, 2]}), chats / "train.parquet")
    metrics, outputs = scrape(tmp_path / "a", hub("corpus", licence="CC0", max_documents=7))
    found = rows(outputs)
    assert [row["text"] for row in found] == [json.loads(line)["text"] for line in LINES[:7]]
    assert (found[0]["url"], found[0]["licence"], found[0]["fetched_at"]) == ("file:corpus/train.jsonl#L1", "CC0", None)
    assert metrics["documents"] == 7
    assert [r["text"] for r in rows(scrape(tmp_path / "b", hub("corpus", split="test"))[1])] == ["held out"]
    metrics, outputs = scrape(tmp_path / "c", hub("chats"))
    assert [messages_of(row["meta"]) for row in rows(outputs)] == [turns]
    assert counted(metrics) == {"saved": 1, "no_text": 1}


def test_data_sets_saved_to_disk(corpus: Path, tmp_path: Path) -> None:
    import datasets

    texts = [f"text {n}" for n in range(20)]
    one = datasets.Dataset.from_dict({"text": texts, "n": range(20)})
    one.save_to_disk(str(corpus / "one"))
    datasets.DatasetDict({"train": one}).save_to_disk(str(corpus / "split"))
    for name in ("one", "split"):
        _, outputs = scrape(tmp_path / name, hub(corpus / name))
        assert [row["text"] for row in rows(outputs)] == texts
        assert json.loads(rows(outputs)[3]["meta"]) == {"n": 3}


def test_a_damaged_data_set_gives_what_comes_before(corpus: Path, tmp_path: Path) -> None:
    (corpus / "train-0.jsonl").write_bytes(b"\n".join(LINES[:10]))
    (corpus / "train-1.jsonl").write_bytes(b'{"text": \n' + LINES[10])
    metrics, outputs = scrape(tmp_path, hub("corpus"))
    assert len(rows(outputs)) == 11
    assert counted(metrics) == {"saved": 11, "broken_json": 1}
    assert "train-1.jsonl, line 1" in rows(outputs, "removed")[0]["detail"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "nobody/nothing"}, "the Hugging Face hub is out of reach.* local folder"),
        ({"dataset": "./nowhere"}, "there is no such folder"),
        ({"split": "validation"}, "validation"),
        ({"config": "de"}, "'de' not found"),
        ({"text_column": "body"}, "not one document: no_text .*'body' is missing; there are: text"),
        ({"dataset": "empty"}, "cannot be read as a data set"),
        ({"dataset": "pictures"}, "imagefolder"),
    ],
)
def test_data_sets_that_are_not_there(corpus: Path, tmp_path: Path, options: dict[str, str], message: str) -> None:
    (corpus / "train.jsonl").write_bytes(LINES[0])
    (corpus.parent / "empty").mkdir()
    (corpus.parent / "pictures").mkdir()
    (corpus.parent / "pictures" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=message):
        scrape(tmp_path, {**hub("corpus"), **options})


def test_code_of_a_data_set_is_not_run(corpus: Path, tmp_path: Path) -> None:
    (corpus / "corpus.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (corpus / "train.jsonl").write_bytes(LINES[0])
    with pytest.raises(UserError, match="scripts are no longer supported"):
        scrape(tmp_path, hub("corpus"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["jsonl", "json", "json.gz", "csv", "txt", "parquet", "arrow"])
def test_a_row_larger_than_allowed_costs_itself(corpus: Path, tmp_path: Path, kind: str) -> None:
    texts = ["one", "x" * 5000, "three"]
    table = pa.table({"text": texts})
    if kind == "parquet":
        pq.write_table(table, corpus / "train.parquet")
    elif kind == "arrow":
        with pa.OSFile(str(corpus / "train.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    else:
        as_lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        written = {"csv": "\n".join(["text", *texts]), "txt": "\n".join(texts)}.get(kind, as_lines).encode()
        (corpus / f"train.{kind}").write_bytes(gzip.compress(written) if kind.endswith("gz") else written)
    metrics, outputs = scrape(tmp_path, hub("corpus", max_bytes=4000))
    assert counted(metrics) == {"saved": 2, "too_large": 1}
    assert [row["text"] for row in rows(outputs)] == ["one", "three"]


def test_arrow_claims_nothing_that_its_file_does_not_hold(corpus: Path) -> None:
    path = corpus / "train.arrow"

    def written(table: pa.Table, **options: Any) -> list[str | None]:
        with pa.OSFile(str(path), "wb") as file:
            options = {"options": pa.ipc.IpcWriteOptions(**options)}
            with pa.ipc.new_stream(file, table.schema, **options) as writer:
                writer.write_table(table)
        return [item.reason for item in read_arrow(path, "u", COLUMNS, 1 << 20)]

    zeros = pa.table({"text": ["a" * 1000] * 3000})
    assert written(zeros) == [None] * 3000
    assert written(zeros, compression="zstd") == ["compressed_arrow"]
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 9, pa.int32()), pa.array(["b" * 2_000_000]))
    assert written(pa.table({"text": shared})) == ["too_large"] * 9
    assert written(pa.table({"text": shared}), compression="lz4") == ["compressed_arrow"]
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30]), pa.array(["c"]))
    assert written(pa.table({"text": runs})) == ["corrupt_file"]
    nothing = pa.table({"text": pa.nulls(1 << 30)})
    assert written(nothing)[-1] == "decompression_bomb"


def test_arrow_that_is_damaged_tells_so_and_ends_nothing(corpus: Path) -> None:
    path = corpus / "train.arrow"
    table = pa.table({"text": [f"text {n}" for n in range(50)], "n": [[n] for n in range(50)]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=10):
            writer.write_batch(batch)
    whole = path.read_bytes()
    assert len(list(read_arrow(path, "u", COLUMNS, 1 << 20))) == 50
    path.write_bytes(whole[: len(whole) // 2])
    assert [item.reason for item in read_arrow(path, "u", COLUMNS, 1 << 20)] == ["corrupt_file"]
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        try:
            items = list(read_arrow(path, "u", COLUMNS, 1 << 20))
        except UserError as error:
            assert "has no column" in str(error)  # noqa: PT017
        else:
            assert len(items) == 50 or any(item.reason for item in items)


def test_pictures_beside_the_text_are_left_out(corpus: Path, tmp_path: Path) -> None:
    picture = pa.array([{"bytes": b"\x89PNG" * 10_000, "path": "a.png"}])
    about = {"info": {"features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}}}
    table = pa.table({"image": picture, "text": ["a cat"], "n": [1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, corpus / "train.parquet")
    with pa.OSFile(str(corpus.parent / "beside.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    _, outputs = scrape(tmp_path, hub("corpus"))
    assert json.loads(rows(outputs)[0]["meta"]) == {"n": 1}
    [item] = read_arrow(corpus.parent / "beside.arrow", "u", COLUMNS, 1 << 20)
    assert (item.text, item.meta) == ("a cat", {"n": 1})


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_two_columns_of_the_name_are_told(corpus: Path, tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_arrays([pa.array(["one"]), pa.array(["another"])], names=["text", "text"])
    if kind == "parquet":
        pq.write_table(table, corpus / "train.parquet")
    elif kind == "csv":
        (corpus / "train.csv").write_text("text,text\none,another\n")
    else:
        with pa.OSFile(str(corpus / "train.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UserError, match=f"train.{kind}: has 2 columns 'text'"):
        scrape(tmp_path, hub("corpus"))


def test_what_a_card_says_of_its_files(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.csv").write_bytes("text\tn\ncaf\xe9, au lait\t1\n".encode("latin-1"))
    card = "---\nconfigs:\n- config_name: default\n  data_files: a.csv\n"
    (corpus / "README.md").write_text(card + '  sep: "\\t"\n  encoding: latin-1\n---\n')
    _, outputs = scrape(tmp_path / "a", hub("corpus"))
    assert [row["text"] for row in rows(outputs)] == ["caf\xe9, au lait"]
    (corpus / "README.md").write_text(card + "  skiprows: 3\n---\n")
    with pytest.raises(UserError, match="card asks for csv files to be read with skiprows: 3"):
        scrape(tmp_path / "b", hub("corpus"))


def test_a_packed_file_is_named(corpus: Path, tmp_path: Path) -> None:
    (corpus / "train-a.jsonl").write_bytes(LINES[0])
    (corpus / "train-b.jsonl.xz").write_bytes(b"packed")
    metrics, outputs = scrape(tmp_path, hub("corpus"))
    assert counted(metrics) == {"saved": 1, "unknown_kind": 1}
    assert "train-b.jsonl.xz: unpack it" in rows(outputs, "removed")[0]["detail"]


def test_a_wrong_column_is_told_before_all_is_read(corpus: Path, tmp_path: Path) -> None:
    (corpus / "train.jsonl").write_bytes(b"\n".join(LINES))
    with pytest.raises(UserError, match=r"line 1000: 'body' is missing; there are: text. Set text_column"):
        scrape(tmp_path, hub("corpus", text_column="body"))


def _from_hub(tmp_path: Path, address: str, source: dict[str, Any]) -> Any:
    """In a process of its own: the address of the hub is read when its client is imported."""
    script = (
        "import sys, json; from pathlib import Path; sys.path.insert(0, '.'); from tests.helpers.scraping import rows, scrape;"
        "from tasks.core.errors import UserError\n"
        "try: metrics, outputs = scrape(Path(sys.argv[1]), json.loads(sys.argv[2]))\n"
        "except UserError as error: print(json.dumps(str(error)))\n"
        "else: print(json.dumps([metrics, rows(outputs), rows(outputs, 'removed')], default=str))"
    )
    hubs = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    environment = {**os.environ, **hubs, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", script, str(tmp_path / "run"), json.dumps(source)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert not (tmp_path / "run" / "work" / "hub").exists()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "message"), [("o/n", ""), ("o/none", "Check the name and the revision")])
def test_a_data_set_of_a_hub(tmp_path: Path, dataset: str, message: str) -> None:
    with hub_server.serve() as address:
        said = _from_hub(tmp_path, address, hub(dataset, max_documents=20))
    if message:
        assert message in said
        return
    metrics, found, _ = said
    assert metrics["sources"]["mine"]["commit"] == hub_server.COMMIT
    assert [row["text"] for row in found] == [f"text {n}" for n in range(20)]
    assert found[2]["url"] == f"hf://datasets/o/n@{hub_server.COMMIT}/data/train.jsonl#L3"
    assert found[2]["licence"] == "cc-by-4.0"
    assert found[2]["fetched_at"]


@pytest.mark.slow
def test_parquet_of_a_hub_is_fetched_as_far_as_it_is_read(tmp_path: Path) -> None:
    noise = [os.urandom(500_000).hex() for _ in range(48)]
    table = pa.table({"text": [f"text {n}" for n in range(48)], "noise": noise})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=8, compression="none")
    content = (tmp_path / "train.parquet").read_bytes()
    sent = Counter[str]()
    with hub_server.serve(files={"README.md": hub_server.CARD, "data/train.parquet": content}, asked=sent) as address:
        _, found, _ = _from_hub(tmp_path / "a", address, hub("o/n", max_documents=5))
        assert [row["text"] for row in found] == [f"text {n}" for n in range(5)]
        assert sent["train.parquet"] < len(content) / 2
        _, found, _ = _from_hub(tmp_path / "b", address, hub("o/n"))
        assert [row["text"] for row in found] == [f"text {n}" for n in range(48)]
    with hub_server.serve(
        files={"README.md": hub_server.CARD, "data/train.parquet": content[:-4] + b"nope"}
    ) as address:
        assert "not one document: corrupt_file" in _from_hub(tmp_path / "d", address, hub("o/n"))

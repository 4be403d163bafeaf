"""Preference pairs in files: items with the reply that was liked less, checked, divided and compared as such."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.instructing import document, instruct, said

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_pairs_are_conversations_with_what_was_liked_less(tmp_path: Path, ending: str) -> None:
    records: list[dict[str, str]] = [
        *({"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": f"Word {n}."} for n in range(30)),
        *({"prompt": "What is best?", "chosen": "The sea.", "rejected": f"Choice {n}."} for n in range(3)),
        {"prompt": "What is best?", "chosen": "The sea.", "rejected": "Choice 1."},
        {"prompt": "What is 90?", "chosen": "It is 90.", "rejected": "  "},
        {"prompt": "What is 91?", "chosen": "It is 91.", "rejected": "x" * 5000},
        {"prompt": "What is 92?", "chosen": "It  is 92.", "rejected": "It is 92."},
    ]
    path = tmp_path / f"pairs.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    tables, metrics = instruct(
        tmp_path, [document(said(n)) for n in range(9)], validation_fraction=0.3, files=[{"path": path.name}]
    )
    rows = [row | {"split": split} for split in ("train", "held_out") for row in tables[split] if row["rejected"]]
    assert metrics["removed"] == {"duplicate": 1, "empty_turn": 1, "turn_too_long": 1}
    assert sum(metrics[split]["pairs"] for split in ("train", "held_out")) == len(rows) == 34
    best = [row for row in rows if row["messages"][0]["content"] == "What is best?"]
    assert {row["rejected"] for row in best} == {f"Choice {n}." for n in range(3)}
    assert len({row["split"] for row in best}) == 1
    assert metrics["held_out"]["pairs"] > 0
    assert any("Rejected: Choice 1." in row["text"] for row in tables["removed"])

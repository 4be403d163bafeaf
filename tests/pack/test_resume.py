"""Packing that was killed goes on where it was, to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.pack import stage
from tests.helpers.checkout import ROOT
from tests.helpers.packing import documents, pack, prose

SLOWLY = """
import sys, time
from pathlib import Path
from tasks.pack import stage
from tasks.core.paths import Inputs, Outputs
whole = stage.write_json
def slow(path, content):
    whole(path, content)
    time.sleep(0.3)
stage.write_json = slow
documents, tokenizer, root = map(Path, sys.argv[1:])
out = Outputs(root / "out", root / "out.work")
out.root.mkdir(); out.work.mkdir()
stage.run(stage.PackParams(context_length=32), Inputs({"documents": documents, "tokenizer": tokenizer}), out)
"""


pytestmark = pytest.mark.usefixtures("one_worker")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_and_started_again(tmp_path, tokenizer, monkeypatch):
    source = documents(tmp_path / "documents", {"train": prose(5, 60), "validation": prose(6, 8)}, per_shard=4)
    (tmp_path / "whole").mkdir()
    expected, metrics = pack(tmp_path / "whole", source, tokenizer)
    killed = tmp_path / "killed"
    killed.mkdir()
    command = [sys.executable, "-c", SLOWLY, str(source), str(tokenizer), str(killed)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    waited = time.monotonic()
    while len(list(killed.glob("out.work/encoded/*.json"))) < 5:
        assert process.poll() is None
        assert time.monotonic() - waited < 300
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(killed.glob("out.work/encoded/*.json")))
    assert 5 <= done < 17
    (killed / "out").rmdir()  # as the next start of a stage does
    encoded: list[int] = []
    from tasks.tokens import encode

    whole = encode.encode_documents
    monkeypatch.setattr(encode, "encode_documents", lambda *args: encoded.append(1) or whole(*args))
    again, metrics_again = pack(killed, source, tokenizer)
    assert len(encoded) == 17 - done
    assert contents(again) == contents(expected)
    assert metrics_again == metrics


def test_a_shard_that_was_not_finished_is_encoded_again(tmp_path, tokenizer, monkeypatch):
    """Killed between the tokens and the note that they are whole."""
    source = documents(tmp_path / "documents", {"train": prose(5, 20)}, per_shard=5)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    expected, _ = pack(tmp_path / "whole", source, tokenizer)

    def dies(path, content):
        if path.name.startswith("002-"):
            raise OSError("killed")
        return whole(path, content)

    whole = stage.write_json
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_json", dies)
        with pytest.raises(OSError, match="killed"):
            pack(tmp_path / "broken", source, tokenizer)
    for path in tmp_path.glob("broken/out.work/encoded/train/002-*.tokens"):
        path.write_bytes(path.read_bytes()[:3])
    (tmp_path / "broken" / "out").rmdir()
    again, _ = pack(tmp_path / "broken", source, tokenizer)
    assert contents(again) == contents(expected)

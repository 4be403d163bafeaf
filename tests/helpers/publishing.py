"""`python publishing.py FOLDER old|none`: publishes a stage, killed before each of its changes of the file system in turn.

What then completes it is killed before each of its own changes, too. Prints as JSON what the next start finds, in order.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.paths import Outputs, write_json
from tasks.core.publish import complete_publishing, publish, staging_folder

Found = list[Any]
"""What lies in data/x, by path, and the metrics."""
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime")


def killed_before(change: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that dies before its `change`-th change of the file system; whether it lived to its end."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] == 0
    left = change

    def watch(event: str, arguments: Any) -> None:
        nonlocal left
        opened = event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or opened:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    action()
    os._exit(0)


def begin(root: Path, old: bool) -> Outputs:
    shutil.rmtree(root, ignore_errors=True)
    if old:
        (root / "data/x/sub").mkdir(parents=True)
        (root / "data/x/sub/text").write_text("old")
        (root / "data/x/gone").write_text("old")
        write_json(root / "metrics/x.json", {"is": "old"})
    (root / "work").mkdir(parents=True)
    outputs = Outputs(staging_folder(root, "x"), root / "work")
    (outputs.root / "sub").mkdir()
    (outputs / "sub/text").write_text("new")
    return outputs


def seen(root: Path) -> Found:
    files = {str(p.relative_to(root / "data/x")): p.read_text() for p in (root / "data/x").rglob("*") if p.is_file()}
    metrics = root / "metrics/x.json"
    return [files, json.loads(metrics.read_text()) if metrics.exists() else None]


def main(root: Path, old: bool) -> list[Found]:
    found, publishing, done = [], 0, False
    while not done:
        outputs = begin(root, old)
        done = killed_before(publishing, lambda outputs=outputs: publish(root, "x", outputs, {"is": "new"}))
        kept = Path(shutil.copytree(root, root.with_name("kept")))
        settling, settled = 0, False
        while not settled:
            shutil.rmtree(root)
            shutil.copytree(kept, root)
            settled = killed_before(settling, lambda: complete_publishing(root))
            complete_publishing(root)
            found.append(seen(root))
            settling += 1
        shutil.rmtree(kept)
        staging_folder(root, "x").rmdir()
        assert [path.name for path in (root / "data").iterdir()] == ["x"] * (root / "data/x").exists(), "left over"
        publishing += 1
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2] == "old")))

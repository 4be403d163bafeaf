"""Links to files that take no room, for what must stay when the place it came from changes."""

import os
import shutil
from pathlib import Path


def link_file(source: Path, name: Path) -> None:
    """Put the file `source` at `name`: a hard link, else a reflink; a copy where the file system has neither."""
    from dvc_objects.fs.system import reflink

    content = source.resolve()  # DVC may have put a link into its cache there
    for link in (os.link, reflink, shutil.copyfile):
        try:
            link(str(content), str(name))
        except OSError:
            name.unlink(missing_ok=True)
            continue
        return
    raise OSError(f"{name}: cannot be linked to or copied from {source}")

"""A hook of MkDocs: the pages that lie in the root of the project, where git hosts look for them, are pages of the site too.

In the repository pages link to each other by relative paths, as `../SECURITY.md` from docs/ and `docs/sources.md` from the
root; on the site all of them lie side by side.
"""

import re
from pathlib import Path
from typing import Any

PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LOG.md")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the root."""
    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links lead to where the pages lie on the site."""
    in_root = page.file.src_uri in PAGES
    return LINK.sub(lambda found: found[1] + place_of(found[2], in_root) + found[3], markdown)


def place_of(link: str, in_root: bool) -> str:
    """Where a link of a page of the root, or of docs/, leads to on the site."""
    path, mark, anchor = link.partition("#")
    if in_root:
        path = "index.md" if path == "README.md" else path.removeprefix("docs/")
    elif path.removeprefix("../") in PAGES:
        path = path.removeprefix("../")
    return path + mark + anchor

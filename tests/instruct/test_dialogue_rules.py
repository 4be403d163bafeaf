"""Which conversations are dialogues to learn from, and the windows that long ones are cut into."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.conversations.conversation import trim_content
from tasks.conversations.turns import RejectedRecord
from tasks.instruct.dialogue_rules import check_dialogue, split_dialogue
from tests.helpers.instructing import talk

TURN = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text()})


@settings(deadline=None, max_examples=300)
@given(st.lists(TURN, max_size=7), st.integers(2, 6))
def test_what_passes_is_a_dialogue_and_loses_nothing_but_a_last_question(turns, max_turns):
    try:
        checked = check_dialogue(turns, max_turn_characters=10**6, min_distinct=0)
    except RejectedRecord:
        return
    stripped = [{"role": turn["role"], "content": trim_content(turn["content"])} for turn in turns]
    assert checked in (stripped, stripped[:-1])
    parts = split_dialogue(checked, max_turns)
    lead = checked[:1] if checked[0]["role"] == "system" else []
    assert lead + [turn for part in parts for turn in part[len(lead) :]] == checked
    for part in parts:
        roles = [turn["role"] for turn in part[len(lead) :]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) <= max_turns
        assert part[: len(lead)] == lead
        assert all(turn["content"].strip() for turn in part)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hello", "malformed"),
        ([], "malformed"),
        ([{"role": "user"}], "malformed"),
        ([{"role": "robot", "content": "x"}], "malformed"),
        ([{"role": "user", "content": 7}], "malformed"),
        (talk("a", " \n"), "empty_turn"),
        (talk("a", "b")[1:], "not_begun_by_user"),
        ([*talk("a", "b"), *talk("c", "d")[1:]], "roles_do_not_alternate"),
        ([*talk("a", "b"), {"role": "system", "content": "s"}], "roles_do_not_alternate"),
        (talk("monologue"), "no_reply"),
        ([{"role": "system", "content": "s"}, *talk("a")], "no_reply"),
        (talk("a", "b" * 101), "turn_too_long"),
        (talk("hi", "Hi", "hi ", "HI"), "repetitive"),
    ],
)
def test_reasons(messages, reason):
    with pytest.raises(RejectedRecord) as rejected:
        check_dialogue(messages, max_turn_characters=100, min_distinct=0.5)
    assert rejected.value.reason == reason

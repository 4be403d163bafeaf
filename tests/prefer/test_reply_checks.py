"""The checks of a reply: what each passes, in several scripts, and what the reward is of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.documents.word_characters import words
from tasks.prefer.reply_checks import ReplyChecks, RewardParams, closes, repeats

WEIGHTS = RewardParams()
ASKED = [{"role": "user", "content": "Do you like the green tea of Japan?"}]
CHECKS = ReplyChecks(RewardParams(min_words=3, max_words=8), 3, 8, frozenset({"do", "you", "like", "the", "of"}))


@pytest.mark.parametrize(
    ("reply", "failed"),
    [
        ("Yes, green tea is what I drink.", set()),
        ("Yes, green tea is what I drink", {"closed"}),
        ("Yes, green tea is what I drink,", {"closed"}),
        ("Green tea.", {"length"}),
        ("Yes, I do like it.", {"related"}),  # `like` and `do` are in every other message
        ("I like tea and I like tea.", {"fresh"}),
        ("", {"length", "fresh", "related", "closed"}),
        ("Tea tea tea tea.", {"fresh"}),
        ("I drink tea! \N{GRINNING FACE}", set()),
    ],
)
def test_each_check(reply: str, failed: set[str]) -> None:
    passed = CHECKS.passed(ASKED, reply, ended=True)
    assert {name for name, passes in passed.items() if not passes} == failed


def test_the_reward_is_the_share_of_what_the_checks_are_worth() -> None:
    reply = "Yes, green tea is what I drink."
    assert CHECKS.score(CHECKS.passed(ASKED, reply, ended=True)) == 1
    assert CHECKS.score(CHECKS.passed(ASKED, reply, ended=False)) == pytest.approx(0.7)
    only_ended = ReplyChecks(RewardParams(ended=5, length=0, fresh=0, related=0, closed=0), 3, 8, frozenset())
    assert [only_ended.score(only_ended.passed(ASKED, "x", end)) for end in (True, False)] == [1, 0]


@pytest.mark.parametrize("reply", ["Yes, tea.\nUser: And now I speak.", "Assistant: Yes, green tea is nice."])
def test_a_reply_that_speaks_for_others_earns_nothing(reply: str) -> None:
    assert CHECKS.score(CHECKS.passed(ASKED, reply, ended=True)) == 0


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ("你喜欢喝绿茶吗？", "我喜欢喝绿茶。"),
        ("क्या आपको चाय पसंद है?", "हाँ, मुझे चाय बहुत पसंद है।"),
        ("هل تحب الشاي؟", "نعم، أشرب الشاي كل صباح؟"),
        ("Любишь зелёный чай?", "Да, чай пью каждый день!"),
        ("คุณชอบชาไหม", "ฉันชอบชา!"),
    ],
)
def test_any_script(asked: str, reply: str) -> None:
    checks = ReplyChecks(WEIGHTS, 3, 12, frozenset())
    assert checks.score(checks.passed([{"role": "user", "content": asked}], reply, ended=True)) == 1


def test_a_long_text_may_say_a_word_again() -> None:
    """An explanation of 60 words by a person, in which `the` stands six times; and a model that turns in circles at its end."""
    said = (
        "Water boils when the pressure of its vapour equals the pressure of the air above it. High up in the mountains the air is "
        "thinner, so that point is reached at a lower temperature, and potatoes take longer although the water boils as it does "
        "at home. A lid that closes tightly raises the pressure again, which is all that a cooker for altitudes has to do."
    )
    assert not repeats(words(said.casefold()))
    assert repeats(words(f"{said} It has to do what it has to do what it has to do.".casefold()))
    assert repeats(["so"] * 3)
    assert not repeats([])


@given(st.text(), st.text(), st.booleans())
def test_a_share_of_any_text(asked: str, reply: str, ended: bool) -> None:
    assert 0 <= CHECKS.score(CHECKS.passed([{"role": "user", "content": asked}], reply, ended)) <= 1


def test_lengths_and_common_words_are_of_the_conversations() -> None:
    said = [" ".join(["word"] * n) for n in range(1, 101)]
    conversations = [[{"role": "user", "content": "the tea"}, {"role": "assistant", "content": text}] for text in said]
    checks = ReplyChecks.of(WEIGHTS, conversations)
    assert (checks.shortest, checks.longest) == (11, 90)
    assert checks.common == {"the", "tea", "word"}
    assert ReplyChecks.of(WEIGHTS, conversations[:3]).common == set()
    short = ReplyChecks.of(RewardParams(max_words=5), conversations)
    assert (short.shortest, short.longest) == (5, 5)


@pytest.mark.parametrize(
    ("text", "closed"), [("Yes.", True), ('"Yes."', True), ("Yes", False), ("是。", True), ("是，", False), ("", False)]
)
def test_what_closes_a_sentence(text: str, closed: bool) -> None:
    assert closes(text) == closed


def test_a_reward_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="worth 0"):
        RewardParams(ended=0, length=0, fresh=0, related=0, closed=0)
    with pytest.raises(ValidationError, match="more than max_words"):
        RewardParams(min_words=9, max_words=3)

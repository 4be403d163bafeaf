"""Preference pairs in the forms that people have them in, and what is no pair."""

from collections import Counter
from typing import Any

import pytest

from tasks.conversations.turns import RejectedRecord
from tasks.instruct.preference_pairs import to_pair

ASKED = {"role": "user", "content": "Why?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Because.", "No idea."))
BEFORE = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
SIDES = {"chosen": "Because.", "rejected": "No idea."}
FORMS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "text": ({"prompt": "Why?", **SIDES}, [ASKED]),
    "a system beside it": (
        {"system": "Be brief.", "question": "Why?", **SIDES},
        [{"role": "system", "content": "Be brief."}, ASKED],
    ),
    "messages, the prompt by itself": (
        {"prompt": [*BEFORE, ASKED], "chosen": [GOOD], "rejected": [BAD]},
        [*BEFORE, ASKED],
    ),
    "whole conversations": ({"chosen": [*BEFORE, ASKED, GOOD], "rejected": [*BEFORE, ASKED, BAD]}, [*BEFORE, ASKED]),
    "whole conversations, prompt and messages once more": (
        {
            "prompt": "Why?",
            "prompt_id": "x",
            "messages": [ASKED, GOOD],
            "chosen": [ASKED, GOOD],
            "rejected": [ASKED, BAD],
        },
        [ASKED],
    ),
    "transcripts": (
        {
            "chosen": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: Because.",
            "rejected": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: No idea.",
        },
        [*BEFORE, ASKED],
    ),
    "a transcript as prompt": ({"prompt": "\n\nHuman: Why?\n\nAssistant:", **SIDES}, [ASKED]),
    "conversations of ShareGPT": (
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Because."},
            "rejected": {"from": "gpt", "value": "No idea."},
        },
        [ASKED],
    ),
    "LLaMA-Factory's later form": (
        {
            f"{side}_messages": [
                {"role": "user", "content": [{"type": "text", "value": "Why?"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": text}], "loss_weight": 1.0},
            ]
            for side, text in SIDES.items()
        },
        [ASKED],
    ),
    "an instruction with a history": (
        {"instruction": "Why?", "history": [["Hi.", "Hello."]], **SIDES},
        [*BEFORE, ASKED],
    ),
    "an instruction with an input": (
        {"instruction": "Say why", "input": "the sea", **SIDES},
        [{"role": "user", "content": "Say why\n\nthe sea"}],
    ),
    "text that speaks of people": (
        {"prompt": "Why?\n\nHuman: he", "chosen": "Because.", "rejected": "No idea."},
        [{"role": "user", "content": "Why?\n\nHuman: he"}],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    record, asked = FORMS[form]
    pair = to_pair(record, Counter())
    assert pair.messages == [*asked, GOOD]
    assert pair.rejected == "No idea."


@pytest.mark.parametrize(
    ("record", "reason", "told"),
    [
        ({"prompt": "Why?", "chosen": "Same. ", "rejected": "Same."}, "equal_sides", "say the same"),
        ({"chosen": [ASKED, GOOD], "rejected": [*BEFORE, BAD]}, "not_one_reply", "differ before"),
        ({"chosen": [ASKED], "rejected": [ASKED, BAD]}, "no_reply", "chosen: ends with what the user says"),
        ({"prompt": "Why?", "chosen": "Yes.", "rejected": None}, "malformed", "rejected: must be text"),
        ({"prompt": "Why?", "chosen": [], "rejected": "No."}, "malformed", "chosen: must be text"),
        (SIDES, "malformed", "what was asked is missing"),
        ({"prompt": 3, **SIDES}, "malformed", "prompt: must be text"),
        ({"prompt": "Why?", "tools": [{"name": "f"}], **SIDES}, "tools", "no place for tools"),
        ({"prompt": [{"role": "narrator", "content": "x"}], **SIDES}, "malformed", "narrator"),
        ([1], "malformed", "must be an object"),
    ],
)
def test_what_is_no_pair_is_said(record: Any, reason: str, told: str) -> None:
    with pytest.raises(RejectedRecord, match=told) as refused:
        to_pair(record, Counter())
    assert refused.value.reason == reason


def test_keys_that_nothing_is_learnt_from_are_counted() -> None:
    ignored: Counter[str] = Counter()
    to_pair({"prompt": "Why?", "score_chosen": 9.5, "id": "a", "note": None, **SIDES}, ignored)
    assert ignored == {"score_chosen": 1}

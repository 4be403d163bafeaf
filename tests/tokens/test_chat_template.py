"""Chat templates of others: what ChatEncoder gives is what transformers gives, and text never becomes a control token."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tasks.core.errors import UserError
from tasks.tokens.chat_encoder import ChatEncoder, require_template
from tasks.tokens.special_tokens import read_special_tokens
from tests.helpers.tiny import sentence

FOR_EACH = "{% for message in messages %}"
TURN = "'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'"
CHATML = FOR_EACH + "{{ " + TURN + " }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TEMPLATES = {
    "chatml": CHATML + ASK,
    "supplies a system message": "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    + CHATML
    + ASK,
    "headers, strips": "{{ bos_token }}"
    + FOR_EACH
    + "{{ '<|head|>' + message['role'] + '<|/head|>\n\n' + message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}",
    "no system message": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    + FOR_EACH
    + "{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
    "{{ '<|im_start|>' + role + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}",
    "ends turns by the end of a text": FOR_EACH
    + "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "thinks in its last answer": FOR_EACH + "{% if loop.last and message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message['content'] + '<|im_end|>\n' }}"
    "{% else %}{{ " + TURN + " }}{% endif %}{% endfor %}" + ASK,
}
WITHOUT_FORM = {
    "[INST] before and after": (
        FOR_EACH + "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}",
        "no form of asking for an answer",
    ),
    "plain text between turns": (
        FOR_EACH + "{{ '### ' + message['role'] + ':\n' + message['content'] + '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}",
        "no control token",
    ),
    "numbers its turns": (
        FOR_EACH + "{{ '<|im_start|>' ~ loop.index ~ message['content'] + '<|im_end|>' }}{% endfor %}" + ASK,
        "depends on where the message stands",
    ),
    "the last message only": ("{{ messages[-1]['content'] }}<|im_end|>" + ASK, "leaves out or repeats"),
    "no Jinja": ("{% for %}", "no template that Jinja reads"),
    "reaches for Python": ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "cannot be rendered"),
}
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>"]
SPECIAL += ["<|system|>", "<|user|>", "<|assistant|>"]


def make(folder: Path, template: str | None, digits: bool = False) -> Path:
    """A tokenizer of another kind than the pipeline's own."""
    bpe = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    bpe.pre_tokenizer = split if digits else level
    bpe.decoder = decoders.ByteLevel()
    rng = random.Random(1)
    texts = [f"user\n\n{sentence(rng)}\n  assistant {rng.random()}" for _ in range(200)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp("t"), template, True) for name, template in TEMPLATES.items()}


CONTENTS = st.lists(st.sampled_from([*"ab é\n\t1,!", *SPECIAL[2:5]]), max_size=12).map("".join)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tokens_are_those_of_the_template(folders: dict[str, Path], name: str) -> None:
    require_template(folders[name])
    encoder, theirs = ChatEncoder(folders[name]), AutoTokenizer.from_pretrained(folders[name])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(CONTENTS.filter(lambda text: "|>" not in text and "</s>" not in text), min_size=1, max_size=5))
    def check(contents: list[str]) -> None:
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
        if messages[-1]["role"] == "assistant":
            messages.pop()
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert encoder.prompt(messages, 1 << 30) == ids

    check()


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_is_the_answer_and_its_end(folders: dict[str, Path], name: str) -> None:
    encoder, theirs = ChatEncoder(folders[name]), AutoTokenizer.from_pretrained(folders[name])
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "the sea"}] * 2
    whole = encoder.join(encoder.turns([messages])[0])
    said = [token for token, says in zip(whole.ids, whole.assistant_mask, strict=True) if says]
    end = theirs.convert_ids_to_tokens(encoder.turn_end)
    assert theirs.decode(said) == f"the sea{end}" * 2
    asked = encoder.prompt(messages[:3], 1 << 30)
    assert whole.ids[: len(asked)] == asked  # the model is asked in the form in which it was taught
    assert whole.assistant_mask[len(asked)]
    assert not whole.assistant_mask[len(asked) - 1]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(content=CONTENTS)
def test_text_never_becomes_a_control_token(folders: dict[str, Path], name: str, content: str) -> None:
    encoder = ChatEncoder(folders[name])
    control = set(read_special_tokens(folders[name]).ids.values())
    counts = {
        sum(token in control for token in encoder.prompt([{"role": role, "content": text}], 1 << 30))
        for role in ("user",)
        for text in (content, "plain")
    }
    assert len(counts) == 1


def test_a_system_message_without_a_place_leads_the_user_s(folders: dict[str, Path]) -> None:
    encoder = ChatEncoder(folders["no system message"])
    user = {"role": "user", "content": "Hello"}
    system = {"role": "system", "content": "Be brief."}
    joined = [{"role": "user", "content": "Be brief.\n\nHello"}]
    assert encoder.prompt([system, user], 1 << 30) == encoder.prompt(joined, 1 << 30)


@pytest.mark.parametrize("name", WITHOUT_FORM)
def test_a_template_without_a_form_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    template, reason = WITHOUT_FORM[name]
    with pytest.raises(UserError, match=f"(?s)the chat template cannot be used: .*{reason}".replace("[", r"\[")):
        _ = ChatEncoder(make(tmp_path, template)).chat_format


def test_without_a_template_plain_text_is_encoded_still(tmp_path: Path) -> None:
    encoder = ChatEncoder(make(tmp_path, None))
    assert encoder.decode(encoder.texts(["the sea"])[0]) == "the sea"
    assert (encoder.start, encoder.pad) == (0, 0)
    with pytest.raises(UserError, match="has no chat template"):
        encoder.prompt([{"role": "user", "content": "Hello"}], 100)


def test_what_begins_a_document(tmp_path: Path) -> None:
    """`<|endoftext|>`, else the token that begins a text, else the one that ends it."""
    folder = make(tmp_path, None)
    path, settings_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<|endoftext|>", "<|nothing|>"))
    assert read_special_tokens(folder).start == "<s>"
    configured = json.loads(settings_path.read_text())
    settings_path.write_text(json.dumps({**configured, "bos_token": None}))
    assert read_special_tokens(folder).start == "</s>"
    settings_path.write_text(json.dumps({**configured, "bos_token": {"content": "<s>"}, "pad_token": "<|eot|>"}))
    assert (read_special_tokens(folder).start, read_special_tokens(folder).pad) == ("<s>", "<|eot|>")
    settings_path.write_text("{}")
    with pytest.raises(UserError, match="nothing can tell documents apart"):
        read_special_tokens(folder)

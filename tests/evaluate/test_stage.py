"""Evaluate: bits per byte as lm-eval counts them, answers as torchmetrics scores them, and what cannot be measured is null."""

import json
import lzma
import math
import random
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from tasks.conversations.conversation import render_conversation
from tasks.core.errors import UserError
from tasks.evaluate.answer_metrics import RougeL, exact_match, f1, normalize_answer
from tasks.evaluate.prompts import PromptBuilder
from tasks.model.bits_per_byte import document_nats, likelihood_metrics, rolling_windows
from tasks.model.model_pointer import write_pointer
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.evaluating import QUICK, documents, evaluate, held_out
from tests.helpers.tiny import conversation, sentence, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def document(number: int, source: str, split: str = "validation", long: int = 1):
    rng = random.Random(number)
    if source == "chat":
        messages = conversation(number)
        return {
            "id": f"c{number}",
            "source": source,
            "text": render_conversation(messages),
            "meta": {"messages": messages},
            "split": split,
        }
    text = ". ".join(sentence(rng) for _ in range(3 * long)) + " — né 日本\n"
    return {"id": f"d{number}", "source": source, "text": text, "meta": {}, "split": split}


def question(number: int, asked: str, answer: str):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"id": f"d{number}#0", "source": "s", "kind": "question", "messages": messages}


@pytest.fixture
def data(tmp_path):
    rows = [document(n, "chat", "train" if n % 4 else "validation") for n in range(60)]
    rows += [document(n, "docs", long=1 + n % 20) for n in range(100, 130)]
    asked = [question(n, f"What does the cat see, number {n}?", sentence(random.Random(n))) for n in range(6)]
    said = [{"id": f"c{n}", "source": "chat", "kind": "conversation", "messages": conversation(n)} for n in (0, 4, 8)]
    return {
        "documents": documents(tmp_path / "documents", rows),
        "held_out": held_out(tmp_path / "held_out", asked + said),
    }


def lines(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_measures_both_models_on_the_same_text_as_xz(tmp_path, models, data):
    root, metrics = evaluate(tmp_path / "a", models, data)
    assert metrics["validation_text"] == "conversations"
    assert metrics["documents_available"] == 45
    assert metrics["validation_bits_per_byte"] == metrics["pretrain"]["by_source"]["chat"]["bits_per_byte"]
    texts = sorted((document(n, "chat")["text"] for n in range(0, 60, 4)), key=len)
    assert metrics["pretrain"]["conversations"]["bytes"] == sum(len(text.encode()) for text in texts)
    packed = len(lzma.compress("\n".join(texts).encode(), preset=9 | lzma.PRESET_EXTREME))
    assert metrics["xz_bits_per_byte"] == pytest.approx(
        8 * packed / sum(map(len, texts)), rel=0.05
    )  # the order differs
    assert metrics["finetune"]["all"]["bits_per_byte"] < metrics["pretrain"]["all"]["bits_per_byte"] < 8
    assert metrics["pretrain"]["by_source"]["docs"]["bytes"] <= 3_000
    assert json.loads((root / "results.json").read_text()) == metrics
    asked = lines(root / "questions.jsonl")
    assert {name: found["tokens"] > 0 for name, found in metrics["replies"].items()} == {
        "pretrain": True,
        "finetune": True,
    }
    for name, text in (
        ("replies", metrics["replies"]),
        ("documents", {k: metrics[k]["conversations"] for k in ("pretrain", "finetune")}),
    ):
        gain = metrics["gains"][name]
        assert gain["after"] == pytest.approx(text["finetune"]["bits_per_byte"], abs=1e-5)
        assert gain["before"] == pytest.approx(text["pretrain"]["bits_per_byte"], abs=1e-5)
        assert gain["low"] <= gain["difference"] <= gain["high"] < 0
        assert gain["items"] > 1
    assert metrics["questions"]["f1_stderr"] == pytest.approx(
        statistics.stdev(row["f1"] for row in asked) / 6**0.5, abs=1e-6
    )
    assert len(asked) == 6 == metrics["questions"]["asked"]
    assert metrics["questions"]["f1"] == pytest.approx(sum(row["f1"] for row in asked) / 6, abs=1e-6)
    samples = lines(root / "samples.jsonl")
    assert [row["mode"] for row in samples] == ["greedy", "sampled", "sampled", "sampled"] * 2
    assert len({row["reply"] for row in samples}) > 2
    assert not any("<|" in row["reply"] for row in samples)
    again, _ = evaluate(tmp_path / "b", models, data)
    for name in ("results.json", "samples.jsonl", "questions.jsonl"):
        assert (again / name).read_bytes() == (root / name).read_bytes()


def test_batches_do_not_change_the_answers(tmp_path, models, data):
    roots = [evaluate(tmp_path / str(batch), models, data, batch=batch)[0] for batch in (1, 5)]
    one, five = [[row["answer"] for row in lines(root / "questions.jsonl")] for root in roots]
    assert one == five


def test_uniform_model_needs_log2_of_the_vocabulary_for_each_token(models):
    model = LlamaForCausalLM.from_pretrained(models["pretrain"])
    torch.nn.init.zeros_(model.model.norm.weight)  # every logit becomes 0
    encoder = ChatEncoder(models["pretrain"])
    texts = [document(n, "docs", long=n)["text"] for n in (1, 9, 30)]
    tokens = encoder.texts(texts)
    assert len(tokens[2]) > 2 * model.config.max_position_embeddings
    nats = document_nats(model, tokens, 0, 1, "score")
    measured = likelihood_metrics(sum(nats), sum(map(len, tokens)), texts)
    size = sum(len(text.encode()) for text in texts)
    expected = math.log2(model.config.vocab_size) * sum(map(len, tokens)) / size
    assert measured["bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert measured["token_perplexity"] == pytest.approx(model.config.vocab_size, rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(2, 70))
def test_windows_are_lm_evals(length, context):
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    tokens = list(range(100, 100 + length))
    pairs = map(make_disjoint_window, get_rolling_token_windows(tokens, 0, context, 1))
    ours = list(rolling_windows(0, tokens, 0, context))
    assert [(w.inputs, w.targets) for w in ours] == [((a + b)[:-1], b) for a, b in pairs]
    assert [token for window in ours for token in window.targets] == tokens


@pytest.mark.slow
def test_bits_per_byte_and_perplexity_equal_lm_evals(tmp_path, models):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    texts = [document(n, ("docs", "chat")[n % 2], long=1 + 2 * n)["text"] for n in range(24)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    task = {
        "task": "held_out",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "held_out.jsonl")}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    }
    (tmp_path / "held_out.yaml").write_text(json.dumps(task))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    wrapped = HFLM(pretrained=str(models["pretrain"]), device="cpu", dtype="float32", add_bos_token=False, batch_size=4)
    theirs = lm_eval.simple_evaluate(wrapped, tasks=["held_out"], task_manager=manager, bootstrap_iters=0)
    scores = theirs["results"]["held_out"]

    rows = [{"id": str(n), "source": "s", "text": text, "split": "validation"} for n, text in enumerate(texts)]
    data = {"documents": documents(tmp_path / "d", rows), "held_out": held_out(tmp_path / "h", [])}
    _, metrics = evaluate(tmp_path / "out", models, data, max_bytes=1_000_000)
    ours = metrics["pretrain"]["all"]
    assert ours["bits_per_byte"] == pytest.approx(scores["bits_per_byte,none"], abs=1e-6)
    assert ours["byte_perplexity"] == pytest.approx(scores["byte_perplexity,none"], abs=1e-5)
    assert ours["word_perplexity"] == pytest.approx(scores["word_perplexity,none"], rel=1e-5)


WORDS = st.lists(
    st.sampled_from(["a", "the", "An", "cat", "cat's", "don't", "sea.", "Sea!", "42", "the-cat"]), max_size=6
).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(WORDS, WORDS)
def test_em_and_f1_are_torchmetrics(answer, expected):
    from torchmetrics.functional.text import squad

    theirs = squad(
        [{"prediction_text": answer, "id": "1"}], [{"answers": {"answer_start": [0], "text": [expected]}, "id": "1"}]
    )
    assert 100 * exact_match(answer, expected) == pytest.approx(float(theirs["exact_match"]))
    assert 100 * f1(answer, expected) == pytest.approx(float(theirs["f1"]), abs=1e-3)


def test_known_values():
    assert normalize_answer("The  cat's, a\tDon't!") == "cats dont"
    assert exact_match("the Eiffel Tower.", "Eiffel tower") == 1
    assert f1("blue whale", "the blue whale is big") == pytest.approx(2 * 2 / (2 + 4))
    assert f1("", "") == 1
    assert f1("", "x") == 0
    # Lin 2004: "police killed the gunman" against "police kill the gunman" has an LCS of 3 of 4 words
    assert RougeL(False)("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert RougeL(True)("police kill the gunman", "police killed the gunman") == 1


def test_right_answers_score_one(tmp_path, models, data, monkeypatch):
    from tasks.evaluate.generate import Generator
    from tasks.held_out import held_out_items as chosen

    asked, _ = chosen.held_out_questions(data["held_out"], 6)
    encoder = ChatEncoder(models["finetune"])
    known = {tuple(encoder.prompt(q.prompt, 128)): q.expected for q in asked}
    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, *_: [known.get(tuple(p), "") for p in prompts])
    _, metrics = evaluate(tmp_path / "a", models, data)
    assert [metrics["questions"][name] for name in ("em", "f1", "rougeL")] == [1, 1, 1]


def test_what_cannot_be_measured_is_null_with_a_reason(tmp_path, models):
    data = {
        "documents": documents(tmp_path / "d", [document(1, "docs", "train")]),
        "held_out": held_out(tmp_path / "h", []),
    }
    _, metrics = evaluate(tmp_path / "a", models, data)
    assert metrics["validation_bits_per_byte"] is metrics["xz_bits_per_byte"] is metrics["questions"] is None
    assert metrics["not_measured"]["validation_bits_per_byte"] == "no document is held out"
    assert metrics["not_measured"]["questions"] == "no question is held out"  # no path: it would differ by machine


def test_without_conversations_all_documents_are_the_yardstick(tmp_path, models):
    data = {
        "documents": documents(tmp_path / "d", [document(1, "docs")]),
        "held_out": held_out(tmp_path / "h", []),
    }
    _, metrics = evaluate(tmp_path / "a", models, data, max_bytes=1)
    assert metrics["validation_text"] == "all"
    assert metrics["documents_scored"] == 1


def test_a_base_model_continues_texts(tmp_path, models, data):
    """Where nothing was tuned there is one model: asked by completion, beginning with openings of the held-out documents."""
    from tasks.held_out.held_out_items import validation_documents

    pointer = tmp_path / "finetune"
    pointer.mkdir()
    write_pointer(pointer, models["pretrain"], "no conversation to tune on")
    root, metrics = evaluate(tmp_path / "a", {"pretrain": models["pretrain"], "finetune": pointer}, data)
    both, tuned = evaluate(tmp_path / "b", models, data)
    assert (metrics["model"], tuned["model"]) == ("base", "tuned")
    assert "finetune" not in metrics
    assert metrics["pretrain"] == tuned["pretrain"]
    assert metrics["validation_bits_per_byte"] == tuned["validation_bits_per_byte"]
    assert [row["question"] for row in lines(root / "questions.jsonl")] == [
        row["question"] for row in lines(both / "questions.jsonl")
    ]
    assert not any("\n" in row["answer"] for row in lines(root / "questions.jsonl"))
    prompts = list(dict.fromkeys(row["prompt"] for row in lines(root / "samples.jsonl")))
    assert prompts[3:] == list(QUICK["prompts"])
    held = [" ".join(document.text.split()) for document in validation_documents(data["documents"])[:3]]
    assert all(text.startswith(prompt) and prompt for prompt, text in zip(prompts, held, strict=False))


def test_the_form_in_which_a_base_model_is_asked(models):
    """lm-eval's form; the tokens are those of the text, led by the start of a document; the oldest go first."""
    encoder = ChatEncoder(models["pretrain"])
    asking = PromptBuilder(encoder, tuned=False)
    said = [*conversation(1, 2), {"role": "user", "content": "And the sea?"}]
    text = f"Question: {said[0]['content']}\nAnswer: {said[1]['content']}\nQuestion: And the sea?\nAnswer:"
    ids = asking.question(said, 128)
    assert ids == [encoder.start, *encoder.texts([text])[0]]
    assert asking.question(said, 10) == [encoder.start, *ids[-9:]]
    assert asking.sample("the cat", 128) == [encoder.start, *encoder.texts(["the cat"])[0]]
    assert asking.answer(" Blue.\nQuestion: What else?") == "Blue."


def test_replies_leave_half_of_the_context_to_the_prompt(tmp_path, models, data, caplog):
    roots = [evaluate(tmp_path / str(most), models, data, max_new_tokens=most)[0] for most in (64, 100)]
    half, more = [(root / "questions.jsonl").read_bytes() for root in roots]
    assert half == more
    assert "evaluate.max_new_tokens: 100 is more than half of the model's context: replies have 64" in caplog.text


def test_a_users_mistakes(tmp_path, models, data):
    with pytest.raises(UserError, match="dvc repro"):
        evaluate(tmp_path / "b", {**models, "prefer": tmp_path / "nothing"}, data)
    broken = tmp_path / "broken"
    tiny_model(broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="holds no readable model"):
        evaluate(tmp_path / "c", {**models, "pretrain": broken}, data)

"""The comparison of vocabulary sizes counts what is there, and proposes by its rule."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.tokenizer.stage import TokenizerParams
from tasks.tokenizer.vocabulary_sizes import CostModel, propose_size
from tasks.tokens.encode import encode_documents
from tests.helpers.training_tokenizers import corpus, train

SIZES = (262, 300, 500)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus") / "documents")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("compared")
    _, metrics = train(folder, documents, compare=SIZES[::-1], rare=30)
    return folder, metrics


def model_of(path):
    content = json.loads(path.read_text())
    return content["model"], content["pre_tokenizer"], content["added_tokens"]


def test_candidates_are_counted(comparison, documents, tmp_path):
    """Each against a tokenizer of that size trained by itself, counted by hand."""
    rows = [row for path in sorted(documents.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    candidates = comparison[1]["comparison"]["candidates"]
    assert list(candidates) == [str(size) for size in SIZES]
    for size in SIZES:
        alone, _ = train(tmp_path / str(size), documents, vocab_size=size)
        saved = comparison[0] / "work" / "candidates" / str(size) / "tokenizer.json"
        assert model_of(saved) == model_of(alone / "tokenizer.json")
        found = candidates[str(size)]
        for source in ("books", "talk"):
            texts = [row["text"] for row in rows if row["source"] == source]
            tokens = sum(map(len, encode_documents(alone, texts)))
            assert found["sources"][source]["tokens"] == tokens
            assert found["sources"][source]["bytes_per_token"] == round(sum(len(t.encode()) for t in texts) / tokens, 4)
            assert found["sources"][source]["words_per_token"] == round(sum(len(t.split()) for t in texts) / tokens, 4)
        assert found["languages"]["unknown"]["tokens"] == sum(s["tokens"] for s in found["sources"].values())
        # All training documents fit the measured sample, so the expected number of occurrences is the number.
        seen = Counter(
            int(number)
            for ids in encode_documents(alone, [row["text"] for row in rows if row["split"] == "train"])
            for number in ids
        )
        assert found["undertrained_tokens"] == sum(seen[number] < 30 for number in range(6, size))
        learnt = [seen[number] < 30 for number in range(262, size)]  # after the control tokens and the bytes
        assert found["undertrained_share"] == (round(sum(learnt) / len(learnt), 4) if learnt else 0)


def test_cost_by_hand():
    """GPT-2 small: 12 layers of 768, 50,257 tokens: 85 M weights in its blocks, 38.6 M in the output matrix."""
    model = CostModel(layers=12, hidden=768, context_length=1024)
    assert model.body_flops() == 6 * 84_934_656 + 12 * 12 * 768 * 1024
    assert model.softmax_flops(50_257) == 6 * 38_597_376


def test_costs_go_opposite_ways(comparison):
    small, middle, large = (comparison[1]["comparison"]["candidates"][str(size)] for size in SIZES)
    assert small["body_flops_per_byte"] > middle["body_flops_per_byte"] > large["body_flops_per_byte"]
    for found in (small, middle, large):
        parts = found["body_flops_per_byte"] + found["softmax_flops_per_byte"]
        assert found["training_flops_per_byte"] == pytest.approx(parts, abs=1)
    per_token = 6 * 192 * 500
    assert large["softmax_flops_per_byte"] == pytest.approx(per_token / large["bytes_per_token"], rel=1e-3)


@pytest.mark.parametrize(
    ("shares", "costs", "proposed"),
    [
        ((0.0, 0.01, 0.05), (30, 20, 10), 500),  # 95% learnt is enough
        ((0.0, 0.01, 0.06), (30, 20, 10), 300),
        ((0.0, 0.0, 0.0), (10, 20, 30), 262),
        ((0.3, 0.2, 0.4), (30, 20, 10), 300),  # none is learnt: the best learnt
        ((0.0, 0.0, 0.0), (10, 10, 10), 262),
    ],
)
def test_proposal(shares, costs, proposed):
    rows = zip(SIZES, shares, costs, strict=True)
    assert (
        propose_size({str(n): {"undertrained_share": s, "training_flops_per_byte": c} for n, s, c in rows}) == proposed
    )


def test_what_is_used_does_not_change(comparison, documents, tmp_path):
    folder, metrics = train(tmp_path, documents)
    assert "comparison" not in metrics
    assert {**comparison[1], "comparison": None} == {**metrics, "comparison": None}
    for path in folder.iterdir():
        assert path.read_bytes() == (comparison[0] / "out" / path.name).read_bytes()


@pytest.mark.parametrize("model", ["unigram", "wordpiece"])
def test_candidates_of_other_models_are_trained_alike(tmp_path, model):
    documents = corpus(tmp_path / "documents", count=40)
    train(tmp_path, documents, model=model, compare=(300, 450))
    alone, _ = train(tmp_path / "alone", documents, model=model, vocab_size=300)
    saved = tmp_path / "work" / "candidates" / "300" / "tokenizer.json"
    assert model_of(saved) == model_of(alone / "tokenizer.json")


@pytest.mark.parametrize("sizes", ["[100, 300]", "[300, 300]", "[4000000]"])
def test_mistakes(sizes):
    with pytest.raises(UserError, match=r"tokenizer\.compare: must be"):
        validate(TokenizerParams, {"compare": json.loads(sizes)}, "params.yaml: tokenizer")


def test_a_candidate_larger_than_the_corpus_allows(tmp_path):
    documents = corpus(tmp_path / "documents", count=12)
    with pytest.raises(UserError, match=r"tokenizer\.compare: 20000 is larger than the corpus allows"):
        train(tmp_path, documents, vocab_size=262, compare=(20_000,))

"""Every family learns: held-out text below its unigram entropy, and a copy task; what was trained is what is saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.architectures.building.create import model_class
from tasks.architectures.families.family import Family
from tasks.architectures.families.table import FAMILIES
from tasks.model.embedding import embed, linear_probe
from tasks.pretrain.data_loader import IGNORE_INDEX
from tasks.pretrain.objectives.objective import Objective
from tests.helpers.architectures import FIRST, PAD, START, ids_of, trained_pair
from tests.helpers.learning import HALF, LETTERS, SYMBOLS, batch, is_letter, is_symbol, score, train, unigram_entropy

pytestmark = pytest.mark.slow
STEPS = {"mpt": 350}
MASKING = {
    "masked": {"fraction": 0.25},
    "replaced_token": {"fraction": 0.25, "generator_share": 1.0},
    "span_corruption": {"mean_span": 1.0},
}


@dataclass(frozen=True)
class Trained:
    family: Family
    model: Any
    objective: Objective
    masking: dict[str, Any]

    @property
    def kept(self) -> Any:
        """The model that is exported."""
        return getattr(self.model, "discriminator", self.model)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest) -> Trained:
    family = FAMILIES[request.param]
    masking = MASKING.get(family.objective, {})
    wide = {"init_std": 0.1} if "init_std" in family.choices else {}
    model, objective = trained_pair(family.name, masking, hidden=64, **wide)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(model, objective, family, STEPS.get(family.name, 200))
    torch.set_num_threads(threads)
    return Trained(family, model, objective, masking)


def test_text_is_predicted_better_than_by_frequencies(trained: Trained) -> None:
    held_out = batch(10**6, rows=100)
    labels, nats, _, _ = score(trained.model, trained.objective, held_out)
    assert nats[is_letter(labels)].mean() < 0.75 * unigram_entropy(held_out)


def test_a_copy_is_made(trained: Trained) -> None:
    """Where what is asked for stands elsewhere in the document: nats far below those of 12 symbols (2.5)."""
    labels, nats, extras, inputs = score(trained.model, trained.objective, batch(10**6, rows=100))
    wanted = is_symbol(labels)
    if trained.family.objective in ("causal", "denoising"):
        places = inputs.get("position_ids", np.arange(labels.shape[1])[None])
        wanted &= (places >= HALF) & (places < 2 * HALF)
    elif trained.family.isolation == "mask":
        wanted &= twin_is_seen(inputs["input_ids"], inputs["position_ids"])
    elif trained.family.name == "deberta":
        wanted &= twin_is_seen(inputs["input_ids"], np.arange(labels.shape[1])[None].repeat(len(labels), 0))
    assert wanted.sum() > 50
    assert nats[wanted].mean() < 0.5
    if extras:
        assert extras.get("replaced_token", 0) < 0.25  # of about 0.5 for one who knows their share alone
        assert extras.get("load_balancing", 2.0) < 3.0  # 2 is even, 8 all to the same


def twin_is_seen(given: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Whether the same symbol stands, unhidden, in the other half of the copy."""
    seen = np.zeros(given.shape, dtype=bool)
    for row, column in np.argwhere((positions >= 1) & (positions <= 2 * HALF)):
        twin = column + (HALF if positions[row, column] <= HALF else -HALF)
        seen[row, column] = 0 <= twin < given.shape[1] and given[row, twin] in SYMBOLS
    return seen


def test_what_is_saved_is_what_was_trained(trained: Trained, tmp_path: Path) -> None:
    trained.kept.save_pretrained(tmp_path)
    again = model_class(trained.family, trained.family.objective).from_pretrained(tmp_path)
    tokens = torch.from_numpy(batch(3, rows=2).input_ids)
    given = {"input_ids": tokens, **({"decoder_input_ids": tokens} if trained.family.is_encoder_decoder else {})}
    with torch.no_grad():
        assert torch.equal(trained.kept(**given).logits, again(**given).logits)


def test_encoder_decoders_generate(trained: Trained) -> None:
    """T5 fills in a dropped symbol; BART writes out a document of which a span is masked."""
    if not trained.family.is_encoder_decoder:
        pytest.skip("predicts no text, or as a decoder does, which tests of evaluate cover")
    ids = ids_of(trained.family, **trained.masking)
    first, second, third, fourth = SYMBOLS[:4]
    copied = [first, second, third, fourth]
    hidden = ids.sentinels[0] if trained.family.name == "t5" else ids.mask
    source = torch.tensor(
        [[START, *copied, first, hidden, third, fourth, *([START] if trained.family.name == "t5" else [])]]
    )
    written = trained.model.generate(source, max_new_tokens=12, do_sample=False)[0].tolist()
    wanted = [hidden, second, START] if trained.family.name == "t5" else [*copied, *copied, START]
    assert [token for token in written if token != PAD][-len(wanted) :] == wanted


def test_embeddings_are_told_apart(trained: Trained) -> None:
    """By a linear probe: whether a sentence begins with "the", as three of eight do; padding does not change them."""
    rows = batch(5, rows=120)
    texts = [
        row[positions == np.arange(len(row))].tolist()
        for row, positions in zip(rows.input_ids, rows.position_ids, strict=True)
    ]
    embeddings = embed(trained.kept, texts, PAD)
    assert np.abs(embeddings[7] - embed(trained.kept, [texts[7]], PAD)[0]).max() < 1e-4
    classes = ["the" if text[1] == FIRST + LETTERS.index("t") else "other" for text in texts]
    found = linear_probe(embeddings, classes)
    assert found["accuracy"] > 0.9 > 0.75 > found["majority"]


def test_labels_of_every_row_are_predicted() -> None:
    labels, _, _, _ = score(*trained_pair("llama"), batch(1, rows=2))
    assert (labels != IGNORE_INDEX).all()

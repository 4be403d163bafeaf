"""Corrupted text: what is asked does not move, can be put back, and is scored as transformers' own losses say."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from tasks.architectures.families.table import BY_MODEL_TYPE
from tasks.core.errors import UserError
from tasks.corrupted_text.answers import Answer, answers, detection, measures
from tasks.corrupted_text.corruptions import Question, ask
from tasks.corrupted_text.restorer import Restorer, load_restorer, objective_of
from tasks.pretrain.objectives.masked import encoder_arguments
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.restorers import CONTEXT, OBJECTIVES, untrained
from tests.helpers.tiny import sentence, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = [". ".join(sentence(random.Random(n + 10 * m)) for m in range(1 + 4 * n)) + " né" for n in range(6)]


@pytest.fixture(scope="module", params=OBJECTIVES)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Restorer, list[list[int]]]:
    folder = untrained(tmp_path_factory.mktemp(request.param), request.param)
    restorer = load_restorer(folder, "cpu")
    assert restorer.objective == objective_of(folder) == OBJECTIVES[request.param]
    assert restorer.context == CONTEXT
    return restorer, ChatEncoder(folder).texts(TEXTS)


def put_back(restorer: Restorer, question: Question) -> list[int]:
    """What was hidden, put back where it stood, from what the model is given and the right answers."""
    given = question.given.tolist()
    match restorer.objective:
        case "masked":
            for place, token in zip(question.places, question.answers, strict=True):
                assert given[place] == restorer.mask
                given[place] = int(token)
            return given
        case "replaced_token":
            replaced = question.places[question.answers == 1].tolist()
            assert all(given[place] != question.tokens[place] for place in replaced)
            return [int(question.tokens[at]) if at in replaced else token for at, token in enumerate(given)]
        case "span_corruption":
            spans: dict[int, list[int]] = {}
            for at, token in enumerate(question.decoder[1:].tolist()):
                if token in restorer.sentinels:
                    spans[token] = []
                else:
                    assert question.answers[np.flatnonzero(question.places == at)[0]] == token
                    spans[list(spans)[-1]].append(token)
            assert given[-1] == restorer.start
            return [token for left in given[:-1] for token in spans.get(left, [left])]
        case _:
            assert (question.decoder[question.places + 1] == question.answers).all()
            kept = np.delete(question.tokens, question.places + 1).tolist()
            assert [token for token in given if token != restorer.mask] == kept
            return question.decoder.tolist()


def test_what_is_hidden_can_be_put_back(asked: tuple[Restorer, list[list[int]]]) -> None:
    restorer, documents = asked
    questions = ask(restorer, documents)
    assert restorer.token_bytes[documents[5]].sum() == len(TEXTS[5].encode())
    for question in questions:
        assert len(question.tokens) <= CONTEXT
        assert put_back(restorer, question) == question.tokens.tolist()
        hidden = int((question.spans[:, 1] - question.spans[:, 0]).sum())
        text = len(question.tokens)
        assert abs(hidden - 0.15 * text) <= 1
    whole = [token for question in questions for token in question.tokens.tolist() if token != restorer.start]
    assert whole == [token for document in documents for token in document]


def test_a_question_hangs_on_its_piece_alone(asked: tuple[Restorer, list[list[int]]]) -> None:
    restorer, documents = asked
    last = [question for question in ask(restorer, documents) if question.document == 5]
    alone = ask(restorer, documents[5:])
    assert len(last) == len(alone) > 1
    for one, other in zip(last, alone, strict=True):
        assert one.given.tolist() == other.given.tolist()
        assert one.answers.tolist() == other.answers.tolist()
    assert len(ask(restorer, documents, most=3)) == 3


def test_nats_are_transformers_own_losses(asked: tuple[Restorer, list[list[int]]]) -> None:
    """Its loss of one piece at a time, given as pretrain gives it: so padding, company and positions change nothing."""
    restorer, documents = asked
    family = BY_MODEL_TYPE[restorer.model.config.model_type]
    questions = ask(restorer, documents)
    said = {id(answer.question): answer.nats for answer in answers(restorer.model, questions, restorer.pad, "score")}
    for question in questions:
        length = len(question.given)
        given = {"input_ids": torch.from_numpy(question.given)[None]}
        apart = {"attention_mask": torch.ones(1, length)} if family.isolation == "rows" else {}
        given = encoder_arguments(
            family, restorer.model, {**given, **apart, "position_ids": torch.arange(length)[None]}
        )
        if restorer.model.config.is_encoder_decoder:
            given["decoder_input_ids"] = torch.from_numpy(question.decoder)[None]
            length = len(question.decoder)
        if restorer.objective == "replaced_token":  # whose loss leaves out by its mask, not by a label
            labels = torch.zeros(length)
            labels[question.places] = torch.from_numpy(question.answers).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                restorer.model(**given).logits[0, question.places], labels[question.places], reduction="sum"
            )
        else:
            labels = torch.full((1, length), -100)
            labels[0, question.places] = torch.from_numpy(question.answers)
            loss = restorer.model(**given, labels=labels).loss * len(question.answers)
        assert said[id(question)] == pytest.approx(loss.item(), rel=1e-4)


def question(answers: list[int], size: int = 8) -> Question:
    known = np.array(answers)
    return Question(known, known, np.arange(len(known)), known, size, np.empty((0, 2), dtype=np.int64))


def test_measures_are_those_of_the_definitions() -> None:
    """Four answers of which three are right; frequencies of 1/2, 1/4, 1/4 are 1.5 bits an answer."""
    said = [Answer(question([5, 5]), 2.0, np.array([5, 5])), Answer(question([7, 9]), math.log(2), np.array([7, 7]))]
    assert measures(said) == {
        "answers": 4,
        "bytes": 16,
        "accuracy": 0.75,
        "majority": 0.5,
        "loss": round((2 + math.log(2)) / 4, 6),
        "bits_per_byte": round((2 / math.log(2) + 1) / 16, 6),
        "frequencies_bits_per_byte": 4 * 1.5 / 16,
    }


def test_detection_is_scikit_learns() -> None:
    draws = np.random.default_rng(0)
    wanted, given = (draws.random(200) < 0.2).astype(int), (draws.random(200) < 0.3).astype(int)
    said = [Answer(question(wanted[at : at + 50].tolist()), 0.0, given[at : at + 50]) for at in range(0, 200, 50)]
    precision, recall, f1, _ = precision_recall_fscore_support(wanted, given, average="binary")
    found = detection(said)
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx([precision, recall, f1], abs=1e-6)
    assert detection([Answer(question([0, 0]), 0.0, np.array([0, 0]))])["f1"] is None


def test_a_decoder_is_causal_and_a_class_of_no_family_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    assert objective_of(tmp_path) == "causal"
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    with pytest.raises(
        UserError, match="holds a LlamaForSequenceClassification, which is no class of the families here"
    ):
        objective_of(tmp_path)

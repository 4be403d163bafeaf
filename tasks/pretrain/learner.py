"""What is trained: a model with its first weights, or somebody else's, and the objective that it is trained by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.architectures.building.attention import set_attention
from tasks.architectures.building.create import create_config, create_model
from tasks.architectures.building.electra import ReplacedTokenModel
from tasks.architectures.building.mup import learning_rate_multipliers
from tasks.architectures.building.special_ids import SpecialIds, special_ids
from tasks.architectures.families.family import Family
from tasks.architectures.flops import multiplying_parameters, training_flops_per_token
from tasks.architectures.memory import CHUNKED_FROM
from tasks.architectures.roles import weight_roles
from tasks.architectures.shape_checks import require_objective
from tasks.core.errors import UserError
from tasks.model.load import load_model
from tasks.pretrain.checks.requirements import require_fitting
from tasks.pretrain.document_isolation import KNOWN_HEADS, isolating_family
from tasks.pretrain.objectives.build import build_objective, objective_ids
from tasks.pretrain.objectives.objective import Objective
from tasks.pretrain.params import PretrainParams
from tasks.tokens.token_texts import read_token_texts


@dataclass(frozen=True)
class Learner:
    """A model on the CPU, and how it learns.

    Attributes:
        model: what the engine is given; ELECTRA's is a pair of which the discriminator is kept.
        family, objective: its family, and its objective.
        ids: its special ids; the tokens that it adds to the tokenizer's are saved with the model.
        context_length: tokens that it reads.
        sinusoidal: its tables of positions are sines that do not learn, and are no weights of a checkpoint.
    """

    model: Any
    family: Family
    objective: Objective
    ids: SpecialIds
    context_length: int
    sinusoidal: bool = False

    @property
    def config(self) -> Any:
        return self.model.config

    def flops_per_token(self, context_length: int) -> int | None:
        """Of training on it; None for encoder-decoders, whose halves pass different numbers of tokens."""
        if self.family.is_encoder_decoder:
            return None
        return training_flops_per_token(self.config, multiplying_parameters(self.model), context_length)

    def rate_multipliers(self, params: PretrainParams) -> dict[str, float]:
        """By name of a weight, what its learning rate is multiplied by: its family's `rates`, and muP's; 1 where it is not named."""
        own = {
            name: rate
            for name, _ in self.model.named_parameters()
            for module, rate in self.family.rates.items()
            if name.rpartition(".")[0].endswith(module)
        }
        base = params.architecture.mup_base_width
        if base is None or params.start_from:
            return own
        muon = params.optimizer in ("muon", "normuon")
        roles = weight_roles(self.model)
        matrices = frozenset(name for name, weight in roles.items() if muon and weight.role == "matrix")
        scaled = learning_rate_multipliers(self.model, self.family, base, matrices)
        return {name: multiple * own.get(name, 1.0) for name, multiple in scaled.items()}


def make_learner(
    params: PretrainParams, vocabulary: int, document_start: int, pad: int, context_length: int, tokenizer: Path
) -> Learner:
    """A new model of the shape, family and choices that `params` name."""
    family, choices = params.model_family, params.architecture
    name = require_objective(family, params.objective)
    ids = objective_ids(family, name, params.masking, vocabulary, document_start, pad, context_length)
    config = create_config(family, params.shape(ids.embedding_rows, context_length), choices, ids)
    model = (
        ReplacedTokenModel(family, config, params.masking.generator_share, choices, params.seed)
        if name == "replaced_token"
        else create_model(family, name, config, choices, params.seed)
    )
    texts = [] if name == "causal" else read_token_texts(tokenizer)[:vocabulary]
    objective = build_objective(family, name, params.masking, ids, texts, config, z_loss=params.z_loss)
    return Learner(model, family, objective, ids, context_length, choices.positions == "sinusoidal")


def adopt_learner(params: PretrainParams, start: Path, vocabulary: int, document_start: int, pad: int) -> Learner:
    """The model in `start`, to be trained on to predict the next token.

    Raises:
        UserError: it cannot be read, is broken, has another vocabulary, or its documents could not be kept apart in a packed row.
    """
    model = load_model(start, "cpu")
    require_fitting(model, str(params.start_from), vocabulary)
    family = isolating_family(model, str(params.start_from))
    ids = special_ids("causal", model.config.vocab_size, document_start, pad)
    known = model.config.model_type in KNOWN_HEADS
    chunked_from = CHUNKED_FROM if known else ids.vocabulary + 1
    objective = build_objective(
        family, "causal", params.masking, ids, [], model.config, chunked_from, z_loss=params.z_loss
    )
    return Learner(model, family, objective, ids, int(model.config.max_position_embeddings))


def prepare_model(learner: Learner, params: PretrainParams, device: str) -> None:
    """Have the model compute as `params` say: its attention, and whether blocks are computed again on the way back.

    Raises:
        UserError: it cannot.
    """
    pair = [part for name in ("discriminator", "generator") if (part := getattr(learner.model, name, None)) is not None]
    for model in pair or [learner.model]:
        dropout = params.architecture.dropout or 0.0
        set_attention(model, learner.family, params.attention, device, params.precision, dropout)
        if not params.activation_checkpointing:
            continue
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"params.yaml: pretrain.activation_checkpointing: {learner.family.name} has no such thing. Set it to false"
            )
        # The other way compares what it computes again by its shape, which at stage 3 is that of a share.
        model.gradient_checkpointing_enable({"use_reentrant": params.zero_stage == 3})

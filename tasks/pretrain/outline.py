"""The model that is to be trained, without its numbers: shapes on the device `meta`, which take no memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.architectures.building.create import create_config, model_class
from tasks.architectures.building.electra import ReplacedTokenModel
from tasks.architectures.families.choices import Architecture
from tasks.architectures.shape import Shape
from tasks.architectures.shape_checks import require_objective
from tasks.pretrain.objectives.build import objective_ids

if TYPE_CHECKING:
    from tasks.pretrain.params import PlannedParams


def outline_model(params: "PlannedParams", packed: dict[str, Any], start: Path | None) -> Any:
    """The model for rows that `pack.json` describes; `start`: the folder of the given model that is trained on, if one is."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        if start:
            return AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(start, trust_remote_code=False), trust_remote_code=False
            )
        family, context = params.model_family, packed["context_length"]
        name = require_objective(family, params.objective)
        document_start = packed["document_start"]
        ids = objective_ids(
            family, name, params.masking, packed["vocabulary_size"], document_start, document_start + 1, context
        )
        config = create_config(family, params.shape(ids.embedding_rows, context), params.architecture, ids)
        if name == "replaced_token":
            first_weights = Architecture.model_validate({})  # whatever they are
            return ReplacedTokenModel(family, config, params.masking.generator_share, first_weights, params.seed)
        return model_class(family, name)(config)


def llama_shape(model: Any, context_length: int) -> Shape | None:
    """The shape of a Llama, whose activations can be forecast; None of other models."""
    config = model.config
    if type(model).__name__ != "LlamaForCausalLM":
        return None
    return Shape(
        *(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads),
        *(config.intermediate_size, config.vocab_size, context_length),
    )

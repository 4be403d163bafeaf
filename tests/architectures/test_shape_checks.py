"""What a family cannot be is refused by the key of params.yaml; what it is given arrives in its configuration."""

from dataclasses import replace
from typing import Any

import pytest
import transformers

from tasks.architectures.building.create import create_config
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.shape_checks import check_shape, require_objective
from tasks.core.errors import UserError
from tests.helpers.architectures import PAD, START, ids_of, shape_of, tiny


@pytest.mark.parametrize(
    ("name", "choices", "sizes", "message"),
    [
        ("mpt", {"activation": "relu"}, {}, r"pretrain\.architecture\.activation: mpt has no place for it.*llama"),
        ("llama", {"norm": "post"}, {}, r"pretrain\.architecture\.norm: llama has no place for it.* opt$"),
        ("bert", {"experts": 4}, {}, r"architecture\.experts: bert has no place for it.* mixtral$"),
        ("gpt2", {"rope_theta": 1e4}, {}, r"architecture\.rope_theta: gpt2 has no place"),
        ("gpt2", {"head_dim": 16}, {}, r"architecture\.head_dim: gpt2 has no place"),
        ("t5", {"tie_embeddings": False}, {}, r"architecture\.tie_embeddings: t5 has no place"),
        ("falcon", {"positions": "alibi"}, {}, r"architecture\.positions: falcon has rope, not alibi"),
        ("llama", {"activation": "gated-gelu"}, {}, r"architecture\.activation: gated-gelu is t5's"),
        ("mixtral", {"experts": 2, "experts_per_token": 3}, {}, r"experts_per_token: 3 is more than the 2 experts"),
        ("llama", {"zero_init_outputs": True, "scale_residual": True}, {}, "changes nothing beside zero_init_outputs"),
        ("bert", {"mup_base_width": 16}, {}, r"mup_base_width: muP is made for llama, .*not for bert"),
        ("llama", {"mup_base_width": 64}, {}, "mup_base_width: is the width of a smaller model"),
        ("llama", {"head_dim": 5}, {}, r"architecture\.head_dim: rotary positions turn pairs"),
        ("llama", {}, {"hidden": 30}, r"pretrain\.hidden: must be an even multiple of heads \(4\), got 30"),
        ("llama", {}, {"hidden": 36}, "must be an even multiple"),
        ("llama", {}, {"kv_heads": 3}, r"pretrain\.kv_heads: must divide heads \(4\), got 3"),
        ("gpt2", {}, {"kv_heads": 2}, r"pretrain\.kv_heads: gpt2 has keys and values for every head: set 4"),
        ("mpt", {}, {"intermediate": 100}, r"pretrain\.intermediate: mpt's feed-forward is 4 times hidden: set 128"),
        ("modernbert", {"sliding_window": 5}, {}, "reaches half to each side"),
    ],
)
def test_what_does_not_fit(name: str, choices: dict[str, Any], sizes: dict[str, int], message: str) -> None:
    family = FAMILIES[name]
    with pytest.raises(UserError, match=message) as raised:
        check_shape(family, replace(shape_of(family), **sizes), Architecture.model_validate(choices))
    assert str(raised.value).startswith("params.yaml: pretrain.")


def test_all_mistakes_are_told_at_once() -> None:
    family = FAMILIES["gpt2"]
    with pytest.raises(UserError) as raised:
        check_shape(family, replace(shape_of(family), kv_heads=2), Architecture(norm="post", rope_theta=2.0))
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "pretrain.architecture.rope_theta",
        "pretrain.architecture.norm",
        "pretrain.kv_heads",
    ]


def test_an_objective_that_a_family_is_not_made_for() -> None:
    assert require_objective(FAMILIES["llama"], None) == "causal"
    assert require_objective(FAMILIES["bert"], "masked") == "masked"
    with pytest.raises(UserError, match=r"pretrain\.objective: llama is trained by causal, not masked.* bert, roberta"):
        require_objective(FAMILIES["llama"], "masked")


@pytest.mark.parametrize("name", FAMILIES)
def test_special_ids_lie_in_the_vocabulary(name: str) -> None:
    """All that transformers gives an id to, in the model's and in the generation's configuration."""
    model = tiny(name)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    assert model.config.vocab_size == vocabulary
    configurations = [model.config, *([model.generation_config] if model.can_generate() else [])]
    for configuration in configurations:
        ids = {
            key: value
            for key, value in configuration.to_dict().items()
            if key.endswith("_token_id") and value is not None
        }
        assert all(0 <= number < vocabulary for number in ids.values()), ids
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (START, START, PAD)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_choice_arrives_in_the_configuration(name: str) -> None:
    """And transformers builds a model of it; a configuration takes any attribute, so that it is a known one is checked too."""
    family = FAMILIES[name]
    known = set(getattr(transformers, family.config)().to_dict()) | set(
        getattr(transformers, family.config).attribute_map
    )
    extra = {"max_position_embeddings", "partial_rotary_factor", "share_att_key", "norm_rel_ebd", "position_buckets"}
    values: dict[str, Any] = {
        "head_dim": 6,
        "tie_embeddings": False,
        "rope_theta": 500.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
        "activation": "gated-gelu" if name == "t5" else "relu",
        "norm": "post",
        "dropout": 0.25,
        "sliding_window": 4,
        "experts": 3,
        "experts_per_token": 1,
        "init_std": 0.5,
    }
    for key, value in values.items():
        attributes = family.choices.get(key) or family.shape.get(key)
        if attributes is None:
            continue
        config = tiny(name, **{key: value}).config
        for attribute in (attributes,) if isinstance(attributes, str) else attributes:
            assert attribute in known | extra
            found = getattr(config, attribute)
            if key == "norm":
                assert found is False
            elif attribute == "rope_parameters":
                assert str(value["factor"] if key == "rope_scaling" else value) in str(found)
            else:
                assert found == value
    for attribute in family.constants:
        assert attribute in known | extra, attribute


def test_the_default_is_the_llama_that_it_was() -> None:
    """RMSNorm at 1e-5, RoPE's base 10,000, SwiGLU, one matrix for embedding and head."""
    family = FAMILIES["llama"]
    config = create_config(family, shape_of(family), Architecture(), ids_of(family))
    assert (config.rms_norm_eps, config.hidden_act, config.tie_word_embeddings) == (1e-5, "silu", True)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert config.vocab_size == 64

"""Building a model: its transformers configuration from a shape, and the model with its first weights."""

from typing import Any

from tasks.architectures.shape import Shape


def build_config(shape: Shape, rope_theta: float, document_start: int, pad: int) -> Any:
    """The `transformers.LlamaConfig` of `shape`.

    Every special token's id is set: the defaults lie outside a small vocabulary or name other tokens.
    """
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocabulary_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=document_start,
        eos_token_id=document_start,
        pad_token_id=pad,
        dtype="float32",
    )


def build_model(config: Any, seed: int) -> Any:
    """A `LlamaForCausalLM` in fp32 on the CPU; its weights depend on `config` and `seed` alone."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(config)

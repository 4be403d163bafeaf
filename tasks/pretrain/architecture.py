"""The model: a Llama decoder from parameters, its size and its arithmetic."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.pretrain.params import PretrainParams


def build_config(
    params: "PretrainParams", vocabulary_size: int, context_length: int, document_start: int, pad: int
) -> Any:
    """The `transformers.LlamaConfig` of `params`.

    Every special token's id is set: the defaults lie outside a small vocabulary or name other tokens.
    """
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=params.hidden,
        intermediate_size=params.intermediate,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.kv_heads,
        max_position_embeddings=context_length,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
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


def training_flops_per_token(config: Any, parameters: int, context_length: int) -> int:
    """6N + 12·L·H·Q·T floating point operations (PaLM, arXiv:2204.02311, appendix B).

    N are all parameters: with tied embeddings the one matrix is the output head's, and the look-up costs nothing.
    L layers, H heads of Q dimensions, T tokens of context; attention counts as if it were not causal.
    """
    head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads: int = config.num_attention_heads * head_dim
    flops: int = 6 * parameters + 12 * config.num_hidden_layers * heads * context_length
    return flops

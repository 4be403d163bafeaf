"""Families of decoders, trained to predict the next token, after the configurations of transformers 5.23.

Dropout is 0 in all of them unless `pretrain.architecture.dropout` says otherwise: a corpus is read once or twice.
"""

from dataclasses import replace

from tasks.architectures.families.family import Family

LLAMA = Family(
    name="llama",  # Llama 2, arXiv:2307.09288
    model_type="llama",
    config="LlamaConfig",
    shape={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "intermediate": "intermediate_size",
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "rope_theta": "rope_parameters",
        "rope_scaling": "rope_parameters",
        "activation": "hidden_act",
        "dropout": "attention_dropout",
        "init_std": "initializer_range",
    },
    classes={"causal": "LlamaForCausalLM"},
    isolation="positions",
    positions=("rope",),
    residual_outputs=("self_attn.o_proj", "mlp.down_proj"),
    constants={"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
    final_norm="model.norm",
)
MISTRAL = replace(
    LLAMA,
    name="mistral",  # arXiv:2310.06825
    model_type="mistral",
    config="MistralConfig",
    choices={**LLAMA.choices, "sliding_window": "sliding_window"},
    constants={**LLAMA.constants, "sliding_window": 4096},
    classes={"causal": "MistralForCausalLM"},
)
QWEN3 = replace(
    LLAMA,
    name="qwen3",  # arXiv:2505.09388: queries and keys are normed (QK-norm)
    model_type="qwen3",
    config="Qwen3Config",
    choices={**LLAMA.choices, "sliding_window": "sliding_window"},
    with_choice={"sliding_window": {"use_sliding_window": True, "max_window_layers": 0}},
    classes={"causal": "Qwen3ForCausalLM"},
)
GEMMA = replace(
    LLAMA,
    name="gemma",  # arXiv:2403.08295
    model_type="gemma",
    config="GemmaConfig",
    classes={"causal": "GemmaForCausalLM"},
    final_norm=None,  # its embedding is scaled by the root of the width, which muP does not foresee
)
ARCEE = replace(
    LLAMA,
    name="arcee",  # AFM-4.5B: Llama with a feed-forward of ReLU^2 (Primer, arXiv:2109.08668) without a gate
    model_type="arcee",
    config="ArceeConfig",
    classes={"causal": "ArceeForCausalLM"},
)
MIXTRAL = replace(
    LLAMA,
    name="mixtral",  # arXiv:2401.04088; `intermediate` is the width of one expert
    model_type="mixtral",
    config="MixtralConfig",
    choices={
        **LLAMA.choices,
        "sliding_window": "sliding_window",
        "experts": "num_local_experts",
        "experts_per_token": "num_experts_per_tok",
    },
    constants={**LLAMA.constants, "num_local_experts": 8, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.01},
    classes={"causal": "MixtralForCausalLM"},
    residual_outputs=("self_attn.o_proj", "experts.down_proj"),
    final_norm=None,
)
GPT2 = Family(
    name="gpt2",  # Radford et al. 2019
    model_type="gpt2",
    config="GPT2Config",
    shape={
        "layers": "n_layer",
        "hidden": "n_embd",
        "heads": "n_head",
        "intermediate": "n_inner",
        "context": "n_positions",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "activation": "activation_function",
        "dropout": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        "init_std": "initializer_range",
    },
    classes={"causal": "GPT2LMHeadModel"},
    isolation="positions",
    positions=("learned", "sinusoidal"),
    position_tables=("wpe",),
    residual_outputs=("attn.c_proj", "mlp.c_proj"),
    constants={"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    final_norm="transformer.ln_f",
)
OPT = Family(
    name="opt",  # arXiv:2205.01068
    model_type="opt",
    config="OPTConfig",
    shape={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "intermediate": "ffn_dim",
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "activation": "activation_function",
        "norm": "do_layer_norm_before",
        "dropout": ("dropout", "attention_dropout"),
        "init_std": "init_std",
    },
    classes={"causal": "OPTForCausalLM"},
    isolation="mask",
    positions=("learned", "sinusoidal"),
    position_tables=("embed_positions",),
    residual_outputs=("self_attn.out_proj", "fc2"),
    constants={"dropout": 0.0, "attention_dropout": 0.0},
    final_norm="model.decoder.final_layer_norm",
)
FALCON = Family(
    name="falcon",  # arXiv:2311.16867, with grouped keys and values as in Falcon-40B
    model_type="falcon",
    config="FalconConfig",
    shape={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_kv_heads",
        "intermediate": "ffn_hidden_size",
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "rope_theta": "rope_parameters",
        "rope_scaling": "rope_parameters",
        "activation": "activation",
        "dropout": ("hidden_dropout", "attention_dropout"),
        "init_std": "initializer_range",
    },
    classes={"causal": "FalconForCausalLM"},
    isolation="mask",
    positions=("rope",),  # its ALiBi is rounded to bf16 by the place in the row and takes no block mask
    residual_outputs=("self_attention.dense", "mlp.dense_4h_to_h"),
    constants={"new_decoder_architecture": True},
)
MPT = Family(
    name="mpt",  # MosaicML 2023; ALiBi, arXiv:2108.12409
    model_type="mpt",
    config="MptConfig",
    shape={
        "layers": "n_layers",
        "hidden": "d_model",
        "heads": "n_heads",
        "context": ("max_seq_len", "max_position_embeddings"),  # the second is for those who ask any model
    },
    choices={"tie_embeddings": "tie_word_embeddings", "init_std": "initializer_range"},
    classes={"causal": "MptForCausalLM"},
    isolation="mask",
    positions=("alibi",),
    residual_outputs=("attn.out_proj", "ffn.down_proj"),
    intermediate_factor=4,
    first_position=None,
)

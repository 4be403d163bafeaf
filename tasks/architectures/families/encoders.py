"""Families of encoders, and of encoders with decoders, after the configurations of transformers 5.23; dropout is 0 as in decoders."""

from dataclasses import replace

from tasks.architectures.families.family import Family

BERT = Family(
    name="bert",  # arXiv:1810.04805
    model_type="bert",
    config="BertConfig",
    shape={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "activation": "hidden_act",
        "dropout": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
        "init_std": "initializer_range",
    },
    classes={"masked": "BertForMaskedLM"},
    isolation="mask",
    positions=("learned", "sinusoidal"),
    position_tables=("position_embeddings",),
    residual_outputs=("attention.output.dense", "output.dense"),
    constants={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "type_vocab_size": 1},
)
ROBERTA = replace(
    BERT,
    name="roberta",  # arXiv:1907.11692
    model_type="roberta",
    config="RobertaConfig",
    classes={"masked": "RobertaForMaskedLM"},
    first_position="pad",
)
ELECTRA = replace(
    BERT,
    name="electra",  # arXiv:2003.10555; the discriminator: its generator is made by tasks.architectures.building.electra
    model_type="electra",
    config="ElectraConfig",
    shape={**BERT.shape, "hidden": ("hidden_size", "embedding_size")},
    classes={"replaced_token": "ElectraForPreTraining"},
    choices={name: attribute for name, attribute in BERT.choices.items() if name != "tie_embeddings"},
)
DEBERTA = replace(
    BERT,
    name="deberta",  # DeBERTa v2 and v3, arXiv:2006.03654, arXiv:2111.09543
    model_type="deberta-v2",
    config="DebertaV2Config",
    classes={"masked": "DebertaV2ForMaskedLM"},
    isolation="rows",  # its embeddings are multiplied by the mask, which therefore cannot be one of blocks
    positions=("relative",),
    first_position=None,
    constants={
        **{name: value for name, value in BERT.constants.items() if name != "type_vocab_size"},
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 256,
    },
)
MODERNBERT = Family(
    name="modernbert",  # arXiv:2412.13663
    model_type="modernbert",
    config="ModernBertConfig",
    shape={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "rope_theta": "rope_parameters",
        "rope_scaling": "rope_parameters",
        "activation": "hidden_activation",
        "dropout": ("attention_dropout", "embedding_dropout", "mlp_dropout"),
        "init_std": "initializer_range",
        "sliding_window": "local_attention",
    },
    classes={"masked": "ModernBertForMaskedLM"},
    isolation="mask",
    positions=("rope",),
    residual_outputs=("attn.Wo", "mlp.Wo"),
    masked_fraction=0.30,
    special_tokens={"cls_token_id": "document_start", "sep_token_id": "document_start"},
)
T5 = Family(
    name="t5",  # arXiv:1910.10683; `layers` are those of the encoder, and as many of the decoder
    model_type="t5",
    config="T5Config",
    shape={
        "layers": ("num_layers", "num_decoder_layers"),
        "hidden": "d_model",
        "heads": "num_heads",
        "head_dim": "d_kv",
        "intermediate": "d_ff",
        "context": "max_position_embeddings",
    },
    choices={"activation": "feed_forward_proj", "dropout": "dropout_rate"},
    classes={"span_corruption": "T5ForConditionalGeneration"},
    isolation="rows",
    positions=("relative",),
    residual_outputs=("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"),
    constants={"dropout_rate": 0.0},
    first_position=None,
    special_tokens={"decoder_start_token_id": "pad"},
    rates={"relative_attention_bias": 30.0},  # from 1 / root of the width to about 5: at Adam's 3e-3 beyond 1,000 steps
)
BART = Family(
    name="bart",  # arXiv:1910.13461; `layers` are those of the encoder, and as many of the decoder
    model_type="bart",
    config="BartConfig",
    shape={
        "layers": ("encoder_layers", "decoder_layers"),
        "hidden": "d_model",
        "heads": ("encoder_attention_heads", "decoder_attention_heads"),
        "intermediate": ("encoder_ffn_dim", "decoder_ffn_dim"),
        "context": "max_position_embeddings",
    },
    choices={
        "tie_embeddings": "tie_word_embeddings",
        "activation": "activation_function",
        "dropout": ("dropout", "attention_dropout"),
        "init_std": "init_std",
    },
    classes={"denoising": "BartForConditionalGeneration"},
    isolation="rows",
    positions=("learned", "sinusoidal"),
    position_tables=("embed_positions",),
    residual_outputs=("self_attn.out_proj", "encoder_attn.out_proj", "fc2"),
    constants={"dropout": 0.0, "attention_dropout": 0.0},
    first_position=None,
    masked_fraction=0.30,
    special_tokens={"decoder_start_token_id": "document_start", "forced_eos_token_id": "document_start"},
)

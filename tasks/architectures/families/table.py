"""The families of models that can be trained, by name."""

from tasks.architectures.families import decoders, encoders
from tasks.architectures.families.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(decoders.LLAMA, decoders.MISTRAL, decoders.QWEN3, decoders.GEMMA, decoders.ARCEE, decoders.MIXTRAL),
        *(decoders.GPT2, decoders.OPT, decoders.FALCON, decoders.MPT),
        *(encoders.BERT, encoders.ROBERTA, encoders.MODERNBERT, encoders.DEBERTA, encoders.ELECTRA),
        *(encoders.T5, encoders.BART),
    )
}
BY_MODEL_TYPE = {family.model_type: family for family in FAMILIES.values()}

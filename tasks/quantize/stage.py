"""Quantization: the tuned (or base) model in the formats it will be run in, each with what it costs and what it keeps.

The export is gated: asked for next-token log-probabilities, llama.cpp itself must agree with the model it was made from.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.number_format import format_counts
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.quantize.gguf_types import WEIGHTED_FORMATS, GgufFormat

if TYPE_CHECKING:
    from tasks.quantize.importance import Importance
    from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
GENERATED_TOKENS = 128
"""Tokens generated to measure the speed, at most."""
MOSTLY = 0.5
"""Above this share of weights in other types than its own, a format is not what its name says."""


class QuantizeParams(StageParams):
    """Formats, the gate, and how much text they are measured on."""

    formats: tuple[GgufFormat | Literal["torchao-int8"], ...] = Field(
        ("f16", "q8_0", "q4_0", "torchao-int8"),
        min_length=1,
        description="GGUF formats, and torchao's int8 weights. q6_k to q2_k and iq4_xs want a width that is a multiple of 256.",
    )
    calibration_tokens: int = Field(
        16_384,
        ge=0,
        description="Training text by which it is found which columns matter most to formats below 8 bits; 0: all alike.",
    )
    max_added: float | None = Field(
        None, gt=0, description="Bits per byte that a format may cost at most, else the stage fails; null: any."
    )
    max_distance: float = Field(
        1e-3, gt=0, description="Largest difference allowed between the f32 export's log-probabilities and the model's."
    )
    prompts: int = Field(20, ge=1, description="Prompts at which log-probabilities are compared.")
    max_bytes: int = Field(16_000, ge=1, description="Held-out text that each format is scored on, in bytes.")


def run(params: QuantizeParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write `<format>/model.gguf` with its tokenizer and a Modelfile for Ollama beside it or, for torchao, a folder
    `<format>/` that transformers loads, and `table.json`.

    For each format: bytes, and how near it is to the model (`ExportCheck`); of GGUF formats the share of weights in each of
    ggml's types, and of those whose rows did not fit the type that was wanted; in the timings, tokens generated a second.
    `model` says whether it is the tuned model or, where nothing was tuned, the base model, which is written without a chat
    template. `scored_text` says what all of it is measured on: held-out conversations, for a base model held-out documents,
    and training documents where nothing is held out. Encoders and encoder-decoders: `tasks.quantize.restorer_formats`.

    Raises:
        UserError: the f32 export does not give the model's log-probabilities, llama.cpp encodes texts otherwise, or a format
            costs more than `max_added`.
    """
    from tasks.corrupted_text.restorer import objective_of
    from tasks.model.load import load_model, prepare_torch
    from tasks.model.model_pointer import resolve_model, tuned_stages
    from tasks.quantize.comparison_text import TRAINING, choose_text
    from tasks.quantize.export_check import ExportCheck
    from tasks.quantize.restorer_formats import quantize_restorer
    from tasks.tokens.chat_encoder import ChatEncoder

    prepare_torch()
    source, tuned = resolve_model(inputs["prefer"]), bool(tuned_stages(inputs))
    if objective_of(source) != "causal":
        metrics = quantize_restorer(
            params.formats, params.prompts, params.max_bytes, source, inputs["documents"], outputs
        )
        write_json(outputs / "table.json", metrics)
        return metrics
    model, encoder = load_model(source, "cpu"), ChatEncoder(source)
    held_out, documents, context = inputs["held_out"], inputs["documents"], model.config.max_position_embeddings
    text = choose_text(encoder, tuned, held_out, documents, params.prompts, params.max_bytes, context)
    if text.name == TRAINING:
        log.warning("quantize: nothing is held out: the formats are compared and scored on %s", text.name)
    check = ExportCheck(model, encoder, text)
    if set(params.formats) == {"torchao-int8"}:
        gate: Metrics = {"prompts": 0}  # no export of ours is among the formats
    else:
        gate = _check_f32_export(params, check, source, outputs.work)
    reference = {
        "bytes": (source / "model.safetensors").stat().st_size,
        "bits_per_byte": check.scores_of(model)["bits_per_byte"],
    }
    importance: Importance = {}
    if params.calibration_tokens and set(params.formats) & set(WEIGHTED_FORMATS):
        importance = _importance(
            params.calibration_tokens, model, encoder, inputs["train"] if tuned else None, documents
        )
    formats: dict[str, Any] = {}
    for name in params.formats:
        folder = outputs / name
        folder.mkdir()
        if name == "torchao-int8":
            formats[name], speed = _torchao(source, folder, tuned, check)
        else:
            weights = importance if name in WEIGHTED_FORMATS else {}
            formats[name], speed = _gguf(source, folder, name, tuned, weights, check)
        outputs.timings[f"{name}_tokens_per_second"] = speed
        numbers = {key: value for key, value in formats[name].items() if not isinstance(value, dict)}
        log.info("quantize: %s: %s, tokens/s %s", name, format_counts(numbers), f"{speed:,.0f}")
        added = formats[name]["bits_per_byte"] - reference["bits_per_byte"]
        if params.max_added is not None and added > params.max_added:
            raise UserError(
                f"{name}: costs {added:.4f} bits per byte, more than quantize.max_added ({params.max_added:g}). Leave it out of "
                "quantize.formats, or take a larger one"
            )
    metrics = {
        "model": "tuned" if tuned else "base",
        "objective": "causal",
        "formats": formats,
        "gate": gate,
        "reference": reference,
        "scored_bytes": text.bytes,
        "scored_text": text.name,
    }
    write_json(outputs / "table.json", metrics)
    return metrics


def _check_f32_export(params: QuantizeParams, check: Any, source: Path, work: Path) -> Metrics:
    """Export as f32 and compare: an export with a permutation wrong is fluent still, and only this finds it."""
    from tasks.model.llama_cpp import GgufModel
    from tasks.quantize.gguf_export import export_gguf

    trial = work / "f32.gguf"
    export_gguf(source, trial, "f32")
    with GgufModel(trial, check.context, check.threads) as exported:
        differences = check.differences(exported)
        unlike = check.tokenization_mismatch(exported)
    trial.unlink()
    if unlike is not None:
        raise UserError(
            f"{source}: llama.cpp reads the text {unlike[:60]!r}... as other tokens than the model's tokenizer gives: the export "
            "is wrong. Nothing was written."
        )
    if not (largest := differences["max_distance"]) <= params.max_distance:
        raise UserError(
            f"{source}: llama.cpp's next-token log-probabilities of the f32 export differ from the model's by up to "
            f"{largest:.3g}, more than quantize.max_distance ({params.max_distance:g}): the export is wrong. Nothing "
            "was written."
        )
    return {**differences, "prompts": len(check.prompts)}


def _importance(
    tokens: int, model: Any, encoder: "ChatEncoder", conversations: Path | None, documents: Path
) -> "Importance":
    from tasks.quantize.importance import calibration_sequences, column_importance

    sequences = calibration_sequences(encoder, conversations, documents, tokens, model.config.max_position_embeddings)
    if not sequences:
        log.warning("quantize: there is no training text to find which columns matter: all are taken alike")
        return {}
    return column_importance(model, sequences, encoder.pad)


def _gguf(
    source: Path, folder: Path, format_: Any, chat: bool, importance: "Importance", check: Any
) -> tuple[Metrics, float]:
    from tasks.model.llama_cpp import GgufModel
    from tasks.model.tokenizer_files import copy_tokenizer
    from tasks.quantize.gguf_export import export_gguf
    from tasks.quantize.modelfile import write_modelfile

    target = folder / "model.gguf"
    written = export_gguf(source, target, format_, chat, importance, check.threads)
    if written.replaced > MOSTLY:
        log.warning(
            "quantize: %s: %.0f%% of the weights are in rows that do not fit its types, and took others (as llama.cpp's own do): %s",
            format_,
            100 * written.replaced,
            ", ".join(f"{kind} {share:.0%}" for kind, share in written.types.items()),
        )
    copy_tokenizer(source, folder, chat)
    write_modelfile(source, folder, check.context, chat)
    with GgufModel(target, check.context, check.threads) as exported:
        measured = {
            "bytes": target.stat().st_size,
            **check.scores(exported),
            **check.differences(exported),
            "types": written.types,
            "replaced": written.replaced,
        }
        return measured, exported.generation_speed(check.prompts[0][:16], min(GENERATED_TOKENS, check.context // 2))


def _torchao(source: Path, folder: Path, chat: bool, check: Any) -> tuple[Metrics, float]:
    from tasks.quantize.int8 import generation_speed, save_int8

    model = save_int8(source, folder, chat)
    measured = {
        "bytes": (folder / "model.safetensors").stat().st_size,
        **check.scores_of(model),
        **check.differences_of(model),
    }
    return measured, generation_speed(model, check.prompts[0][:16], min(GENERATED_TOKENS, check.context // 2))

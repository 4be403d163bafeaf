"""A model's weights under llama.cpp's names and in its forms: halves interleaved, matrices the right way round, experts apart."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError
from tasks.model.gguf_layouts import Layout

Weights = npt.NDArray[np.float32]
SUFFIXES = (".weight", ".bias")
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(w\d\.weight)")


def read_weights(folder: Path, config: Any, layout: Layout) -> Iterator[tuple[str, str, Weights]]:
    """Each tensor of the model in `folder`: its name in transformers, llama.cpp's name, float32 values; one at a time.

    Raises:
        UserError: a tensor that llama.cpp has no place for in this architecture.
    """
    from safetensors import safe_open

    names = tensor_names(layout, config.num_hidden_layers)
    scaled = _rope_factors(config)
    if scaled is not None:
        yield "rope_parameters", "rope_freqs.weight", scaled
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name, sources in sorted(_together(file.keys()).items()):
            found = names.get_name(name, SUFFIXES)
            if found is None:
                raise UserError(
                    f"{folder / 'model.safetensors'}: tensor {name} has no place in llama.cpp's {layout.architecture}"
                )
            parts = [file.get_tensor(source).float().numpy() for source in sources]
            values = np.stack(parts) if EXPERT.fullmatch(sources[0]) else parts[0]
            yield name, found, np.ascontiguousarray(_formed(name, values, config, layout))


def tensor_names(layout: Layout, layers: int) -> Any:
    """Gguf's table of names in transformers and in llama.cpp."""
    import gguf

    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(kinds[layout.architecture], layers)


def permute_heads(weight: Weights, heads: int) -> Weights:
    """Rows [heads x (first half, second half)] to rows [heads x interleaved halves]; `weight` is [heads * d, hidden]."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _together(names: Iterable[str]) -> dict[str, list[str]]:
    """The tensors of each matrix: one, or those of all experts, which llama.cpp keeps together, in their order."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        expert = EXPERT.fullmatch(name)
        group, number = (f"{expert[1]}.{expert[3]}", int(expert[2])) if expert else (name, 0)
        found.setdefault(group, {})[number] = name
    return {group: [parts[number] for number in sorted(parts)] for group, parts in found.items()}


def _formed(name: str, values: Weights, config: Any, layout: Layout) -> Weights:
    if layout.interleaved and name.endswith("q_proj.weight"):
        return permute_heads(values, config.num_attention_heads)
    if layout.interleaved and name.endswith("k_proj.weight"):
        return permute_heads(values, config.num_key_value_heads)
    if layout.norm_offset and name.endswith("norm.weight"):
        return values + np.float32(layout.norm_offset)
    if layout.transposed and values.ndim > 1 and ".h." in name:
        return values.T
    return values


def _rope_factors(config: Any) -> Weights | None:
    """What each rotary frequency is divided by, float32 [head width / 2]; None where positions are not scaled."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") == "default":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    width = 2 * len(scaled)
    plain = rope["rope_theta"] ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    factors: Weights = (plain / scaled.double().numpy()).astype(np.float32)
    return factors

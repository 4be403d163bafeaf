"""Memory of a model: its parameters from its shape, and the bytes that weights, gradients, optimizer, activations and cache take.

The activations are those that autograd keeps of transformers' Llama (RMSNorm, RoPE, SDPA, SwiGLU), counted tensor by tensor:
a test compares them with the storages that are alive in a real step. One step of arithmetic a line, so that it can be checked.
"""

from dataclasses import dataclass, replace
from typing import Literal

from tasks.architectures.shape import Shape

Precision = Literal["fp32", "bf16"]
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of a number. Scales of quantized weights come on top: one in fp16 for each group of `QUANTIZED_GROUP`."""
QUANTIZED_GROUP = 32
GIB = float(1 << 30)
CHUNKED_FROM = 32_000
"""Vocabulary from which on the logits of a batch are not made at once: below, they are small beside what the blocks keep."""
CHUNK_POSITIONS = 1024
"""Positions whose logits are made at a time, on a processor: 131 MB in fp32 over 32,000 tokens."""
GPU_CHUNK = 8
"""How many times as many a GPU takes, to be busy with them."""


@dataclass(frozen=True)
class Parameters:
    """How many numbers the weights are; `head` is the output matrix, `embedding` the input one, 0 where it is the head.

    `matrices` of the blocks are what Muon works on; the rest of them are norms.
    """

    blocks: int
    matrices: int
    head: int
    embedding: int

    @property
    def total(self) -> int:
        return self.blocks + self.head + self.embedding


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations


def head_dim(shape: Shape) -> int:
    """Width of one head."""
    return shape.hidden // shape.heads


def count_parameters(shape: Shape, tied: bool = True) -> Parameters:
    """The parameters of a decoder with SwiGLU, RMSNorm and no biases: the family llama."""
    keys = shape.kv_heads * head_dim(shape)
    attention = 2 * shape.hidden * shape.hidden + 2 * shape.hidden * keys
    matrices = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    norms = shape.hidden * (2 * shape.layers + 1)
    vocabulary = shape.vocabulary_size * shape.hidden
    return Parameters(matrices + norms, matrices, vocabulary, 0 if tied else vocabulary)


def flops_per_token(shape: Shape, parameters: Parameters) -> int:
    """6N + 12·L·H·T floating point operations to train on a token, by the convention of `training_flops_per_token`."""
    multiplying = parameters.blocks + parameters.head
    return 6 * multiplying + 12 * shape.layers * shape.hidden * shape.context_length


def layer_activation_bytes(shape: Shape, precision: Precision) -> float:
    """Bytes a token that one block keeps for its backward pass.

    In fp32: both norms their input, its normed form and their output; attention its queries, keys, values, output and
    a log-sum a head; the feed-forward its gate, the gate's activation, the other half and their product. In bf16 the norms
    keep their input in fp32 as well.
    """
    number = BYTES[precision]
    norms = 2 * shape.hidden * (3 * 4.0 if precision == "fp32" else 2.0 + 4.0 + 2.0)
    attention = 2 * (shape.hidden + shape.kv_heads * head_dim(shape)) * number
    feed_forward = 4 * shape.intermediate * number
    statistics = 4.0 * (shape.heads + 2)
    return norms + attention + feed_forward + statistics


def activation_bytes(shape: Shape, rows: int, precision: Precision, checkpointing: bool = False) -> float:
    """The largest that a forward and backward pass over `rows` rows holds beside weights, gradients and optimizer.

    That is when the backward pass begins: all kept activations, and of the loss its log-probabilities, and the gradients
    of these and of the logits, all fp32. With checkpointing a block keeps its input alone, and one at a time is computed anew,
    when those are gone.

    A process on a CPU takes up to a third more than its tensors: its heap keeps what it cannot give back in pieces.
    """
    layer = layer_activation_bytes(shape, precision)
    kept = shape.hidden * BYTES[precision] if checkpointing else layer
    last_norm = shape.hidden * (3 * 4.0 if precision == "fp32" else 8.0)
    angles = 2 * head_dim(shape) * BYTES[precision]
    tokens = rows * shape.context_length
    logits = loss_bytes(tokens, shape.vocabulary_size, precision)
    largest = max(logits, tokens * (layer + shape.hidden * BYTES[precision])) if checkpointing else logits
    return tokens * (shape.layers * kept + last_norm + angles) + largest


def loss_bytes(tokens: int, vocabulary_size: int, precision: Precision) -> float:
    """The largest that the loss of `tokens` positions holds, at the beginning of its backward pass.

    Its log-probabilities, and the gradients of these and of the logits, all fp32; over a large vocabulary, of a chunk alone. A GPU
    (bf16) keeps the logits of the others.
    """
    if vocabulary_size < CHUNKED_FROM:
        return 3 * 4.0 * vocabulary_size * tokens
    chunk = min(tokens, CHUNK_POSITIONS * (1 if precision == "fp32" else GPU_CHUNK))
    kept = 0.0 if precision == "fp32" else 2.0 * tokens
    return vocabulary_size * (3 * 4.0 * chunk + kept)


def state_memory(
    parameters: Parameters,
    *,
    optimizer: Literal["adamw", "muon"] = "adamw",
    precision: Precision = "fp32",
    zero_stage: int = 0,
    ranks: int = 1,
) -> Memory:
    """Bytes of weights, gradients and optimizer on each of `ranks` devices, whatever is trained on.

    ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054) divides by the ranks the optimizer's state from stage 1 on, the gradients
    from 2 on, the weights at 3. bf16 keeps weights in bf16, gradients, master weights and the optimizer's state in fp32.
    AdamW has two moments; Muon has one for the blocks' matrices.
    """
    numbers = parameters.total
    one_moment = parameters.matrices if optimizer == "muon" else 0
    state = 4.0 * (2 * numbers - one_moment) + (4.0 * numbers if precision == "bf16" else 0.0)
    return Memory(
        weights=BYTES[precision] * numbers / (ranks if zero_stage >= 3 else 1),
        gradients=4.0 * numbers / (ranks if zero_stage >= 2 else 1),
        optimizer=state / (ranks if zero_stage >= 1 else 1),
        activations=0.0,
    )


def training_memory(
    shape: Shape,
    parameters: Parameters,
    *,
    rows: int,
    optimizer: Literal["adamw", "muon"] = "adamw",
    precision: Precision = "fp32",
    zero_stage: int = 0,
    ranks: int = 1,
    checkpointing: bool = False,
) -> Memory:
    """Bytes of pretraining on each of `ranks` devices: `state_memory`, and the activations of `rows` rows of the batch at a time."""
    state = state_memory(parameters, optimizer=optimizer, precision=precision, zero_stage=zero_stage, ranks=ranks)
    return replace(state, activations=activation_bytes(shape, rows, precision, checkpointing))


def weight_bytes(parameters: Parameters, form: str) -> float:
    """Bytes of the weights in fp32, bf16, int8 or int4, scales included; norms stay in 16 bits."""
    if form in ("fp32", "bf16"):
        return BYTES[form] * parameters.total
    quantized = parameters.matrices + parameters.head + parameters.embedding
    scales = 2.0 * quantized / QUANTIZED_GROUP
    return BYTES[form] * quantized + scales + 2.0 * (parameters.total - quantized)


def cache_bytes(shape: Shape, rows: int, form: str = "bf16") -> float:
    """Bytes of the keys and values of `rows` whole contexts, with a scale a head and token where they are quantized."""
    numbers = 2.0 * shape.layers * shape.kv_heads * head_dim(shape) * shape.context_length * rows
    scales = 2.0 * numbers / head_dim(shape) if form in ("int8", "int4") else 0.0
    return BYTES[form] * numbers + scales


def tuning_memory(
    shape: Shape, parameters: Parameters, method: Literal["full", "lora", "qlora"], *, rows: int = 1, rank: int = 16
) -> Memory:
    """Bytes of tuning in bf16 on one device: all weights by AdamW, or LoRA (arXiv:2106.09685) on every linear layer of the
    blocks, with their weights in bf16 or, for QLoRA (arXiv:2305.14314), in 4 bits.
    """
    activations = activation_bytes(shape, rows, "bf16", checkpointing=True)
    if method == "full":
        full = training_memory(shape, parameters, rows=rows, precision="bf16", checkpointing=True)
        return Memory(full.weights, full.gradients, full.optimizer, activations)
    keys = shape.kv_heads * head_dim(shape)
    sides = 2 * (shape.hidden + shape.hidden) + 2 * (shape.hidden + keys) + 3 * (shape.hidden + shape.intermediate)
    adapters = rank * shape.layers * sides
    quantized = BYTES["int4"] * parameters.matrices + 2.0 * parameters.matrices / QUANTIZED_GROUP
    frozen = BYTES["bf16"] * parameters.total
    if method == "qlora":  # embedding and head stay in bf16
        frozen = quantized + BYTES["bf16"] * (parameters.total - parameters.matrices)
    return Memory(frozen + 4.0 * adapters, 4.0 * adapters, 8.0 * adapters, activations)


def inference_bytes(shape: Shape, parameters: Parameters, form: str, rows: int = 1) -> float:
    """Bytes to answer `rows` requests at once with weights in `form`: weights, cache in bf16, one row of logits each."""
    return weight_bytes(parameters, form) + cache_bytes(shape, rows) + rows * 4.0 * shape.vocabulary_size

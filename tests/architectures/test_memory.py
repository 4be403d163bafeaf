"""The memory of a shape, against the tensors that are alive in real steps and against a process's own memory."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from tasks.architectures.building.create import create_config, create_model
from tasks.architectures.building.special_ids import special_ids
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.flops import multiplying_parameters, training_flops_per_token
from tasks.architectures.memory import (
    BYTES,
    activation_bytes,
    cache_bytes,
    count_parameters,
    flops_per_token,
    inference_bytes,
    training_memory,
    tuning_memory,
    weight_bytes,
)
from tasks.architectures.shape import Shape
from tasks.plan.devices import DEVICES
from tests.helpers.architectures import tiny
from tests.helpers.checkout import ROOT
from tests.helpers.live_memory import LiveMemory

SHAPES = [
    Shape(2, 128, 4, 4, 352, 512, 128),  # layers, hidden, heads, kv_heads, intermediate, vocabulary, context
    Shape(4, 96, 3, 1, 256, 1024, 64),
    Shape(3, 64, 2, 2, 160, 4096, 128),  # a vocabulary that outweighs the blocks
]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GPT2_SMALL = Shape(12, 768, 12, 12, 2048, 50304, 1024)


def model_of(shape: Shape):
    llama, choices = FAMILIES["llama"], Architecture()
    config = create_config(llama, shape, choices, special_ids("causal", shape.vocabulary_size, 0, 1))
    return create_model(llama, "causal", config, choices, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_and_flops_are_those_of_the_model(shape):
    model, counted = model_of(shape), count_parameters(shape)
    assert counted.total == sum(parameter.numel() for parameter in model.parameters())
    assert counted.head == model.lm_head.weight.numel()
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    assert counted.matrices == sum(parameter.numel() for parameter in inner)
    assert flops_per_token(shape, counted) == training_flops_per_token(
        model.config, counted.total, shape.context_length
    )
    assert multiplying_parameters(model) == counted.total
    untied = count_parameters(shape, tied=False)
    assert untied.total == counted.total + counted.head


def measured_peak(shape: Shape, rows: int, precision: str, checkpointing: bool, step: bool) -> int:
    """Most bytes alive in the last of several micro-batches, as in accumulation; with `step`, AdamW has stepped before."""
    model = model_of(shape).to(DTYPES[precision])
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(0, shape.vocabulary_size, (rows, shape.context_length))
    positions = torch.arange(shape.context_length).repeat(rows, 1)
    memory = LiveMemory()
    with memory:
        for parameter in model.parameters():
            memory.watch(parameter.data)
        for micro_batch in range(2):
            logits = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")
            del logits
            loss.sum().backward()
            del loss
            if step and not micro_batch:
                optimizer.step()
    return memory.peak


@pytest.mark.parametrize("shape", SHAPES)
def test_training_on_a_cpu_is_within_a_tenth_of_what_is_alive(shape):
    forecast = training_memory(shape, count_parameters(shape), rows=2).total
    assert forecast == pytest.approx(measured_peak(shape, 2, "fp32", checkpointing=False, step=True), rel=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_within_a_tenth_of_what_is_alive(precision, checkpointing):
    for shape in (Shape(3, 64, 2, 2, 160, 256, 256), Shape(2, 64, 2, 1, 160, 2048, 64)):
        held = 2 * count_parameters(shape).total * BYTES[precision]
        measured = measured_peak(shape, 4, precision, checkpointing, step=False) - held
        assert activation_bytes(shape, 4, precision, checkpointing) == pytest.approx(measured, rel=0.1), shape


def test_zero_divides_what_it_says():
    """Rajbhandari et al. 2020, figure 1, here with fp32 gradients: 18 bytes a parameter, of which stage 3 keeps none whole."""
    numbers = count_parameters(GPT2_SMALL)
    alone = [training_memory(GPT2_SMALL, numbers, rows=1, precision="bf16", zero_stage=s, ranks=64) for s in range(4)]
    bytes_each = [(m.total - m.activations) / numbers.total for m in alone]
    assert bytes_each == pytest.approx([18, 6 + 12 / 64, 2 + 16 / 64, 18 / 64])
    muon = training_memory(GPT2_SMALL, numbers, rows=1, optimizer="muon")
    assert muon.optimizer == 4 * (2 * numbers.total - numbers.matrices)


def test_weights_cache_tuning_and_inference():
    numbers = count_parameters(GPT2_SMALL)
    assert numbers.total == pytest.approx(124e6, rel=0.01)
    assert weight_bytes(numbers, "bf16") == 2 * numbers.total
    assert weight_bytes(numbers, "int4") / numbers.total == pytest.approx(0.5625, rel=0.01)  # as GGUF's q4_0: 4.5 bits
    assert weight_bytes(numbers, "int8") / numbers.total == pytest.approx(1.0625, rel=0.01)  # as q8_0: 8.5 bits
    assert cache_bytes(GPT2_SMALL, 1, "bf16") == 2 * 2 * 12 * 768 * 1024
    needed = [tuning_memory(GPT2_SMALL, numbers, method).total for method in ("full", "lora", "qlora")]
    assert needed == sorted(needed, reverse=True)
    assert inference_bytes(GPT2_SMALL, numbers, "int4") < inference_bytes(GPT2_SMALL, numbers, "bf16")


def test_a_65_billion_model_is_tuned_by_qlora_on_48_gb_and_not_otherwise():
    """Dettmers et al. 2023, arXiv:2305.14314: from more than 780 GB to less than 48."""
    llama = Shape(80, 8192, 64, 64, 22016, 32000, 512)
    numbers = count_parameters(llama, tied=False)
    assert numbers.total == pytest.approx(65e9, rel=0.01)
    assert tuning_memory(llama, numbers, "full").total > 780e9
    assert tuning_memory(llama, numbers, "lora").total > 48e9
    assert tuning_memory(llama, numbers, "qlora").total < 48e9


def test_devices_have_their_dense_figures():
    assert DEVICES["h100-sxm"].tflops == DEVICES["h200-sxm"].tflops == 989.4
    assert DEVICES["a100-80gb"].tflops == 312
    assert DEVICES["l4"].tflops == 121
    assert all(device.source for device in DEVICES.values())


SCRIPT = """
import json, os, sys
import torch
torch.set_num_threads(1)
from tasks.architectures.shape import Shape
from tests.architectures.test_memory import model_of
from torch.nn import functional
shape, rows = Shape(*json.loads(sys.argv[1])), 4
def step(shape, model, optimizer, rows):
    tokens = torch.randint(0, shape.vocabulary_size, (rows, shape.context_length))
    for _ in range(2):
        logits = model(input_ids=tokens, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")
        del logits
        loss.sum().backward()
        del loss
    optimizer.step()
small = Shape(1, 64, 2, 2, 64, 64, 16)
def run(shape, rows):
    model = model_of(shape)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        step(shape, model, optimizer, rows)
run(small, 1)  # libraries are loaded by then
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
run(shape, rows)
with open("/proc/self/status") as file:  # getrusage's would be that of the process that started this one, where it is larger
    peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_processs_own_memory_grows_as_forecast():
    """Large blocks of memory go back at once here, so that the process holds its tensors and no gaps between them."""
    shape = Shape(4, 384, 6, 6, 1024, 8192, 256)
    arguments = [json.dumps(list(vars(shape).values()))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout.split()[-1])
    assert training_memory(shape, count_parameters(shape), rows=4).total == pytest.approx(grown, rel=0.1)


def test_what_is_looked_up_and_experts_that_rest_multiply_nothing():
    untied = tiny("llama", tie_embeddings=False)
    assert multiplying_parameters(untied) == untied.num_parameters() - untied.model.embed_tokens.weight.numel()
    learned = tiny("gpt2")  # tied; its positions are looked up
    assert multiplying_parameters(learned) == learned.num_parameters() - learned.transformer.wpe.weight.numel()
    mixed = tiny("mixtral", experts=4, experts_per_token=1)
    resting = sum(weight.numel() for name, weight in mixed.named_parameters() if ".experts." in name) * 3 // 4
    looked_up = 0 if mixed.config.tie_word_embeddings else mixed.model.embed_tokens.weight.numel()
    assert multiplying_parameters(mixed) == mixed.num_parameters() - resting - looked_up

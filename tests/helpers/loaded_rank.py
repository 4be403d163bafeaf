"""Loads what a rank computes with: imported by the process that ranks of tests are forked from."""

import transformers.modeling_utils
import transformers.models.llama.modeling_llama  # noqa: F401

import tasks.pretrain.loop  # noqa: F401
from tasks.pretrain.deepspeed_import import load_deepspeed

load_deepspeed()

"""Importing this makes the kernels ready: what workers are forked from does so, and spares each of them loading."""

from contextlib import suppress

from tasks.similarity import kernels

with suppress(Exception):  # the process that works with them says what is wrong
    kernels.compile_kernels()

"""The compiled kernels: made ready before workers start, and made anew where numba's cache is damaged."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.text import comparable_columns, lsh, postings, shingles, stars

log = logging.getLogger(__name__)
MODULES = (comparable_columns, shingles, lsh, stars, postings)


def prepare() -> None:
    """Compile the kernels, or load them from numba's cache; what is damaged there is dropped and compiled anew.

    Called before the workers start, so that they find the machine code instead of each compiling it.
    """
    try:
        _try_kernels()
    except Exception as error:
        log.warning("numba's cache is damaged (%r); compiling anew", error)
        for module in MODULES:
            for kernel in vars(module).values():
                if folder := getattr(getattr(kernel, "stats", None), "cache_path", None):
                    for path in Path(folder).glob(f"{module.__name__.rpartition('.')[2]}.*.nb[ci]"):
                        path.unlink(missing_ok=True)
        _try_kernels()


def _try_kernels() -> None:
    text = comparable_columns.comparable_column(pa.array(["a b c", "a b c"]))
    hashes, offsets = shingles.shingle_sets(*text, 3)
    starts, sizes = offsets[:-1], np.diff(offsets)
    keys = lsh.band_keys(shingles.signatures(hashes, offsets, 1, 1), 1, 1)
    lsh.band_keys(lsh.simhash(hashes, offsets, 1, 8), 1, 1)
    hashes.flags.writeable = False  # as the memory map is
    lsh.clusters(keys, hashes, starts, sizes, 1.0)
    stars.centres(keys, hashes, starts, sizes, 1.0)
    lsh.similarities(hashes, starts, sizes, np.zeros((1, 2), np.int64))
    lsh.containments(hashes, starts, sizes, np.zeros((1, 2), np.int64))
    nought = np.zeros(1, np.int64)
    postings.propose(nought, np.array([0, 1]), nought, nought, sizes[:1], 1, 1)

"""The compiled kernels: made ready before workers start, and made anew where numba's cache is damaged."""

import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from tasks.similarity import canonical_columns, lsh, posting_lists, shingles, star_clusters

log = logging.getLogger(__name__)
MODULES = (canonical_columns, shingles, lsh, star_clusters, posting_lists)


def compile_kernels() -> None:
    """Compile the kernels, or load them from numba's cache; what is damaged there is dropped and compiled anew.

    Called before the workers start, so that they find the machine code instead of each compiling it.
    """
    if not any(any(folder.glob("*.nbi")) for folder in _cache_folders(lsh)):
        log.info("compiling the kernels: once for this version of the code, about half a minute")
    try:
        _run_kernels()
    except Exception as error:
        log.warning("numba's cache is damaged (%r); compiling anew", error)
        for module in MODULES:
            for folder in _cache_folders(module):
                for path in folder.glob(f"{module.__name__.rpartition('.')[2]}.*.nb[ci]"):
                    path.unlink(missing_ok=True)
        _run_kernels()


def _cache_folders(module: ModuleType) -> set[Path]:
    """Where numba keeps the machine code of a module's kernels."""
    found = (getattr(getattr(kernel, "stats", None), "cache_path", None) for kernel in vars(module).values())
    return {Path(folder) for folder in found if folder}


def _run_kernels() -> None:
    text = canonical_columns.canonical_column(pa.array(["a b c", "a b c"]))
    hashes, offsets = shingles.shingle_sets(*text, 3)
    starts, sizes = offsets[:-1], np.diff(offsets)
    keys = lsh.band_keys(shingles.minhash_signatures(hashes, offsets, 1, 1), 1, 1)
    lsh.band_keys(lsh.simhash(hashes, offsets, 1, 8), 1, 1)
    hashes.flags.writeable = False  # as the memory map is
    lsh.clusters(keys, hashes, starts, sizes, 1.0)
    star_clusters.star_centres(keys, hashes, starts, sizes, 1.0)
    lsh.jaccard_similarities(hashes, starts, sizes, np.zeros((1, 2), np.int64))
    lsh.containments(hashes, starts, sizes, np.zeros((1, 2), np.int64))
    nought = np.zeros(1, np.int64)
    posting_lists.propose_containers(nought, np.array([0, 1]), nought, nought, sizes[:1], 1, 1)

"""The mean of the last checkpoints' weights (LAWA: Kaddour 2022, arXiv:2209.14981; Sanyal et al. 2023, arXiv:2306.03241)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from tasks.pretrain.checkpoints.fragment_files import FragmentFiles
from tasks.pretrain.optimizers.fragments import Fragment, by_holder
from tasks.pretrain.optimizers.optimizer import MixedOptimizer


def use_mean(folders: Sequence[Path], fragments: Iterable[Fragment], optimizer: MixedOptimizer) -> None:
    """Put the mean of the checkpoints' weights in the place of those of the fragments.

    Number by number, in fp64: ranks and ZeRO stages change nothing. The weights that the model computes with are to be refreshed
    then.

    Raises:
        UserError: the files lack something.
    """
    stores = [FragmentFiles(folder) for folder in folders]
    for own in by_holder(fragments):
        with optimizer.resident(own[0].holder, changed=True):
            for fragment in own:
                total = torch.zeros(fragment.count, dtype=torch.float64)
                for store in stores:
                    total += store.read("weight", fragment.name, fragment.start, fragment.count)
                fragment.within(fragment.holder.data).copy_(total / len(stores))

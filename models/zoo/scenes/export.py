"""Make `exported/` from `checkpoint/`: the parts and probes that ship, so that users need no torch.

    python -m edgevlm.models.zoo.scenes.export

The probes are scenes and questions of the *train* split, an equal number of each kind.
"""

from __future__ import annotations

from pathlib import Path

from edgevlm.models.datasets import load_dataset
from edgevlm.models.hf.checkpoint import Capacity
from edgevlm.models.zoo.training.export import export, probes

__all__ = ["CAPACITY", "PROBES_A_KIND"]

HERE = Path(__file__).parent
#: tokens; the longest question has 17 with its template, answers have 3 with the end token
CAPACITY = Capacity(prompt=32, answer=8)
PROBES_A_KIND = 3


if __name__ == "__main__":
    shown = probes(load_dataset("scenes", "train"), PROBES_A_KIND)
    export("scenes-tiny", HERE / "checkpoint", HERE / "exported", CAPACITY, shown)

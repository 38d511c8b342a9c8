"""Hold the shortcuts of trainer and evaluation against the long way round, on validation scenes.

    python -m edgevlm.models.zoo.scenes.check CHECKPOINT

What is compared: `models/zoo/training/check.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgevlm.models.zoo.scenes import scenes
from edgevlm.models.zoo.scenes.evaluate import read_split
from edgevlm.models.zoo.training.check import both

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=21, help="of the validation split")
    args = parser.parse_args()
    images, rows = read_split(scenes.VALIDATION)
    print(json.dumps(both(args.checkpoint, images[: args.images], rows[: args.images])))


if __name__ == "__main__":
    main()

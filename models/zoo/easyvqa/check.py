"""Hold the shortcuts of trainer and evaluation against the long way round, on the test pictures.

    python -m edgevlm.models.zoo.easyvqa.check CHECKPOINT

What is compared: `models/zoo/training/check.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgevlm.models.zoo.easyvqa import data
from edgevlm.models.zoo.training.check import both

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="default: the installed easy-vqa package")
    parser.add_argument("--images", type=int, default=21, help="of the test split")
    args = parser.parse_args()
    images, rows = data.read_split(args.data or data.installed_data(), "test")
    print(json.dumps(both(args.checkpoint, images[: args.images], rows[: args.images])))


if __name__ == "__main__":
    main()

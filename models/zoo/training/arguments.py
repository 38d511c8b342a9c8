"""The options that trainers which can be stopped and resumed have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["parse", "trainer"]


def trainer(what: str, out: str, report: int) -> argparse.ArgumentParser:
    """A parser for more options. what: it trains; out: what --out is; report: steps."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--out", type=Path, required=True, help=out)
    parser.add_argument("--log", type=Path, required=True, help="JSON lines")
    parser.add_argument("--state", type=Path, help="file to resume from, written at every report")
    parser.add_argument("--resume", action="store_true", help="go on from --state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.998, help="of the weight average, a step")
    parser.add_argument("--report", type=int, default=report, help="steps between validations")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if args.resume and not (args.state and args.state.is_file()):
        parser.error("--resume needs --state with a file that is there")
    return args

"""A whole VLM written by hand, of a few hundred weights; 1 ms a probe. conftest.py hands it over.

pixels -> convolution                              -> linear, GELU         -> decoder
pixels -> convolution, class token, `tower` blocks -> two layers and a GELU -> decoder
"""

from __future__ import annotations

from micro.chooser import micro_chooser
from micro.graph import parse_graph
from micro.model import micro_vlm

__all__ = ["micro_chooser", "micro_vlm", "parse_graph"]

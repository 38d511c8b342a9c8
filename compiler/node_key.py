"""Under which key torch's calls remember the ONNX node that they are of, from export to profile."""

from __future__ import annotations

__all__ = ["NODE_KEY"]

NODE_KEY = "edgevlm_node"

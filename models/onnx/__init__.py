"""A bare ONNX file of an image model -> an exported model of one part, `vision`.

read.py       the file, which may be hostile
static.py     one picture of one size: every shape a number, what follows from shapes computed
opset.py      the opset of all parts
ports.py      the picture in and the classes or map out, under the contract's names
tokens.py     which grid of image tokens it has, if any
sidecar.py    what no ONNX file says: how a picture becomes a tensor, what the classes are called
frontend.py   all of it in order, and the proof that the part still computes what the file does
"""

from __future__ import annotations

__all__ = ["OLDEST", "OPSET"]

#: of the default ONNX domain: what every part is brought to
OPSET = 23
#: older files are of before 2019, and their ops mean other things
OLDEST = 7

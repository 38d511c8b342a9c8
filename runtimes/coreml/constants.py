"""Constants of a program as tensors: those in place, and those in weights/weight.bin.

A tensor that several functions name is decoded once and is one object for all of them, so that
what is made from it (a weight unpacked from four bits) can be shared as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgevlm.runtimes.coreml.blob_file import BlobFile, unpacked
from edgevlm.runtimes.coreml.mil_types import TensorType, Unreadable, tensor_type
from edgevlm.runtimes.coreml.mlpackage import Mlpackage

__all__ = ["Constants", "held"]

#: kind of MIL type -> dtype that holds it
HELD = {"float": torch.float32, "int": torch.int32, "bool": torch.bool}
#: field of a TensorValue -> numpy type of its numbers
FIELDS = {"floats": np.float32, "ints": np.int32, "bools": np.bool_}


class Constants:
    """Of one package."""

    def __init__(self, package: Mlpackage) -> None:
        self._package = package
        self._files: dict[str, BlobFile] = {}
        self._stored: dict[tuple[str, int, TensorType], Tensor] = {}

    def tensor(self, value: Any, keep: bool = True) -> Tensor | str:
        """Of a Value protobuf. keep: hold it for who asks next; not what is about to be unpacked.

        Raises Unreadable, and EV304 where it leads out of the package.
        """
        type_ = tensor_type(value.type)
        if value.WhichOneof("value") != "blobFileValue":
            return _immediate(value.immediateValue, type_)
        file, offset = value.blobFileValue.fileName, int(value.blobFileValue.offset)
        found = self._stored.get((file, offset, type_))
        if found is not None:
            return found
        made = held(self._file(file).tensor(offset, type_), type_)
        if keep:
            self._stored[file, offset, type_] = made
        return made

    def _file(self, name: str) -> BlobFile:
        if name not in self._files:
            self._files[name] = BlobFile(self._package.weight_file(name))
        return self._files[name]


def held(array: np.ndarray, type_: TensorType) -> Tensor:
    """An array of the type that MIL says -> the tensor that holds it. Raises Unreadable."""
    if type_.dtype.name == "uint32" and array.size and array.max() >= 2**31:
        raise Unreadable(f"a uint32 of {array.max()}")
    wide = {"float": np.float32, "int": np.int32, "bool": np.bool_}[type_.dtype.kind]
    return torch.from_numpy(np.array(array, dtype=wide, order="C"))


def _immediate(value: Any, type_: TensorType) -> Tensor | str:
    """Numbers in place; strings are scalars."""
    if value.WhichOneof("value") != "tensor":
        raise Unreadable(f"a constant {value.WhichOneof('value')}")
    field = value.tensor.WhichOneof("value")
    if type_.dtype.kind == "string":
        if field != "strings" or len(value.tensor.strings.values) != 1 or type_.shape:
            raise Unreadable("a constant that is no single string")
        return str(value.tensor.strings.values[0])
    if field == "bytes":
        data = np.frombuffer(value.tensor.bytes.values, np.uint8)
        return held(unpacked(data, type_), type_)
    if field not in FIELDS:
        raise Unreadable(f"a constant {type_} given as {field}")
    numbers = np.array(getattr(value.tensor, field).values, FIELDS[field])
    if numbers.size != type_.elements:
        raise Unreadable(f"{numbers.size} numbers for {type_}")
    kinds = {"floats": "float", "ints": "int", "bools": "bool"}
    if kinds[field] != type_.dtype.kind:
        raise Unreadable(f"a constant {type_} given as {field}")
    return held(numbers.reshape(type_.shape), type_)

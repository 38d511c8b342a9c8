"""Number formats of ONNX in torch. Four-bit integers lie in eight bits: torch has none."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

__all__ = ["DTYPES", "as_tensor", "as_torch"]

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT4: torch.int8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def as_torch(tensor: ir.TensorProtocol) -> Tensor:
    """A copy of a stored tensor; its dtype must be in DTYPES."""
    dtype, array = DTYPES[tensor.dtype], tensor.numpy()
    if tensor.dtype is ir.DataType.BFLOAT16:  # numpy knows it, and four bits, by an extension
        array = array.astype(np.float32)
    elif tensor.dtype.bitwidth < 8:
        array = array.astype(np.int16)
    return torch.from_numpy(np.array(array)).to(dtype)


def as_tensor(tensor: Tensor, dtype: ir.DataType, name: str) -> ir.Tensor:
    """The other way, for floats: a copy in the format of an initializer."""
    array = tensor.detach().to("cpu", torch.float64).numpy()
    return ir.tensor(array.astype(dtype.numpy()), name=name, dtype=dtype)

"""constexpr_*: weights that are stored smaller than they are used, unpacked once at load.

    affine_dequantize       int8, a scale an axis                     } one scale, iOS 16
    blockwise_shift_scale   int8 or int4, a scale a block             } and iOS 18
    lut_to_dense            indices into a palette, a palette a group
    sparse_to_dense         a mask and the numbers that are not zero
    cast                    fp16 stored, fp32 used

Blocks and groups: axis i of the data has data.shape[i] / scale.shape[i] numbers to a scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.blob_file import unpacked
from edgevlm.runtimes.coreml.mil_types import MIL_TYPES, TensorType, Unreadable
from edgevlm.runtimes.coreml.ops.forms import Handler, Ints, Refused, room
from edgevlm.runtimes.coreml.ops.quantised import spread

__all__ = ["OPS"]

UNSIGNED = {t.bits: t for t in MIL_TYPES.values() if t.kind == "int" and t.low == 0}


def affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    zero, factor = (spread(row, quantized_data, axis) for row in (zero_point, scale))
    return factor * (quantized_data - zero)


def blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale * (data - offset), all of one rank."""
    shifted = data if offset is None else data - _by_block(offset, data.shape)
    return _by_block(scale, data.shape) * shifted


def _by_block(row: Tensor, sizes: torch.Size) -> Tensor:
    """Repeated so that it has the given sizes."""
    if row.dim() != len(sizes) or any(n % m for n, m in zip(sizes, row.shape, strict=True)):
        raise Refused(f"{list(row.shape)} blocks in {list(sizes)}")
    for axis, size in enumerate(sizes):
        row = row.repeat_interleave(size // row.shape[axis], axis)
    return row


def lut_to_dense(
    indices: Tensor, lut: Tensor, vector_axis: int | None = None, shape: Ints | None = None
) -> Tensor:
    """lut [groups.., palette, v] (iOS 18), or [palette] with packed indices and a shape (iOS 16).

    A palette of vectors fills v places in a row along vector_axis.
    """
    if shape is not None:
        return lut[_unpacked(indices, lut.shape[0].bit_length() - 1, shape).long()]
    if lut.dim() != indices.dim() + 2:
        raise Refused(f"palettes {list(lut.shape)} for indices {list(indices.shape)}")
    width = lut.shape[-1]
    if width > 1 and vector_axis is None:
        raise Refused("vectors without an axis")
    room([*indices.shape, width])
    groups = torch.arange(lut.shape[:-2].numel()).reshape(lut.shape[:-2])
    rows = _by_block(groups, indices.shape) * lut.shape[-2] + indices.long()
    picked = lut.reshape(-1, width)[rows]  # [indices.., v]
    if width == 1:
        return picked.squeeze(-1)
    at = vector_axis % indices.dim()
    return picked.movedim(-1, at + 1).flatten(at, at + 1)


def _unpacked(packed: Tensor, bits: int, shape: Ints) -> Tensor:
    """uint8 bytes as int32 -> numbers of so many bits. Raises Refused."""
    try:
        found = unpacked(packed.to(torch.uint8).numpy(), TensorType(UNSIGNED[bits], room(shape)))
    except (KeyError, Unreadable) as error:
        raise Refused(f"palette indices of {bits} bits: {error}") from error
    return torch.from_numpy(found.astype("int32"))


def sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """mask: of the result (iOS 18), or packed bits and a shape (iOS 16)."""
    places = (mask if shape is None else _unpacked(mask, 1, shape)) != 0
    if int(places.sum()) != nonzero_data.numel():
        raise Refused(f"{nonzero_data.numel()} numbers for {int(places.sum())} places")
    return torch.zeros(places.shape, dtype=nonzero_data.dtype).masked_scatter(places, nonzero_data)


def sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask, and blockwise_shift_scale of the numbers that are there."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def lut_to_sparse(
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The mask, and lut_to_dense of the indices that are there."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    if dense.shape != indices_mask.shape:
        axis = vector_axis if vector_axis is not None else 0
        indices_mask = indices_mask.repeat_interleave(lut.shape[-1], axis)
    return indices_mask, dense[indices_mask != 0]


def cast(source_val: Tensor, output_dtype: str) -> Tensor:
    if output_dtype not in ("fp16", "fp32"):
        raise Refused(f"a cast to {output_dtype!r:.40}")
    return source_val


OPS: dict[str, Handler] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_cast": cast,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": sparse_to_dense,
}

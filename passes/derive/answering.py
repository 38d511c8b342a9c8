"""Masks of a tower judged by answers: pictures through vision, connector and prefill, in torch.

    loss = cross-entropy of the first token of the right answer, behind picture and question

The prefill part gives the logits of the last position alone, so what is taught is how an answer
begins; its later tokens would need the decode part, and most answers of a domain differ in the
first. Text, positions and where the picture begins are those that the model was observed with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.contract import Role
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.to_torch import TorchPart, to_torch
from edgevlm.passes.derive.through import Judged

__all__ = ["Answering"]

TOGETHER = 16  # rows that are looked at in one go
PLAIN = ("inputs_embeds", "position_ids", "last_index")  # of a prefill that drops no tokens


class Answering(Judged):
    """Rows of an observation, some of them; every row has a first answer token."""

    def __init__(
        self,
        net: TorchPart,
        hidden: Sequence[str],
        parts: Mapping[Role, ir.Model],
        seen: Reference,
        some: np.ndarray,
    ) -> None:
        """net: the vision part. Raises EV212 for a part that torch cannot run."""
        self.net, self.hidden = net, tuple(hidden)
        self.connector, self.prefill = to_torch(parts["connector"]), to_torch(parts["prefill"])
        prompts = [seen.feeds[i]["prefill"] for i in some]
        self.fed = {name: torch.from_numpy(np.stack([p[name] for p in prompts])) for name in PLAIN}
        pixels = [seen.feeds[i]["vision"]["pixel_values"] for i in some]
        self.pictures = torch.from_numpy(np.stack(pixels))
        self.starts = torch.tensor([seen.starts[i] for i in some])
        self.first = torch.tensor([seen.said[i][0] for i in some])
        self.what = "cross-entropy of the first answer token"

    def loss(self, masks: Sequence[Tensor], some: np.ndarray) -> Tensor:
        return F.cross_entropy(self.logits(masks, some), self.first[some])

    def logits(self, masks: Sequence[Tensor], some: np.ndarray) -> Tensor:
        """[len(some),V] of the first answer token."""
        taps = self.taps(masks)

        def one(picture: Tensor, start: Tensor, fed: dict[str, Tensor]) -> Tensor:
            seen = self.net({"pixel_values": picture}, taps=taps)
            image = self.connector(seen)["image_embeds"]
            return self.prefill(fed | {"inputs_embeds": _laid(fed, image, start)})["logits"][0]

        pieces = []
        for i in range(0, len(some), TOGETHER):
            rows = some[i : i + TOGETHER]
            fed = {name: value[rows] for name, value in self.fed.items()}
            pieces.append(torch.vmap(one)(self.pictures[rows], self.starts[rows], fed))
        return torch.cat(pieces)


def _laid(fed: dict[str, Tensor], image: Tensor, start: Tensor) -> Tensor:
    """The prompt [1,L,D] with this picture [1,K,D] in it, from row `start` on."""
    text, kept = fed["inputs_embeds"], image.shape[1]
    places = torch.arange(text.shape[1]) - start
    inside = (places >= 0) & (places < kept)
    return torch.where(inside[None, :, None], image[:, places.clamp(0, kept - 1)], text)

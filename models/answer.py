"""A picture and a question in, words out: processor and tokenizer around the token loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import Probe, Processor
from edgevlm.compiler.generate import ImageTokens, Trace, encode_image, generate
from edgevlm.compiler.verify import ProbeInput
from edgevlm.models.processing.preprocess import ImageProcessor
from edgevlm.models.processing.text import PromptTemplate, StreamDecoder, TextProcessor

__all__ = ["Answer", "Answerer", "probe_inputs", "text_processor"]


@dataclass(frozen=True)
class Answer:
    """What came out, and what it took. `seconds` by stage; `decode` has one entry a token."""

    text: str
    token_ids: tuple[int, ...]
    seconds: dict[str, list[float]]


def text_processor(processor: Processor, tokenizer: bytes) -> TextProcessor:
    """Raises EV104 for a broken tokenizer."""
    template = PromptTemplate(text=processor.template, image=processor.image_token)
    return TextProcessor(
        tokenizer, template, processor.image_token, processor.eos_ids, processor.bos_id
    )


class Answerer:
    """One model, opened: ask it as often as you like."""

    def __init__(
        self, contract: Contract, processor: Processor, tokenizer: bytes, parts: PartCaller
    ) -> None:
        self.contract, self.parts = contract, parts
        self.images = ImageProcessor(**processor.image)
        self.text = text_processor(processor, tokenizer)

    def look(self, rgb: np.ndarray, trace: Trace | None = None) -> ImageTokens:
        """uint8 [H,W,3] -> image tokens, good for any number of questions."""
        trace = trace or Trace()
        start = perf_counter()
        pixels = self.images(rgb)
        trace.seconds.setdefault("preprocess", []).append(perf_counter() - start)
        return encode_image(self.contract, self.parts, pixels, trace)

    def stream(
        self,
        image: ImageTokens,
        question: str,
        *,
        max_new: int | None = None,
        trace: Trace | None = None,
        ids: list[int] | None = None,
    ) -> Iterator[str]:
        """Pieces of the answer as they are decoded; `ids` collects the token ids.

        Raises EV120-EV123 (UsageFault) for a question that cannot be asked.
        """
        prompt = self.text.encode(question, self.contract.prompt_capacity)
        decoder = StreamDecoder(self.text)
        for token in generate(
            self.contract,
            self.parts,
            image,
            prompt.before,
            prompt.after,
            self.text.eos_ids,
            max_new=max_new,
            trace=trace,
        ):
            if ids is not None:
                ids.append(token)
            if piece := decoder.push(token):
                yield piece
        if rest := decoder.flush():
            yield rest

    def answer(
        self, rgb: np.ndarray | ImageTokens, question: str, *, max_new: int | None = None
    ) -> Answer:
        """One whole answer."""
        trace, ids = Trace(), []
        start = perf_counter()
        image = rgb if isinstance(rgb, ImageTokens) else self.look(rgb, trace)
        text = "".join(self.stream(image, question, max_new=max_new, trace=trace, ids=ids))
        trace.seconds["end_to_end"] = [perf_counter() - start]
        return Answer(text, tuple(ids), trace.seconds)


def probe_inputs(
    contract: Contract, processor: Processor, tokenizer: bytes, probes: tuple[Probe, ...]
) -> list[ProbeInput]:
    """Probes as tensors and token ids."""
    images = ImageProcessor(**processor.image)
    if contract.kind == "classifier":
        return [ProbeInput(images(p.image)) for p in probes]
    text = text_processor(processor, tokenizer)
    prompts = [text.encode(p.question, contract.prompt_capacity) for p in probes]
    return [
        ProbeInput(images(p.image), q.before, q.after) for p, q in zip(probes, prompts, strict=True)
    ]

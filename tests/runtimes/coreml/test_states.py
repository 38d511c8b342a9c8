"""States: read, written, shared by functions; and a whole greedy generation through them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch
import torch.nn.functional as F
from torch import nn

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

ONE = np.ones((2, 3), np.float16)


@pytest.fixture(scope="module")
def counter(emit):
    """Adds x to a state and gives the state before and after."""

    def build(mb, x, total):
        before = mb.read_state(input=total)
        after = mb.coreml_update_state(state=total, value=mb.add(x=before, y=x))
        return before, mb.mul(x=after, y=np.float16(2.0))

    return MilProgram(emit(build, {"x": ONE}, states={"total": (2, 3)}))


def test_both_ops_are_in_the_package(counter):
    ops = [op.type for op in counter.functions["main"].ops]
    assert {"read_state", "write_state"} <= set(ops)
    assert str(counter.functions["main"].states["total"]) == "fp16[2,3]"


def test_a_state_stays_between_calls_and_starts_at_zero(counter):
    state = counter.new_state()
    assert list(state) == ["total"] and len(state) == 1 and not state["total"].any()
    for calls in range(3):
        found = counter.call("main", {"x": ONE}, state)
        before, doubled = found.values()
        assert (before == calls).all() and (doubled == 2 * (calls + 1)).all()
    assert (state["total"] == 3).all() and state["total"].dtype == np.float16
    assert not counter.new_state()["total"].any()


def test_a_state_is_written_and_copied_by_its_owner(counter):
    state = counter.new_state()
    state["total"] = np.full((2, 3), 7.0001, np.float32)
    assert (state["total"] == 7).all()  # on the grid of float16
    twin = state.copy()
    counter.call("main", {"x": ONE}, twin)
    assert (twin["total"] == 8).all() and (state["total"] == 7).all()
    state["total"][:] = 0  # a copy
    assert (state["total"] == 7).all()
    with pytest.raises(ValueError, match=r"state total is fp16\[2,3\]"):
        state["total"] = np.zeros((3, 2))
    with pytest.raises(KeyError):
        state["other"]


def test_a_call_without_the_state_that_it_needs(counter):
    with pytest.raises(JobFault, match="it has states, and none was given") as caught:
        counter.call("main", {"x": ONE})
    assert caught.value.code == "EV307"


WIDTH, HEADS, ROOM, WORDS = 16, 2, 12, 23


class Decoder(nn.Module):
    """One layer with a KV cache of its own, written by mask, as the Neural Engine has it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        shape = 1, HEADS, ROOM, WIDTH // HEADS
        self.register_buffer("keys", torch.zeros(shape))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, token, place):
        x = self.embed(token)
        y = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.norm
        q, k, v = (layer(y).reshape(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
                   for layer in (self.q, self.k, self.v))  # fmt: skip
        columns = torch.arange(ROOM)
        hot = (columns[:, None] == place[None, :]).to(k.dtype)
        keep = (1 - hot.sum(1))[None, None, :, None]
        self.keys[:] = self.keys * keep + hot @ k
        self.values[:] = self.values * keep + hot @ v
        mask = torch.where(columns[None, :] <= place[:, None], 0.0, -1e4)
        weights = torch.softmax(
            q @ self.keys.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5 + mask, -1
        )
        x = x + self.o((weights @ self.values).transpose(1, 2).reshape(1, -1, WIDTH))
        return self.head(F.silu(x))


def decoder() -> Decoder:
    torch.manual_seed(3)
    return Decoder().eval().requires_grad_(False)


PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def language(convert, tools, tmp_path_factory):
    """prefill and decode in one package, with shared weights and shared states."""
    from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

    whole = MultiFunctionDescriptor()
    for name, count in (("prefill", len(PROMPT)), ("decode", 1)):
        args = (torch.zeros(1, count, dtype=torch.int32), torch.arange(count, dtype=torch.int32))
        made = convert(decoder(), args, name=name, outputs=[tools.TensorType(name="logits")])
        whole.add_function(str(made), "main", name)
    whole.default_function_name = "decode"
    path = tmp_path_factory.mktemp("language") / "language.mlpackage"
    save_multifunction(whole, str(path))
    return path


def greedy(step, count: int = 6) -> tuple[list[int], list[np.ndarray]]:
    """step(tokens, places) -> logits; the words that follow, and the logits of each step."""
    tokens, places, words, seen = PROMPT, list(range(len(PROMPT))), [], []
    for _ in range(count):
        seen.append(step(tokens, places)[0, -1])
        words.append(int(np.argmax(seen[-1])))
        tokens, places = words[-1:], [places[-1] + 1]
    return words, seen


def in_torch():
    module = decoder()

    def step(tokens, places):
        return module(torch.tensor([tokens]), torch.tensor(places)).numpy()

    return greedy(step)


def evaluated(program: MilProgram):
    state = program.new_state()

    def step(tokens, places):
        name = "decode" if len(tokens) == 1 else "prefill"
        feeds = {"token": np.array([tokens], np.int32), "place": np.array(places, np.int32)}
        return program.call(name, feeds, state)["logits"].astype(np.float32)

    return greedy(step), state


@pytest.mark.parametrize(("rounding", "most"), [("stored", 0.02), ("float32", 0.01)])
def test_a_whole_generation_is_that_of_torch(language, rounding, most):
    want, logits = in_torch()
    (words, found), state = evaluated(MilProgram(language, rounding))
    assert words == want and len(set(want)) > 1
    for right, got in zip(logits, found, strict=True):
        assert np.abs(right - got).max() < most
    reached = len(PROMPT) + len(want) - 1
    assert all(np.abs(state[name]).sum(axis=(0, 1, 3))[:reached].all() for name in state)
    assert not any(np.abs(state[name])[:, :, reached:].any() for name in state)


def test_functions_share_states_and_weights(language):
    program = MilProgram(language)
    assert set(program.functions) == {"prefill", "decode"} and len(program.states) == 2
    plans = [program._plan(name) for name in ("prefill", "decode")]
    held = [
        {
            value.data_ptr()
            for step in plan.steps
            for value in step.fixed.values()
            if isinstance(value, torch.Tensor) and value.numel() > 100
        }
        for plan in plans
    ]
    shared = held[0] & held[1]
    assert len(shared) >= 6  # four projections, the embedding and the head


def test_values_in_between_are_there_on_request(language):
    program = MilProgram(language)
    name = next(op for op in program.functions["decode"].ops if op.type == "softmax").gives[0][0]
    feeds = {"token": np.array([[3]], np.int32), "place": np.array([0], np.int32)}
    found = program.call("decode", feeds, program.new_state(), also=[name])
    assert list(found) == ["logits", name]
    np.testing.assert_allclose(found[name].sum(-1), 1, atol=1e-3)
    with pytest.raises(JobFault, match="no op gives 'nowhere'"):
        program.call("decode", feeds, program.new_state(), also=["nowhere"])

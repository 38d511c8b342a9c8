"""What a report is made of, by hand: a profile, an evaluation, a bundle, all with known figures."""

from __future__ import annotations

from typing import Any

from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.measured import Profile
from edgevlm.devices.report.recorded import Record
from edgevlm.devices.report.subject import Probe, Subject

__all__ = ["make_eval", "make_profile", "make_record", "make_subject", "png"]

HOST = {"cpu_model": "Made Up 9000", "cores": 4, "os": "Linux", "load_average": [0.1, 0.1, 0.1]}


def png(rgb: tuple[int, int, int] = (200, 30, 30), side: int = 96) -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (side, side), rgb).save(data, "PNG")
    return data.getvalue()


def make_profile(ms: float = 10.0, how: str = "measured-host", **more: Any) -> Profile:
    """A request of `ms` in five stages; the first token after 0.8 of it."""
    shares = {"preprocess": 0.1, "vision": 0.3, "connector": 0.1, "prefill": 0.3, "decode": 0.2}
    stages = {
        name: {"p50_ms": p50, "p90_ms": 1.2 * p50, "p99_ms": 1.5 * p50, "n": 100, "how": how}
        for name, p50 in [*((k, ms * v) for k, v in shares.items()), ("end_to_end", ms)]
    }
    data = {
        "stages": stages, "fps": 2000 / ms, "ttft_ms": 0.8 * ms, "tokens_per_s": 5000 / ms,
        "answers_per_s": 1000 / ms, "n": 100, "warmup": 10, "peak_rss_mb": 150.0, "host": HOST,
        "energy_note": "not measured: no meter", "at": "2026-03-04T05:06:07Z",
        "tools": {"edgevlm": "0.1.0"},
    }  # fmt: skip
    return Profile.model_validate(data | more)


def make_eval(right: int = 90, n: int = 100, **more: Any) -> Eval:
    share = right / n
    score = {"n": n, "correct": right, "accuracy": share,
             "low": max(0.0, share - 0.04), "high": min(1.0, share + 0.04)}  # fmt: skip
    data = {
        "dataset": "shapes", "split": "test", "overall": score, "kinds": {"colour": score},
        "metric": "exact match", "how": "measured-host", "at": "2026-03-04T06:06:07Z",
    }  # fmt: skip
    return Eval.model_validate(data | more)


def make_record(**more: Any) -> Record:
    drift = {"sqnr_db": 61.5, "cosine": 0.99999, "max_abs": 0.01, "tensor": "logits",
             "against": "source", "how": "measured-host"}  # fmt: skip
    turns = {"stages": {"prefill": {"before_ms": 4.0, "after_ms": 3.0}}, "n": 20,
             "how": "measured-host",
             "first_token_ratio": {"median": 0.8, "low": 0.7, "high": 0.9}}  # fmt: skip
    data = {
        "parts": [{"role": "vision", "bytes": 10**6, "macs": 10**7, "nodes": 5, "drift": drift}],
        "answers": {"agree_with_source": 12, "probes": 12, "correct": 11, "labelled": 12},
        "payoff": turns,
        "passes": [
            {"name": "fuse-gelu", "effect": "exact", "changed": False, "seconds": 0.1},
            {"name": "keep-tokens", "effect": "structural", "changed": True, "seconds": 0.2,
             "options": {"keep": 16}, "notes": [{"kind": "matched", "where": "connector",
                                                 "why": "16 of 64 by dart"}],
             "check": {"parts": {"vision": drift}, "answers_agree": 12, "probes": 12}},
        ],
    }  # fmt: skip
    return Record.model_validate(data | more)


def make_subject(name: str = "cat.edgevlm", **more: Any) -> Subject:
    told: dict[str, Any] = {
        "name": name, "digest": "sha256:" + "a" * 64, "bytes": 2_030_000, "source": "tiny-vlm",
        "source_digest": "sha256:" + "b" * 64, "licence": "MIT", "kind": "vlm",
        "device_id": "host-cpu", "device": "The CPU of this machine", "runtime": "ort",
        "expected": "cpu", "edgevlm": "0.1.0", "toolchain": {"onnxruntime": "1.25"},
        "tokens": {"kept": 16, "of": 64, "average": 16, "schedule": []},
        "passes": [], "recipe": 'target = "host-cpu"\n', "verified": {"passes": "all of them"},
        "not_verified": {"latency": "edgevlm profile BUNDLE measures it"},
        "files": {"ort/vision.onnx": (1000, "c" * 64)}, "record": make_record(),
        "probes": [Probe(png(), (96, 96), "what colour is it?", "red")],
        "profiles": [make_profile()], "evals": [make_eval()],
    }  # fmt: skip
    return Subject(**(told | more))

"""Lines of text drawn with Pillow, and how the recogniser reads a line.

Words, sentences, dates, times, amounts, codes and addresses, in fonts that Pillow and matplotlib
bring, with sizes, colours, blur and noise drawn at random: labels without limit, the same lines for
the same seed and the same packages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageDraw, ImageFilter, ImageFont

__all__ = ["FONTS", "Reader", "digest", "draw_lines"]

FONTS = (
    "Pillow's default", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
    "DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
)  # fmt: skip
TEXT = """
able above account address after again air almost answer apple april area arrive autumn balance bank
basket before better bill bottle bread bridge bright butter cable calm carbon card carry centre
change cheque child circle city clear client clock cloud coffee colour company copy corner cotton
country credit cross customer daily dance date december deliver desk device direct double dozen
drive early east edge eight empty engine entry equal evening every exact example extra family farm
fast field final first floor forest fresh friday front garden gate glass global gold grand green
group guest half happy harbour heavy hotel hour house image inch index inside invoice iron island
item january jazz juice july jump kettle key kind kitchen lake large late lemon letter level light
line list local london lower lunch machine mail major market matter may meter middle milk minute
model monday month motor museum narrow nature never next night nine north note number ocean office
offer one open orange order other owner paper park past pay pencil piece place plain plan plate
point post price public quality quarter quick quiet quite radio rain ready receipt red refund river
road room round safe sale salt school season second sell service seven ship shop short silver simple
single six small smooth snow sold south space special square staff stamp station stone street sugar
summer sunday supply system table tax ticket time today total tower town trade train travel tree
true unit upper value velvet very view visit wait warm watch water weekend west wheel white whole
window winter wood word work world year yellow young zero zone
"""
WORDS = TEXT.split()
MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


def draw_lines(n: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """(text, uint8 RGB [H,W,3]) of each."""
    rng = np.random.Generator(np.random.PCG64(seed))
    kinds = list(_KINDS)
    return [(text := kinds[i % len(kinds)](rng), _drawn(text, rng)) for i in range(n)]


def digest(lines: list[tuple[str, np.ndarray]]) -> str:
    """sha256 of texts and pixels."""
    found = hashlib.sha256()
    for text, rgb in lines:
        found.update(f"{text}{rgb.shape}".encode() + rgb.tobytes())
    return found.hexdigest()


class Reader:
    """The recogniser on one thread: a line at a time, height 48, width as the line has it.

    White space at either end of what it reads is margin, and left out.
    """

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
        meta = self._session.get_modelmeta().custom_metadata_map
        self._characters = ["", *meta["character"].split("\n"), " "]  # 0 is CTC's blank

    def read(self, rgb: np.ndarray) -> str:
        height, width = rgb.shape[:2]
        width = int(np.clip(np.ceil(48 * width / height), 16, 640))
        image = Image.fromarray(rgb).resize((width, 48), Image.Resampling.BILINEAR)
        x = np.asarray(image)[:, :, ::-1].astype(np.float32) / 127.5 - 1  # BGR, as it was trained
        x = np.ascontiguousarray(x.transpose(2, 0, 1)[None])
        best = self._session.run(None, {"x": x})[0][0].argmax(-1)
        starts = best[np.append(True, best[1:] != best[:-1])]
        return "".join(self._characters[c] for c in starts).strip()


def _word(rng: np.random.Generator) -> str:
    word = str(rng.choice(WORDS))
    return (word, word.capitalize(), word.upper())[rng.choice(3, p=(0.6, 0.25, 0.15))]


def _sentence(rng: np.random.Generator) -> str:
    words = [str(rng.choice(WORDS)) for _ in range(rng.integers(3, 7))]
    return " ".join([words[0].capitalize(), *words[1:]]) + "."


def _date(rng: np.random.Generator) -> str:
    year, month, day = rng.integers(1950, 2050), rng.integers(1, 13), rng.integers(1, 29)
    hour, minute = rng.integers(0, 24), rng.integers(0, 60)
    return (
        f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}",
        f"{day:02}/{month:02}/{year}",
        f"{day} {MONTHS[month - 1]} {year}",
    )[rng.integers(3)]


def _amount(rng: np.random.Generator) -> str:
    value = 10 ** rng.uniform(0, 6)
    return (f"{_word(rng)} {value:,.2f}", f"${value:,.2f}", f"{value / 1e4:.1f}%")[rng.integers(3)]


def _code(rng: np.random.Generator) -> str:
    signs = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"))
    parts = ["".join(rng.choice(signs, rng.integers(2, 6))) for _ in range(rng.integers(2, 4))]
    return "-".join(parts)


def _address(rng: np.random.Generator) -> str:
    a, b = (str(rng.choice(WORDS)) for _ in range(2))
    number = rng.integers(1, 400)
    return (f"{a}.{b}@mail.com", f"www.{a}{b}.org", f"{number} {a.capitalize()} Street")[
        rng.integers(3)
    ]


def _phrase(rng: np.random.Generator) -> str:
    return " ".join(_word(rng) for _ in range(rng.integers(1, 5)))


_KINDS: tuple[Callable[[np.random.Generator], str], ...] = (
    _phrase, _sentence, _date, _amount, _code, _address,
)  # fmt: skip


def _drawn(text: str, rng: np.random.Generator) -> np.ndarray:
    font = _font(FONTS[rng.integers(len(FONTS))], int(rng.integers(18, 45)))
    left, top, right, bottom = font.getbbox(text)
    pad = rng.integers(2, 9, 4)
    size = (int(right - left + pad[0] + pad[1]), int(bottom - top + pad[2] + pad[3]))
    paper, ink = rng.integers(170, 256, 3), rng.integers(0, 110, 3)
    if rng.random() < 0.15:
        paper, ink = ink, paper
    image = Image.new("RGB", size, tuple(map(int, paper)))
    at = int(pad[0] - left), int(pad[2] - top)
    ImageDraw.Draw(image).text(at, text, font=font, fill=tuple(map(int, ink)))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    noise = rng.normal(0, rng.uniform(0, 16), (size[1], size[0], 3))
    return np.clip(np.asarray(image) + noise, 0, 255).round().astype(np.uint8)


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name == FONTS[0]:
        return ImageFont.load_default(size)
    found = find_spec("matplotlib")
    if found is None:
        raise SystemExit(
            "matplotlib is not installed.\nIts fonts are what lines are drawn with.\n"
            "Try: pip install matplotlib"
        )
    (folder,) = found.submodule_search_locations
    return ImageFont.truetype(Path(folder) / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf", size)

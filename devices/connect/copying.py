"""Files to a device by digest: what is there already stays, what broke off goes on from its end.

The digests that the device gives decide alone: before, what is to be sent, and behind, whether it
arrived. Small files go together in one stream. A large one is written as NAME.DIGEST.part, so that
a copy that broke off is found again, and that of another version is not continued.
"""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import LinkLost
from edgevlm.devices.connect.session import Device

__all__ = ["TAR_END", "Item", "copy", "tar_of"]

PIECE = 256 * 1024  # bytes
SMALL = 2**20  # bytes
SPARE = 64 * 2**20  # bytes that are left over there
TAR_END = b"\0" * 2 * tarfile.BLOCKSIZE
CUTS = 20  # in one copy; a link that breaks more often copies nothing in the end

Progress = Callable[[int, int], None]  # bytes done, bytes in all

#: "DIGEST  NAME" of files, "part BYTES NAME" of copies that broke off; names come on stdin
LISTING = """mkdir -p {home} && cd {home} && mkdir -p {parents} || exit 1
while read -r name digest; do
[ -f "$name" ] && [ ! -L "$name" ] && sha256sum "$name"
part="$name.$digest.part"; [ -f "$part" ] && echo "part $(wc -c < "$part") $name"
done; true"""


@dataclass(frozen=True)
class Item:
    """A file of this machine, as it shall be there."""

    path: Path
    sha256: str
    bytes: int


def copy(device: Device, folder: str, items: Mapping[str, Item], progress: Progress) -> int:
    """Make `folder` (below our folder) hold `items` by their relative names; returns bytes sent.

    Names are those of a manifest: letters, digits, `_`, `.`, `-` and `/`, no dot in front. Raises
    JobFault EV435 (no room), EV436 (link), EV439 (what arrived is not what was sent).
    """
    home = shlex.quote(f"{device.facts.root}/{folder}")
    sent, whole, before = 0, 0, device.cuts
    while missing := _missing(device, home, items):
        if whole == 2:
            raise JobFault(
                "EV439",
                f"{min(missing)} arrives at {device.address} as something else",
                "its digest there is another one, twice",
                "see whether the bundle is whole here: edgevlm verify BUNDLE",
            )
        done = sum(items[name].bytes for name in items.keys() - missing.keys())
        tally = _Tally(done, sum(item.bytes for item in items.values()), progress)
        _check_room(device, missing)
        try:
            _send_small(device, home, missing, tally)
            _send_large(device, home, missing, tally)
            whole += 1
        except LinkLost as lost:
            device.back(lost)
            if device.cuts - before > CUTS:
                raise device.broken(f"{lost.why}, {CUTS} times in one copy") from None
        finally:
            sent += tally.sent
    return sent


@dataclass(frozen=True)
class _Missing:
    """A file that is to be sent, from byte `at` on."""

    item: Item
    at: int


class _Tally:
    """Bytes handed over, told as they go."""

    def __init__(self, done: int, total: int, progress: Progress) -> None:
        self.sent = 0
        self._done, self._total, self._progress = done, total, progress

    def resumed(self, bytes_: int) -> None:
        self._done += bytes_

    def add(self, bytes_: int) -> None:
        self.sent += bytes_
        self._progress(min(self._done + self.sent, self._total), self._total)


def _missing(device: Device, home: str, items: Mapping[str, Item]) -> dict[str, _Missing]:
    names = "".join(f"{name} {item.sha256}\n" for name, item in items.items()).encode()
    parents = shlex.join(sorted({str(Path(name).parent) for name in items}))
    line = LISTING.format(home=home, parents=parents)
    reply = device.must(line, "reading what is there", lambda: [names])
    there: dict[str, str] = {}
    begun: dict[str, int] = {}
    for line in reply.text.splitlines():
        match line.split():
            case ["part", size, name] if size.isdigit():
                begun[name] = int(size)
            case [digest, name]:
                there[name] = digest
    return {
        name: _Missing(item, begun.get(name, 0) if begun.get(name, 0) <= item.bytes else 0)
        for name, item in items.items()
        if there.get(name) != item.sha256
    }


def _check_room(device: Device, missing: Mapping[str, _Missing]) -> None:
    wanted = sum(each.item.bytes - each.at for each in missing.values())
    free = device.free_bytes()
    if wanted + SPARE > free:
        raise device.refusal(
            f"copying {wanted / 1e6:.1f} MB",
            f"No space left: {free / 1e6:.1f} MB are free, of which {SPARE / 1e6:.0f} MB stay so",
        )


def _send_small(device: Device, home: str, missing: Mapping[str, _Missing], tally: _Tally) -> None:
    small = {name: each.item for name, each in missing.items() if each.item.bytes < SMALL}
    if small:
        device.succeeded(
            device.connection.run(f"cd {home} && tar -xf -", _stream(small, tally)), "copying"
        )


def _stream(small: Mapping[str, Item], tally: _Tally) -> Iterator[bytes]:
    for name, item in small.items():
        yield from tar_of(name, item.path.read_bytes())
        tally.add(item.bytes)
    yield TAR_END


def tar_of(name: str, data: bytes) -> Iterator[bytes]:
    """One file as it lies in a tar, which ends with `TAR_END`."""
    head = tarfile.TarInfo(name)
    head.size, head.mode = len(data), 0o600
    yield head.tobuf(tarfile.GNU_FORMAT)
    yield data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def _send_large(device: Device, home: str, missing: Mapping[str, _Missing], tally: _Tally) -> None:
    for name, each in missing.items():
        item, at = each.item, each.at
        if item.bytes < SMALL:
            continue
        part, final = shlex.quote(f"{name}.{item.sha256}.part"), shlex.quote(name)
        start = f": > {part}" if at == 0 else ":"
        tally.resumed(at)
        # where the link breaks `cat` ends as if all had come
        line = (
            f"cd {home} && {start} && cat >> {part} && "
            f'if [ "$(wc -c < {part})" -ge {item.bytes} ]; then mv -f {part} {final}; fi'
        )
        device.succeeded(device.connection.run(line, _rest(item, at, tally)), f"copying {name}")


def _rest(item: Item, at: int, tally: _Tally) -> Iterator[bytes]:
    with item.path.open("rb") as file:
        file.seek(at)
        while piece := file.read(PIECE):
            yield piece
            tally.add(len(piece))

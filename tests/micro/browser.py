"""A page in headless Chromium: what it looks like, how wide it is, what it asks the network for.

Driven through the DevTools protocol over a pipe, which needs no package: messages are JSON, a NUL
behind each. Width and colour scheme are emulated, as a window is never as narrow as a phone.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["INSTALL", "Page", "find_browser", "open_page"]

INSTALL = "sudo apt-get install chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """One page of one browser; a call waits for its answer."""

    def __init__(self, write: Any, read: Any) -> None:
        self._write, self._read, self._id, self._session = write, read, 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        message = json.loads(data)
        if "method" in message:
            self.events.append(message)
        return message

    def show(self, path: Path, *, wide: int = 1200, high: int = 900, dark: bool = False) -> None:
        """Load a file at a width of so many CSS pixels, in a light or a dark scheme."""
        size = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": wide < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._next()

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def shot(self, to: Path | None = None, *, whole: bool = False) -> Image.Image:
        """A picture of what is in the window, or of the whole page."""
        options: dict[str, Any] = {"format": "png"}
        if whole:
            options["captureBeyondViewport"] = True
        data = base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])
        if to is not None:
            to.write_bytes(data)
        return Image.open(io.BytesIO(data)).convert("RGB")

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for since `show`, those of data inside the page apart."""
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [e["params"]["request"]["url"] for e in sent]
        return [url for url in urls if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What the browser says to the page's author, blocked resources among it."""
        logged = [
            e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"
        ]
        thrown = [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return logged + thrown


@contextlib.contextmanager
def open_page(browser: str) -> Iterator[Page]:
    """A browser of its own with an empty profile, ended behind it."""
    to_child, from_us = os.pipe()
    to_us, from_child = os.pipe()

    # the browser reads from 3 and writes to 4, which Popen may be using for itself
    command = ["bash", "-c", f'exec "$@" 3<&{to_child} 4>&{from_child}', "bash", browser, *FLAGS]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        child = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"], pass_fds=(to_child, from_child),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        with os.fdopen(from_us, "wb") as write, os.fdopen(to_us, "rb") as read:
            try:
                yield Page(write, read)
            finally:
                child.terminate()
                child.wait(timeout=30)

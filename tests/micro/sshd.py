"""A real sshd on loopback with throw-away keys, and a client that knows them and nothing else.

    with Sshd(folder) as server:         server.address is ssh://127.0.0.1:PORT
        os.environ["PATH"] = server.path(os.environ["PATH"])

`server.restart()` ends every session and starts anew, as a device does whose network went away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["HOW_TO_GET_IT", "Sshd", "find_sshd"]

HOW_TO_GET_IT = "no sshd on this machine: sudo apt-get install openssh-server"


def find_sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


class Sshd:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        for name in ("host", "user", "stranger"):
            self._key(name)
        shutil.copy(folder / "user.pub", folder / "authorised")
        self.know(self.port)
        (folder / "cache").mkdir()
        # as edgevlm doctor says to set it up; a link would not find the packages of the tests
        own = folder / "home" / ".edgevlm" / "bin" / "python"
        own.parent.mkdir(parents=True)
        own.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        own.chmod(0o755)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorised\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n"
            f"SetEnv HOME={folder}/home XDG_CACHE_HOME={folder}/cache\n"
        )
        self._client("ssh", "user")

    @property
    def address(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    @property
    def left(self) -> list[str]:
        """What lies in the cache folder of the account."""
        return sorted(str(p.relative_to(self.folder / "cache")) for p in self.cache.rglob("*"))

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def know(self, port: int, key: str = "host") -> None:
        """Put a key into the client's list, as that of the host at `port`."""
        text = " ".join((self.folder / f"{key}.pub").read_text().split()[:2])
        with (self.folder / "known").open("a") as file:
            file.write(f"[127.0.0.1]:{port} {text}\n")

    def forget(self) -> None:
        (self.folder / "known").write_text("")

    def path(self, before: str) -> str:
        return f"{self.folder}/bin:{before}"

    def use_key(self, name: str) -> None:
        self._client("ssh", name)

    def __enter__(self) -> Sshd:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd run by root asks for it
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        """The server and all its sessions; what they started goes on where it has its own."""
        children = _children(self._server.pid)
        for pid in (self._server.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait()

    def _start(self) -> None:
        self._server = subprocess.Popen(
            [find_sshd(), "-D", "-e", "-f", str(self.folder / "config")],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self._server.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())

    def _key(self, name: str) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", name],
            cwd=self.folder,
            check=True,
        )

    def _client(self, name: str, key: str) -> None:
        """An `ssh` in front of the system's, for its key and its list of hosts."""
        home = self.folder / "bin"
        home.mkdir(exist_ok=True)
        script = home / name
        script.write_text(
            f"#!/bin/sh\nexec {shutil.which('ssh', path=os.defpath)} -F none "
            f"-o IdentityFile={self.folder}/{key} -o IdentitiesOnly=yes "
            f'-o UserKnownHostsFile={self.folder}/known -o GlobalKnownHostsFile=none "$@"\n'
        )
        script.chmod(0o755)


def _children(pid: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found

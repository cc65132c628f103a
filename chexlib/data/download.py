"""One file over HTTP, continued where it broke off and checked against its hash.

An archive of ChestX-ray14 is several gigabytes, and connections break: a partial download goes on.
What a server sends is not trusted: it may be too much, too slow, compressed or no HTTP at all.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch
import requests

from chexlib.files import open_own

if TYPE_CHECKING:
    from chexlib.data.fetch import RemoteFile

_CHUNK = 1 << 16
_SLOWEST = 4096  # bytes a second, half of what a telephone line carries
_REDIRECTS = 10


class FetchError(RuntimeError):
    """A file could not be fetched; the message says what was expected, found, and can be done."""


class _TryError(Exception):
    """A try did not bring the file.

    ``wrong``: what is here is not the file's beginning. ``final``: no other try would do better.
    """

    def __init__(self, reason: str, *, wrong: bool = False, final: bool = False) -> None:
        super().__init__(reason)
        self.wrong, self.final = wrong, final


class _Watch(requests.adapters.HTTPAdapter):
    """Cuts a connection that brings too little: a timeout is content with a byte now and then.

    ``received`` is to be counted up. Endless interim answers or headers count as nothing.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.received, self.cut = 0, False
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        threading.Thread(target=self._look, args=(timeout,), daemon=True).start()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return a pool whose connections this knows of, before they have shaken hands."""
        pool, sockets = super().get_connection_with_tls_context(*args, **options), self._sockets

        class Connection(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                sockets.append(made.dup())
                return made

        pool.ConnectionCls = Connection
        return pool

    def _look(self, timeout: float) -> None:
        before = 0
        while not self._over.wait(0.05 if self.cut else timeout):
            self.cut = self.cut or self.received - before < _SLOWEST * timeout
            before = self.received
            for one in self._sockets if self.cut else ():
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        for one in self._sockets:
            one.close()
        super().close()


def _answer(url: str, start: int, timeout: float) -> Iterator[Any]:
    """Ask for a file from ``start`` on; yield where the answer begins and its bytes, then these.

    Whatever a server does wrong is a :class:`_TryError`: what it sends may raise nearly anything.
    """
    watch = _Watch(timeout)
    # A compressed transfer could not be continued: ranges count compressed bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.Session() as session:
            session.mount("http://", watch)
            session.mount("https://", watch)
            for _ in range(_REDIRECTS):
                response = session.get(
                    url,
                    headers=headers,
                    stream=True,
                    timeout=(timeout, None),  # to connect; the watch sees to the rest
                    allow_redirects=False,  # their bodies, however long, would be read into memory
                )
                target = session.get_redirect_target(response)
                if target is None:
                    break
                response.close()
                url = requests.compat.urljoin(url, target)
            yield _begins(response, start), response.raw.length_remaining
            for piece in response.raw.stream(_CHUNK, decode_content=False):
                watch.received += len(piece)
                yield piece
    except _TryError:
        raise
    except Exception as error:
        causes = [error]
        while causes[-1].__cause__ or causes[-1].__context__:
            causes.append(causes[-1].__cause__ or causes[-1].__context__)
        words = {
            TimeoutError: f"no answer for {timeout:g} seconds, or less than {_SLOWEST:,} bytes a "
            "second",
            requests.exceptions.SSLError: f"the server's certificate was not accepted ({error})",
            requests.exceptions.InvalidURL: "this is no address",
            ConnectionRefusedError: "the connection was refused",
            socket.gaierror: "the host was not found, there may be no network",
            Exception: f"the connection broke ({type(error).__name__})",
        }
        met = (kind for kind in words if any(isinstance(cause, kind) for cause in causes))
        kind = TimeoutError if watch.cut else next(met)
        hopeless = (requests.exceptions.SSLError, requests.exceptions.InvalidURL)
        raise _TryError(words[kind], final=kind in hopeless) from error
    finally:
        watch.close()


def _begins(response: requests.Response, start: int) -> int:
    """Judge an answer before any of it is written; return where it is to be written."""
    status, headers = response.status_code, response.headers
    if start and status == requests.codes.requested_range_not_satisfiable:
        raise _TryError("the server has nothing beyond what is here", wrong=True)
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise _TryError(
            # Not the server's own words for it, which may be anything.
            f"the server answered HTTP status {status} {http.client.responses.get(status, '')}",
            final=400 <= status < 500 and status not in {408, 429},
        )
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _TryError("the server sent it compressed, which was not asked for", wrong=True)
    if status == requests.codes.ok:
        return 0
    if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _TryError("the server continued at another place than was asked for", wrong=True)
    return start


def _receive(file: RemoteFile, part: Path, timeout: float, progress: Callable) -> None:
    """Add to a partial file what the server sends, and raise where that is not the file."""
    most, size = file.size or file.most, file.size
    with os.fdopen(open_own(part, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as out:
        start = out.seek(0, os.SEEK_END)
        with contextlib.closing(_answer(file.url, start, timeout)) as pieces:
            done, length = next(pieces)
            if not done:
                out.truncate(0)
            total = size or (None if length is None else done + length)
            if total is not None:
                if total > most:
                    raise _TryError(
                        f"the server has {total:,} bytes of at most {most:,}", wrong=True
                    )
                free = shutil.disk_usage(part.parent).free
                if total - done > free:
                    raise OSError(errno.ENOSPC, f"{total - done:,} bytes needed, {free:,} free")
            for piece in pieces:
                done += len(piece)
                if done > most:
                    raise _TryError(f"the server sent more than the {most:,} bytes", wrong=True)
                out.write(piece)
                progress(done, total)
        out.flush()
        os.fsync(out.fileno())
    length = part.stat().st_size
    with part.open("rb") as stream:
        page = stream.read(512).lstrip().startswith(b"<")
    if length < (size or 0) and not page:
        raise _TryError(f"the server sent {length:,} of {size:,} bytes")
    if not pooch.hashes.hash_matches(part, file.hash):
        algorithm = pooch.hashes.hash_algorithm(file.hash)
        found = f"got {algorithm}:{pooch.file_hash(part, alg=algorithm)} ({length:,} bytes"
        raise _TryError(found + (", which look like a web page)" if page else ")"), wrong=True)


def download(
    file: RemoteFile,
    part: Path,
    *,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    retries: int = 3,
    timeout: float = 30.0,
    backoff: float = 0.5,
) -> None:
    """Fill ``part`` until its hash is right; the hash, not the server's word, decides.

    Whatever ``part`` holds is continued. If that ends in a wrong hash, the part was to blame or
    the server's file changed: it is dropped and downloaded once more from the start.

    Parameters
    ----------
    file : RemoteFile
        What to download, and how it is known.
    part : Path
        Where to.
    progress : callable, optional
        Called with the bytes done and the bytes in all (None where unknown).
    retries : int
        How many tries in a row may bring nothing new before it is given up.
    timeout : float
        Seconds after which a connection that has brought nothing, or less than 4,096 bytes a
        second, counts as lost. No try begins after ten times this and what that rate takes.
    backoff : float
        Seconds before the first repetition; doubled each time.

    Raises
    ------
    FetchError
        If the server does not have the file, has another one, or the connection stays broken.
    OSError
        If the disk is full, or ``part`` cannot be written or is a link, a pipe or a device.
    """
    os.close(open_own(part, os.O_WRONLY | os.O_CREAT))
    deadline = time.monotonic() + 10 * timeout + (file.size or file.most) / _SLOWEST
    failures, furthest = 0, part.stat().st_size
    while True:
        start = part.stat().st_size
        if start and start >= (file.size or 0):
            if pooch.hashes.hash_matches(part, file.hash):
                return None
            if file.size is not None:  # as long, or longer, and not the file
                os.truncate(part, start := 0)
        try:
            return _receive(file, part, timeout, progress)
        except _TryError as error:
            if error.wrong:
                os.truncate(part, 0)
            kept = part.stat().st_size
            # A try that came further than any before starts the count anew: a large file over a
            # poor line may break many times.
            failures = 0 if kept > furthest else failures + 1
            furthest = max(furthest, kept)
            final = error.final or (error.wrong and not start)  # no old part to blame
            if final or failures > retries or time.monotonic() > deadline:
                state = "The download was dropped; nothing else was changed."
                if kept:
                    state = f"{kept:,} bytes are kept in {part.name} and will be continued."
                advice = "Check the network, wait a little, and repeat the command."
                if final:
                    advice = "The file may have moved or been altered: report it if it stays so."
                raise FetchError(
                    f"Expected {Path(file.path).name} with {file.hash} from {file.url}, but "
                    f"{error}. {state} {advice}"
                ) from error
            if failures:
                time.sleep(backoff * 2 ** (failures - 1))

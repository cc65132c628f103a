"""One file over HTTP, continued where it broke off and checked against its hash.

An archive of ChestX-ray14 is several gigabytes, and connections break: a partial download goes on.
What a server sends is not trusted: it may be too much, too slow, compressed or no HTTP at all.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pooch
import requests

from chexlib.files import open_own

__all__ = ["FetchError", "download", "hash_matches"]

logger = logging.getLogger(__name__)

hash_matches = pooch.hashes.hash_matches

_CHUNK = 1 << 16
_SLOWEST = 4096  # bytes a second, half of what a telephone line carries
_REDIRECTS = 10


class FetchError(RuntimeError):
    """A file could not be fetched; the message says what was expected, found, and can be done."""


class _UnusableError(Exception):
    """What the server sends does not continue what is here, or is not the file at all."""


class _BrokenError(Exception):
    """The transfer ended without the file; ``final`` where to try again is pointless."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class _Watch(requests.adapters.HTTPAdapter):
    """Cuts a connection that brings too little: a timeout is content with a byte now and then.

    ``received`` is to be counted up. Endless interim answers or headers count as nothing.
    """

    def __init__(self, timeout: float, deadline: float) -> None:
        super().__init__()
        self.timeout, self.deadline = timeout, deadline
        self.idle = f"no answer for {timeout:g} seconds, or less than {_SLOWEST:,} bytes a second"
        self.received, self.reason = 0, None
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

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

    def _look(self) -> None:
        before = 0
        while not self._over.wait(min(self.timeout, max(0.0, self.deadline - time.monotonic()))):
            got, before = self.received - before, self.received
            if time.monotonic() >= self.deadline:
                self.reason = "it took too long"
            elif got < _SLOWEST * self.timeout:
                self.reason = self.idle
            while self.reason and not self._over.wait(0.05):
                for one in self._sockets:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        for one in self._sockets:
            one.close()
        super().close()


@contextlib.contextmanager
def _network(watch: _Watch) -> Iterator[None]:
    """Put an error of the network into words; what a server sends may raise nearly anything."""
    try:
        yield
    except _UnusableError:
        raise
    except Exception as error:
        causes = [error]
        for cause in causes:  # which grows
            inner = (
                cause.__cause__,
                cause.__context__,
                *cause.args,
                getattr(cause, "reason", None),
            )
            causes += [e for e in inner if isinstance(e, Exception) and e not in causes]

        def met(*kinds: type[Exception]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        if watch.reason:
            raise _BrokenError(watch.reason) from error
        if met(requests.exceptions.SSLError):
            raise _BrokenError(
                f"the server's certificate was not accepted ({error})", final=True
            ) from error
        if met(TimeoutError):
            raise _BrokenError(watch.idle) from error
        if met(ConnectionRefusedError):
            raise _BrokenError("the connection was refused") from error
        if met(socket.gaierror):
            raise _BrokenError("the host was not found, there may be no network") from error
        raise _BrokenError(
            f"the connection broke ({type(error).__name__})",
            final=isinstance(error, requests.exceptions.InvalidURL),
        ) from error


def _receive(
    url: str,
    part: Path,
    *,
    size: int | None,
    most: int,
    watch: _Watch,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Add to a partial file what the server sends, once its answer has been looked at."""
    with (
        requests.Session() as session,
        os.fdopen(open_own(part, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file,
    ):
        session.mount("http://", watch)
        session.mount("https://", watch)
        start = file.seek(0, os.SEEK_END)
        # A compressed transfer could not be continued: ranges count compressed bytes.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with _network(watch):
            response = _answer(session, url, headers, watch.timeout)
        done = _accept(response, start)
        if not done:
            file.truncate(0)
        length = response.headers.get("Content-Length", "")
        # Some digits of other scripts are digits to Python, and no numbers.
        known = (
            int(length) if length.isascii() and length.isdecimal() and len(length) < 16 else None
        )
        total = size or (None if known is None else done + known)
        if total is not None:
            if total > most:
                raise _UnusableError(f"the server has {total:,} bytes for at most {most:,}")
            free = shutil.disk_usage(part.parent).free
            if total - done > free:
                raise OSError(errno.ENOSPC, f"{total - done:,} bytes needed, {free:,} free")
        pieces = response.raw.stream(_CHUNK, decode_content=False)
        while True:
            with _network(watch):
                piece = next(pieces, None)
            if piece is None:
                break
            watch.received += len(piece)
            if done + len(piece) > most:
                allowed = "expected" if size else "that it may have"
                raise _UnusableError(f"the server sent more than the {most:,} bytes {allowed}")
            file.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        file.flush()
        os.fsync(file.fileno())


def _answer(
    session: requests.Session, url: str, headers: dict[str, str], timeout: float
) -> requests.Response:
    """Ask, and follow redirects; requests would read their bodies, however long, into memory."""
    for _ in range(_REDIRECTS):
        response = session.get(
            url, headers=headers, stream=True, timeout=timeout, allow_redirects=False
        )
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        url = requests.compat.urljoin(url, target)
    raise _UnusableError(f"the server redirected more than {_REDIRECTS} times")


def _accept(response: requests.Response, start: int) -> int:
    """Judge the answer before any of it is written; return where it is to be written."""
    status = response.status_code
    if start and status == requests.codes.requested_range_not_satisfiable:
        raise _UnusableError("the server has nothing beyond what is here")
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise _BrokenError(
            # Not the server's own words for it, which may be anything.
            f"HTTP status {status} {http.client.responses.get(status, '')}".rstrip(),
            final=400 <= status < 500 and status not in {408, 429},
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _UnusableError("the server sent it compressed, which was not asked for")
    if status != requests.codes.partial_content:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _UnusableError("the server continued at another place than was asked for")
    return start


def download(
    url: str,
    part: Path,
    *,
    known_hash: str,
    size: int | None = None,
    most: int = 1 << 30,
    label: str = "",
    progress: Callable[[int, int | None], None] | None = None,
    retries: int = 3,
    timeout: float = 30.0,
    backoff: float = 0.5,
) -> None:
    """Fill ``part`` until its hash is right; the hash, not the server's word, decides.

    Whatever ``part`` holds is continued. If that ends in a wrong hash, the part was to blame or
    the server's file changed: it is dropped and downloaded once more from the start.

    Parameters
    ----------
    url, part, known_hash, size
        What to download, where to, and how it is known (``"sha256:…"`` or ``"md5:…"``; bytes).
    most : int
        Bytes that it may have at most, where the size is not known.
    label : str
        What the file is called in messages (default: the name of ``part``).
    progress : callable, optional
        Called with the bytes done and the bytes in all (None where unknown).
    retries : int
        How many tries in a row may bring nothing new before it is given up.
    timeout : float
        Seconds after which a connection that has brought nothing, or less than 4,096 bytes a
        second, counts as lost. In all, a download may take ten times this and what that rate takes.
    backoff : float
        Seconds before the first repetition; doubled each time.

    Raises
    ------
    FetchError
        If the server does not have the file, has another one, or the connection stays broken.
    OSError
        If the disk is full, or ``part`` cannot be written or is a link, a pipe or a device.
    """
    label = label or part.name
    os.close(open_own(part, os.O_WRONLY | os.O_CREAT))
    most = size or most
    deadline = time.monotonic() + 10 * timeout + most / _SLOWEST
    problem, failures, furthest = "", 0, _length(part)
    while not _whole(part, known_hash, size):
        if failures > retries or time.monotonic() > deadline:
            kept = _length(part)
            part_kept = f"{kept:,} bytes are kept in {part.name} and will be continued. "
            raise FetchError(
                f"Expected {label} from {url}, got this: {problem}. {part_kept if kept else ''}"
                "Check the network, wait a little, and repeat the command."
            )
        if failures:
            logger.info("%s: %s; trying again", label, problem)
            time.sleep(backoff * 2 ** (failures - 1))
        started_at = _length(part)
        watch = _Watch(timeout, deadline)
        try:
            _receive(url, part, size=size, most=most, watch=watch, progress=progress)
            if _whole(part, known_hash, size):
                return
            problem, wrong = _difference(part, known_hash, size)
        except _UnusableError as error:
            problem, wrong = str(error), True
        except _BrokenError as error:
            problem, wrong = str(error), False
            if error.final:
                raise FetchError(
                    f"Expected {label} from {url}, got this: {problem}. Nothing was changed. The "
                    "file may have moved: try again later, and report it if it stays so."
                ) from error
        finally:
            watch.close()
        if wrong:
            part.unlink(missing_ok=True)
            if not started_at:  # no old part to blame
                raise FetchError(
                    f"Expected {label} with {known_hash} from {url}, but {problem}. The download "
                    "was dropped and nothing else changed. The file may have been altered at its "
                    "source: try again later, and report it if it stays so."
                )
        # A try that came further than any before starts the count anew: a large file over a
        # poor line may break many times.
        failures = 0 if _length(part) > furthest else failures + 1
        furthest = max(furthest, _length(part))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _whole(part: Path, known_hash: str, size: int | None) -> bool:
    """Whether the part is the file. One that is as long, and is not the file, is dropped."""
    length = _length(part)
    if not length or length < (size or 0):
        return False
    if hash_matches(part, known_hash):
        return True
    if size is not None and length > size:
        part.unlink()
    return False


def _difference(part: Path, known_hash: str, size: int | None) -> tuple[str, bool]:
    """Say how a download that ended without an error differs, and whether it is worthless."""
    length = _length(part)
    with part.open("rb") as stream:
        page = stream.read(512).lstrip().startswith(b"<")
    if size is not None and length < size and not page:
        return f"the server sent {length:,} of {size:,} bytes", False
    algorithm = pooch.hashes.hash_algorithm(known_hash)
    found = f"got {algorithm}:{pooch.file_hash(part, alg=algorithm)} ({length:,} bytes"
    return found + (", which look like a web page)" if page else ")"), True

"""One file over HTTP, continued where it broke off and checked against its hash.

`pooch` streams and hashes. What it lacks, and is added here, is to continue a partial download:
an archive of ChestX-ray14 is several gigabytes, and connections break.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pooch
import requests

__all__ = ["FetchError", "ResumingDownloader", "download", "hash_matches"]

logger = logging.getLogger(__name__)

hash_matches = pooch.hashes.hash_matches

_CHUNK = 1 << 16


class FetchError(RuntimeError):
    """A file could not be fetched; the message says what was expected, found, and can be done."""


class _UnusableError(Exception):
    """What the server sends does not continue what is here, or is not the file at all."""


class ResumingDownloader:
    """A pooch downloader that continues a partial file instead of starting it again.

    :class:`pooch.HTTPDownloader` streams a response into an open file, whatever the server
    answered. Continuing needs to look at the answer first: 206 goes on, 200 means that the server
    ignored the range and sends everything again, so the file is emptied before the first byte.
    That is done in a hook of `requests`; pooch does the rest.

    Parameters
    ----------
    size : int, optional
        Bytes of the whole file, where known: nothing beyond them is written.
    timeout : float
        Seconds without a byte after which the connection counts as lost.
    progress : callable, optional
        Called with the bytes done and the bytes in all (None where unknown).
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        timeout: float = 30.0,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.size = size
        self.timeout = timeout
        self.progress = progress

    def __call__(
        self,
        url: str,
        output_file: str | Path,
        pooch: object = None,  # unused; the signature is pooch's
        check_only: bool = False,
    ) -> bool | None:
        """Download to ``output_file``, from where it ends."""
        if check_only:
            return _stream(timeout=self.timeout)(url, output_file, None, check_only=True)
        with Path(output_file).open("ab") as raw:
            continuation = _Continuation(raw, size=self.size, progress=self.progress)
            # A compressed transfer could not be continued: ranges count compressed bytes.
            headers = {"Accept-Encoding": "identity"}
            if continuation.start:
                headers["Range"] = f"bytes={continuation.start}-"
            _stream(
                chunk_size=_CHUNK,
                timeout=self.timeout,
                headers=headers,
                hooks={"response": continuation.look_at},
            )(url, continuation, None)
            os.fsync(raw.fileno())
        return None


_stream = pooch.HTTPDownloader


class _Continuation:
    """The file that pooch writes to: knows where it was taken up and where it must end."""

    def __init__(
        self,
        raw: IO[bytes],
        *,
        size: int | None,
        progress: Callable[[int, int | None], None] | None,
    ) -> None:
        self.raw = raw
        self.size = self.total = size
        self.progress = progress
        self.start = self.done = raw.tell()

    def look_at(self, response: requests.Response, **_: object) -> None:
        """Judge the answer before any of it is written."""
        codes = requests.codes
        if self.start and response.status_code == codes.requested_range_not_satisfiable:
            raise _UnusableError("the server has nothing beyond what is here")
        if response.is_redirect or not response.ok:
            return  # followed by requests, or raised by pooch
        if self.start and response.status_code == codes.partial_content:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {self.start}-"):
                raise _UnusableError("the server continued at another place than was asked for")
        elif self.start:
            self.raw.truncate(0)
            self.done = 0
        length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            response.headers.pop("Content-Length", None)  # pooch takes it for a number
        else:
            self.total = self.size or self.done + int(length)
            free = shutil.disk_usage(Path(self.raw.name).parent).free
            if self.total - self.done > free:
                raise OSError(
                    errno.ENOSPC, f"{self.total - self.done:,} bytes needed, {free:,} free"
                )

    def write(self, chunk: bytes) -> None:
        if self.size is not None and self.done + len(chunk) > self.size:
            raise _UnusableError(f"the server sent more than the {self.size:,} bytes expected")
        self.raw.write(chunk)
        self.done += len(chunk)
        if self.progress:
            self.progress(self.done, self.total)

    def flush(self) -> None:
        self.raw.flush()


def download(
    url: str,
    part: Path,
    *,
    known_hash: str,
    size: int | None = None,
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
    label : str
        What the file is called in messages (default: the name of ``part``).
    progress : callable, optional
        Called with the bytes done and the bytes in all (None where unknown).
    retries : int
        How many tries in a row may bring nothing new before it is given up.
    timeout : float
        Seconds without a byte after which a connection counts as lost.
    backoff : float
        Seconds before the first repetition; doubled each time.

    Raises
    ------
    FetchError
        If the server does not have the file, has another one, or the connection stays broken.
    OSError
        If the disk is full or ``part`` cannot be written.
    """
    label = label or part.name
    downloader = ResumingDownloader(size=size, timeout=timeout, progress=progress)
    problem, failures, furthest = "", 0, _length(part)
    while not _whole(part, known_hash, size):
        if failures > retries:
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
        try:
            downloader(url, part)
            if _whole(part, known_hash, size):
                return
            problem, wrong = _difference(part, known_hash, size)
        except _UnusableError as error:
            problem, wrong = str(error), True
        except requests.RequestException as error:
            problem, wrong = _reason(error, timeout), False
            if _final(error):
                raise FetchError(
                    f"Expected {label} from {url}, got this: {problem}. Nothing was changed. The "
                    "file may have moved: try again later, and report it if it stays so."
                ) from error
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


def _final(error: requests.RequestException) -> bool:
    """Whether to try again is pointless: the server understood, and said no."""
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidURL):
        return True
    status = error.response.status_code if error.response is not None else 0
    return 400 <= status < 500 and status not in {408, 429}


def _reason(error: requests.RequestException, timeout: float) -> str:
    """Put an error of the network into words."""
    text = str(error)
    if error.response is not None:
        return f"HTTP status {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the server's certificate was not accepted ({text})"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return f"no answer for {timeout:g} seconds"
    if "refused" in text:
        return "the connection was refused"
    if "resolve" in text or "getaddrinfo" in text:
        return "the host was not found, there may be no network"
    return f"the connection broke ({type(error).__name__})"

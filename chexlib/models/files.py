"""Files of weights, read as plain data: a file that would run code is refused before it does."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from chexlib.files import write_atomically
from chexlib.models.pickles import Declared, ForbiddenError, open_pickle

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["CheckpointError", "Contents", "read_weights", "write_safetensors"]

# What a file is told by, when it is no file of weights: the first bytes, and what they mean.
STRANGERS = (
    (b"\x89HDF", "an HDF5 file, as Keras writes; weights of Keras are not read"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file: run `git lfs pull`"),
    (b"<", "a web page or XML: the download failed, fetch it again"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
)

MOST_BYTES = 1 << 30  # DenseNet-201 with Adam's moments takes a quarter of it
MOST_HEADER = 8 << 20  # of a safetensors file: names and sizes
PLAIN = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
LONGEST = 2000  # characters of a message: names in a file may be as long as it
NO_SUM = "0" * 64  # where the sum of a file stands while it is computed


class CheckpointError(ValueError):
    """A file is no checkpoint, or not one of a CheXNet."""

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 500]} … {message[-490:]}"
        super().__init__(message)


@dataclass(frozen=True)
class Contents:
    """What a file of weights holds.

    Attributes
    ----------
    kind : {"safetensors", "lightning", "torch"}
        How it is written.
    tensors : dict of str to Tensor
        The state dict, under the file's own keys.
    metadata : dict
        What else is said: a safetensors file's metadata, or the numbers, texts and dicts of texts
        beside the state dict of a pickle, such as its epoch.
    sha256 : str
        Of the whole file, 64 hexadecimal digits.
    """

    kind: str
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    sha256: str


def read_weights(path: str | Path) -> Contents:
    """Read a safetensors file or a ``torch.save`` of tensors; nothing in it is executed.

    Parameters
    ----------
    path : path
        What it holds is told by its first bytes, not by its name.

    Returns
    -------
    Contents
        Its tensors on the CPU, finite.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is a folder, empty, truncated, another kind of file, a pickle that calls for code, or
        has no state dict, or several; or if a value is not a number.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"Expected a file of weights, got the folder {path}. Name the file.")
    if not path.exists():
        raise FileNotFoundError(
            errno.ENOENT, "Expected a file of weights, found none. Check the path", str(path)
        )
    if not path.is_file():
        raise CheckpointError(
            f"Expected a file of weights, got a pipe or a device: {path}. Name the file."
        )
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(64)
        file.seek(0)
        if not start:
            raise CheckpointError(
                f"Expected a file of weights, got an empty one: {path}. Fetch or save it again."
            )
        # A safetensors file begins with a length of 8 bytes, whose first may be a pickle's, 0x80.
        if start[4:9] == b"\0\0\0\0{":
            load = _from_safetensors
        elif start.startswith((b"PK\x03\x04", b"\x80")):
            load = _from_pickle
        else:
            guess = next((what for magic, what in STRANGERS if start.startswith(magic)), None)
            raise CheckpointError(
                f"Expected a safetensors file or one that torch.save wrote, got "
                f"{guess or f'one that begins with {start[:12]!r}'}: {path}."
            )
        if size > MOST_BYTES:
            raise CheckpointError(
                f"Expected at most {MOST_BYTES:,} bytes of weights, got {size:,}: {path}. Save the "
                "network's state dict alone."
            )
        kind, tensors, metadata = load(file, path, size)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _check_values(tensors, path)
    return Contents(kind, tensors, metadata, digest)


def write_safetensors(
    tensors: Mapping[str, torch.Tensor], path: Path, *, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file whole or not at all; the same contents give the same bytes.

    Its metadata gets one more entry, ``sha256``: of the whole file with zeros in that place, so
    that :func:`read_weights` tells a damaged file, which the format alone does not.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    path : Path
        An earlier file is replaced at the end; its folder is made if need be.
    metadata : mapping of str to str

    Raises
    ------
    OSError
        If it cannot be written; an earlier file is as it was.
    """
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    # The library writes metadata in a random order: the header is written here, sorted.
    end = 8 + int.from_bytes(content[:8], "little")
    said = {**metadata, "sha256": NO_SUM}
    header = {"__metadata__": dict(sorted(said.items())), **json.loads(content[8:end])}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    text = len(text).to_bytes(8, "little") + text
    body = memoryview(content)[end:]
    text = text.replace(_sum(NO_SUM), _sum(_digest(text, body)), 1)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(draft: Path) -> None:
        with draft.open("wb") as file:
            file.write(text)
            file.write(body)

    write_atomically(path, write)


def _sum(digest: str) -> bytes:
    """Return how a header names the SHA-256 of its file."""
    return f'"sha256":"{digest}"'.encode()


def _digest(header: bytes, body: bytes | memoryview) -> str:
    digest = hashlib.sha256(header)
    digest.update(body)
    return digest.hexdigest()


def _from_safetensors(file: BinaryIO, path: Path, size: int) -> tuple[str, dict, dict]:
    with _explained(path):
        end = 8 + int.from_bytes(file.read(8), "little")
        if end > min(size, MOST_HEADER):
            raise EOFError("its header is too long")
        metadata = json.loads(file.read(end - 8)).get("__metadata__", {})
        if not isinstance(metadata, dict):
            raise TypeError("__metadata__ is no dict of texts")
        file.seek(0)
        content = file.read()
        known = metadata.pop("sha256", None)
        if known is not None:
            zeroed = content[:end].replace(_sum(known), _sum(NO_SUM), 1)
            if _digest(zeroed, memoryview(content)[end:]) != known:
                raise ValueError("its SHA-256 is not the one it was written with")
        return "safetensors", safetensors.torch.load(content), metadata


def _from_pickle(file: BinaryIO, path: Path, size: int) -> tuple[str, dict, dict]:
    with _explained(path):
        saved, read = open_pickle(file, size)
        kind, declared, metadata = _state_dict(saved, path)
        odd = [key for key, tensor in declared.items() if tensor.storage is None]
        if odd:
            raise CheckpointError(
                f"Expected dense tensors of plain numbers, got sparse, nested, quantised or absent "
                f"ones in {path}: {odd[:5]}. Convert them before saving."
            )
        # Not quite its own size: the same numbers may have several names.
        if sum(tensor.n_bytes for tensor in declared.values()) > 4 * size:
            raise EOFError("its tensors are larger than it is")
        return kind, {key: read(tensor) for key, tensor in declared.items()}, metadata


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Put into words what a damaged file may raise, which is nearly anything."""
    try:
        yield
    except CheckpointError:
        raise
    except ForbiddenError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
        raise CheckpointError(
            f"Expected a whole file of weights, got a damaged or truncated one, or a pickle of "
            f"something else: {path} ({said}). Fetch or save it again."
        ) from error


def _state_dict(saved: object, path: Path) -> tuple[str, dict, dict]:
    """Find the one state dict in what was saved."""
    if _is_state_dict(saved):
        return "torch", dict(saved), {}
    entries = saved if isinstance(saved, dict) else {}
    found = {key: value for key, value in entries.items() if _is_state_dict(value)}
    if "state_dict" in found:
        found = {"state_dict": found["state_dict"]}
    if len(found) != 1:
        raise CheckpointError(
            f"Expected one state dict in {path}, got {sorted(map(str, found)) or 'none'} in a "
            f"{type(saved).__name__} of {sorted(map(str, entries))[:12]}. Save the one that is "
            "meant: torch.save(model.state_dict(), file)."
        )
    metadata = {}
    for key, value in entries.items():
        plain = value
        if isinstance(plain, dict):  # what a training kept beside its texts is its own affair
            plain = {k: v for k, v in plain.items() if isinstance(k, str) and isinstance(v, str)}
        if isinstance(plain, int | float) or (isinstance(plain, str | dict) and plain):
            metadata[str(key)] = plain
    kind = "lightning" if "pytorch-lightning_version" in entries else "torch"
    return kind, dict(*found.values()), metadata


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Declared) for k, v in value.items())
    )


def _check_values(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    odd = [key for key, value in tensors.items() if value.dtype not in PLAIN]
    if odd:
        raise CheckpointError(
            f"Expected floating-point numbers of 16 to 64 bits or whole ones in {path}, got "
            f"{tensors[odd[0]].dtype} in {len(odd)} tensors: {odd[:5]}. Convert them before saving."
        )
    bad = [
        key
        for key, value in tensors.items()
        # torchxrayvision marks by NaN the outputs that it did not train. What is beyond float32
        # becomes infinite where it is computed.
        if not key.endswith("op_threshs") and not bool(torch.isfinite(value.float()).all())
    ]
    if bad:
        raise CheckpointError(
            f"Expected numbers, got NaN, infinity or more than float32 holds in {len(bad)} tensors "
            f"of {path}: {bad[:5]}. That training diverged: take an earlier checkpoint."
        )


def _refused(path: Path, called: str) -> CheckpointError:
    return CheckpointError(
        f"Expected nothing but tensors in {path}, got a pickle that calls for {called}: to open it "
        "would run code, so nothing of it was run. A whole pickled model is one such file. If you "
        "trust where it is from, convert it once, on a machine with nothing to lose: "
        "model = torch.load(file, map_location='cpu', weights_only=False); "
        "torch.save(model.state_dict(), 'state.pt'). For torchxrayvision's: torch.save("
        "torchxrayvision.models.DenseNet(weights='densenet121-res224-nih').state_dict(), "
        "'state.pt')."
    )

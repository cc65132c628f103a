"""Files of weights as plain data, and the tensors of a network whatever their names.

A file that would run code is refused before it does. Every key of a file ends in the network or is
named in an error: a head that is left at random scores about 0.5 and looks like a result
(arnoweng/CheXNet, issue 34).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from chexlib.files import write_atomically
from chexlib.models.architectures import COUNTER, DENSE, FAMILIES, nearest, signature
from chexlib.models.pickles import Declared, ForbiddenError, open_pickle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

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

# DenseNet's first release had dots in module names, which PyTorch has forbidden since.
LEGACY = re.compile(r"\b(denselayer\d+\.(?:norm|conv))\.([12])\.")


class CheckpointError(ValueError):
    """A file is no checkpoint, or not one of a CheXNet."""

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 500]} … {message[-490:]}"
        super().__init__(message)


class ImageNetError(CheckpointError):
    """A file holds a network of ImageNet's 1000 classes, from which one can train."""


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
    if not path.exists():
        raise FileNotFoundError(
            errno.ENOENT, "Expected a file of weights, found none. Check the path", str(path)
        )
    if not path.is_file():
        what = "the folder" if path.is_dir() else "a pipe or a device:"
        raise CheckpointError(f"Expected a file of weights, got {what} {path}. Name the file.")
    with path.open("rb") as file:
        start, size = file.read(64), file.seek(0, 2)
        file.seek(0)
        # A safetensors file begins with a length of 8 bytes, whose first may be a pickle's, 0x80.
        table = start[4:9] == b"\0\0\0\0{"
        if not table and not start.startswith((b"PK\x03\x04", b"\x80")):
            guess = f"one that begins with {start[:12]!r}"
            guess = next((what for magic, what in STRANGERS if start.startswith(magic)), guess)
            guess = guess if start else "an empty one. Fetch or save it again"
            raise CheckpointError(
                f"Expected a safetensors file or one that torch.save wrote, got {guess}: {path}."
            )
        if size > MOST_BYTES:
            raise CheckpointError(
                f"Expected at most {MOST_BYTES:,} bytes of weights, got {size:,}: {path}. Save the "
                "network's state dict alone."
            )
        try:
            kind, tensors, metadata = (_from_safetensors if table else _from_pickle)(file, size)
        except CheckpointError:
            raise
        except ForbiddenError as error:
            raise CheckpointError(
                f"Expected nothing but tensors in {path}, got a pickle that calls for {error}: to "
                "open it would run code, so nothing of it was run. A whole pickled model is one "
                "such file. If you trust where it is from, convert it once, on a machine with "
                "nothing to lose: model = torch.load(file, map_location='cpu', weights_only=False);"
                " torch.save(model.state_dict(), 'state.pt'). For torchxrayvision's: torch.save("
                "torchxrayvision.models.DenseNet(weights='densenet121-res224-nih').state_dict(), "
                "'state.pt')."
            ) from error
        except Exception as error:  # a damaged file may raise nearly anything
            said = f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
            raise CheckpointError(
                f"Expected a whole file of weights, got a damaged or truncated one, or a pickle of "
                f"something else: {path} ({said}). Fetch or save it again."
            ) from error
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if odd := [key for key, value in tensors.items() if value.dtype not in PLAIN]:
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


def _digest(header: bytes, body: memoryview) -> str:
    digest = hashlib.sha256(header)
    digest.update(body)
    return digest.hexdigest()


def _from_safetensors(file: BinaryIO, size: int) -> tuple[str, dict, dict]:
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


def _from_pickle(file: BinaryIO, size: int) -> tuple[str, dict, dict]:
    saved, read = open_pickle(file, size)
    entries = saved if isinstance(saved, dict) else {}
    found = {key: value for key, value in entries.items() if _is_state_dict(value)}
    if _is_state_dict(saved):
        entries, found = {}, {"state_dict": saved}
    elif "state_dict" in found:
        found = {"state_dict": found["state_dict"]}
    if len(found) != 1:
        raise CheckpointError(
            f"Expected one state dict in {file.name}, got {sorted(map(str, found)) or 'none'} in a "
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
    [declared] = found.values()
    if odd := [key for key, tensor in declared.items() if tensor.storage is None]:
        raise CheckpointError(
            f"Expected dense tensors of plain numbers, got sparse, nested, quantised or absent "
            f"ones in {file.name}: {odd[:5]}. Convert them before saving."
        )
    # Not quite its own size: the same numbers may have several names.
    said = (math.prod(one.size) * one.storage.dtype.itemsize for one in declared.values())
    if sum(said) > 4 * size:
        raise EOFError("its tensors are larger than it is")
    kind = "lightning" if "pytorch-lightning_version" in entries else "torch"
    return kind, {key: read(tensor) for key, tensor in declared.items()}, metadata


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Declared) for k, v in value.items())
    )


class Named:
    """The tensors of a file under torchvision's names.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Of a file, under its own keys.
    where : path or str
        For errors.
    arch : str, optional
        What the network is meant to be; by default what it is nearest to.

    Attributes
    ----------
    arch : str
        One of :data:`chexlib.models.ARCHITECTURES`.
    state, keys : dict of str to Tensor, dict of str to str
        What lies where the network is, by torchvision's names, and the file's key for each.
    outside : dict of str to Tensor
        What lies elsewhere, under the file's keys.
    prefix : str
        Where the network is, such as ``module.densenet121.``.
    head : str
        torchvision's name of the last linear layer.
    wrapped_head : bool
        Whether the head is a ``Sequential``, as zoogzog's and arnoweng's are, with a sigmoid.

    Raises
    ------
    CheckpointError
        If there is no such network or more than one, or two keys mean the same tensor.
    """

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], where: object, *, arch: str | None = None
    ) -> None:
        self.where, self.state, self.keys = where, {}, {}
        families = {k: v for k, v in FAMILIES.items() if arch is None or arch in v}
        places = [
            (key.removesuffix(mark), mark)
            for mark in families
            for key in tensors
            if f".{key}".endswith(f".{mark}")
        ]
        if len(places) != 1:
            raise CheckpointError(
                f"Expected one {arch or 'DenseNet, ResNet, ConvNeXt or EfficientNet'} of "
                f"torchvision in {where}, got {[place for place, _ in places] or 'none'}: a key "
                f"ends in {' or '.join(families)} for each. Its first keys are "
                f"{list(tensors)[:5]}. Save the state dict of one network."
            )
        [(self.prefix, mark)] = places
        self.outside = {k: v for k, v in tensors.items() if not k.startswith(self.prefix)}
        names = {
            key: LEGACY.sub(r"\1\2.", key.removeprefix(self.prefix))
            for key in tensors
            if key not in self.outside
        }
        given = {name: tensors[key] for key, name in names.items()}
        self.arch = arch or nearest(given, families[mark])
        self.stem, self.head, _ = signature(self.arch)
        # A linear layer within a Sequential, beside dropout or a sigmoid, is the head all the same.
        end = re.compile(rf"{self.head.split('.')[0]}\.(?:.*\.)?weight")
        flat = [name for name, value in given.items() if value.ndim == 2 and end.fullmatch(name)]
        heads = [name.removesuffix(".weight") for name in flat]
        self.wrapped_head = heads == ["classifier.0"] and self.arch in DENSE
        for key, name in names.items():
            layer, _, part = name.rpartition(".")
            own = f"{self.head}.{part}" if heads == [layer] else name
            if own in self.state:
                raise CheckpointError(
                    f"Expected one key for {own} in {where}, got {self.keys[own]} and {key}. "
                    "Leave out one of them."
                )
            self.state[own], self.keys[own] = tensors[key], key

    @property
    def outputs(self) -> int | None:
        """Rows of the head; None without a head."""
        head = self.state.get(f"{self.head}.weight")
        return None if head is None or head.ndim != 2 else len(head)

    def take_rows(self, rows: Sequence[int], *, of: int) -> None:
        """Keep these rows of a head of so many, in order; another head is left to be refused."""
        for name in (f"{self.head}.weight", f"{self.head}.bias"):
            head = self.state.get(name)
            if head is not None and head.ndim and len(head) == of:
                self.state[name] = head[rows]

    def account_for(
        self, reference: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return exactly the tensors that a network has, as float32, or fail with all that differs.

        Parameters
        ----------
        reference : mapping of str to Tensor
            The network's state dict; only names, shapes and kinds of numbers matter.

        Returns
        -------
        dict of str to Tensor
            Own copies, ready for ``load_state_dict``.
        list of str
            What was filled in or converted.

        Raises
        ------
        CheckpointError
            With the lists of missing keys, unexpected keys (``outside`` among them) and shapes.
        """
        state, keys = self.state, self.keys
        both = {name: (state[name], like) for name, like in reference.items() if name in state}
        missing = [name for name in reference if name not in state]
        counters = [name for name in reference if name.endswith(COUNTER)]
        filled = counters if set(counters) <= set(missing) else []  # old PyTorch wrote none
        wrong = {
            "missing": [name for name in missing if name not in filled],
            "unexpected": [*(keys[name] for name in state if name not in reference), *self.outside],
            "of another shape or type": [
                f"{keys[name]} {list(one.shape)} for {list(like.shape)}"
                for name, (one, like) in both.items()
                if one.shape != like.shape or one.is_floating_point() != like.is_floating_point()
            ],
        }
        if any(wrong.values()):
            first, second, third = (f"{len(x)} {what} {_listed(x)}" for what, x in wrong.items())
            raise CheckpointError(
                f"Expected every tensor of {self.arch} and no other in {self.where}, got {first}, "
                f"{second} and {third}. Load it into the network it is from, and save that one's "
                "state dict."
            )
        if negative := [
            keys[n] for n, (one, _) in both.items() if n.endswith("_var") and bool((one < 0).any())
        ]:
            raise CheckpointError(
                f"Expected variances from 0 up in {self.where}, got negative ones in "
                f"{_listed(negative)}. Fetch or save it again."
            )
        notes = []
        if filled:
            # They matter to a BatchNorm without momentum only, and DenseNet's has one.
            notes.append(
                f"{len(filled)} counters num_batches_tracked, unknown to old PyTorch, set to 0"
            )
        kinds = {one.dtype for one, _ in both.values() if one.is_floating_point()}
        if kinds - {torch.float32}:
            listed = ", ".join(sorted(map(str, kinds)))
            notes.append(f"stored as {listed}, computed as torch.float32")
        copies = {name: one.to(like.dtype, copy=True) for name, (one, like) in both.items()}
        return copies | {name: torch.zeros((), dtype=torch.long) for name in filled}, notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{list(names[:12])}{more}"

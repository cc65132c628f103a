"""What ``torch.save`` wrote, read as plain data: nothing runs, and little is believed.

``torch.load(weights_only=True)`` runs nothing either, but makes whatever a file asks for: 2 GB by
``bytearray``, a tensor of 6 GB over four bytes, tuples of tuples whose hash takes a year. Here a
file names its tensors, within its own size, and those that are wanted are read afterwards.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

MOST_PICKLE = 4 << 20  # bytes without the numbers: of DenseNet-201 with Adam, 0.4 MB
MOST_DIRECTORY = 8 << 20
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files before torch 1.6

OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINSTRING, pickle.EMPTY_TUPLE, pickle.TUPLE,
    pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS,
    pickle.EMPTY_DICT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET,
    pickle.GLOBAL, pickle.REDUCE, pickle.BINPERSID,
)  # fmt: skip
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
SCALARS = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"}


class ForbiddenError(Exception):
    """The file calls for something that is not among what is read here; its name."""


@dataclass(frozen=True)
class Storage:
    """Numbers that a file says it has: ``numel`` of them from number ``first`` under ``key``."""

    dtype: torch.dtype | None
    key: str
    numel: int
    first: int = 0


@dataclass(frozen=True)
class Declared:
    """A tensor that a file says it has; of another kind than strided and plain without storage."""

    storage: Storage | None = None
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


def open_pickle(file: BinaryIO, size: int) -> tuple[Any, Callable[[Declared], torch.Tensor]]:
    """Read what a file of ``torch.save`` says, and how to read its tensors.

    Parameters
    ----------
    file : binary file
        That can be sought in; it must stay open while tensors are read.
    size : int
        Its bytes.

    Returns
    -------
    object
        What was saved: dicts, lists, texts and numbers, :class:`Declared` for tensors, None for
        what is of no use here, such as a device.
    callable
        Reads a declared tensor.

    Raises
    ------
    ForbiddenError
        If it calls for code, or for what is not known here.
    Exception
        Of nearly any kind, if it is damaged.
    """
    zipped = file.read(2) == b"PK"
    file.seek(0)
    saved, place = _open_zip(file, size) if zipped else _open_old(file, size)
    kept: dict[str, bytearray] = {}

    def read(tensor: Declared) -> torch.Tensor:
        storage = tensor.storage
        if math.prod(tensor.size) > storage.numel:
            raise ValueError("a tensor has more elements than it has numbers")
        if storage.key not in kept:
            kept[storage.key] = bytearray(place(storage))
        data = kept[storage.key]
        numbers = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0)
        offset = storage.first + tensor.offset
        return torch.as_strided(numbers.to(storage.dtype), tensor.size, tensor.stride, offset)

    return saved, read


def _open_zip(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], bytes]]:
    # zipfile makes an object of every entry that the file lists: how long is the list?
    file.seek(max(size - 98, 0))
    tail = file.read().rjust(98, b"\0")
    length = tail[40:48] if tail[56:60] == b"PK\6\7" else tail[88:92]
    if tail[76:80] != b"PK\5\6" or int.from_bytes(length, "little") > MOST_DIRECTORY:
        raise zipfile.BadZipFile("no list of its parts at its end")
    archive = zipfile.ZipFile(file)
    parts = {part.filename.partition("/")[2]: part for part in archive.infolist()}
    if "constants.pkl" in parts or any(name.startswith("code/") for name in parts):
        raise ForbiddenError("TorchScript")
    if sum(part.file_size for part in parts.values()) > size or any(
        part.compress_type or part.file_size != part.compress_size for part in parts.values()
    ):
        raise zipfile.BadZipFile("its parts are compressed or lie upon one another")
    if "byteorder" in parts and archive.read(parts["byteorder"]) != b"little":
        raise ValueError("its bytes are in another order than here")
    if parts["data.pkl"].file_size > MOST_PICKLE:
        raise ValueError("it says too much beside its numbers")
    saved = _Unpickler(archive.read(parts["data.pkl"])).load()

    def place(storage: Storage) -> bytes:
        part = parts[f"data/{storage.key}"]
        if part.file_size != storage.numel * storage.dtype.itemsize:
            raise ValueError("a tensor has another size than its part of the file")
        return archive.read(part)  # which checks its sum, too

    return saved, place


def _open_old(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], bytes]]:
    """Read five pickles in a row; then follow, for each key, a number of elements and these."""

    def load() -> tuple[Any, dict[str, Storage]]:
        start, reader = file.tell(), _Unpickler(file.read(MOST_PICKLE))
        value = reader.load()
        file.seek(start + reader.file.tell())
        return value, reader.storages

    if load()[0] != MAGIC:
        raise ValueError("it does not begin as torch.save begins")
    if load()[0] != PROTOCOL or load()[0].get("little_endian") is not True:
        raise ValueError("it is of another version, or its bytes are in another order than here")
    saved, declared = load()
    places = {}
    for key in load()[0]:
        if type(key) is not str:
            raise TypeError("numbers without a name")
        storage = declared[key]
        places[key] = file.tell() + 8
        if int.from_bytes(file.read(8), "little") != storage.numel:
            raise ValueError("a tensor has another size than its part of the file")
        end = places[key] + storage.numel * storage.dtype.itemsize
        if end > size:
            raise EOFError("it ends before its numbers do")
        file.seek(end)

    def place(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        return file.read(storage.numel * storage.dtype.itemsize)

    return saved, place


class _Unpickler(pickle._Unpickler):
    """Python's own, in Python, with the few operations and calls that tensors need."""

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in OPCODES}  # noqa: RUF012

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        super().__init__(self.file, encoding="latin1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a function of this module, or None for what is harmless and of no use."""
        called = f"{module}.{name}"
        if called in CALLS:
            return CALLS[called]
        if module == "torch":
            if name.endswith("Storage"):
                return STORAGES.get(name)
            if isinstance(getattr(torch, name, None), torch.dtype | torch.layout | torch.qscheme):
                return None
        if called.startswith("torch._utils._rebuild_"):  # sparse, quantised, nested, absent
            return lambda *_: Declared()
        raise ForbiddenError(called)

    def persistent_load(self, said: tuple) -> Storage:
        """Note which numbers are meant."""
        _, dtype, key, _, numel, *view = said
        first = view[0][1] if view and view[0] is not None else 0
        if not isinstance(dtype, torch.dtype | None) or type(key) is not str:
            raise pickle.UnpicklingError("numbers without a kind or a name")
        storage = Storage(dtype, key, *_counts([numel, first]))
        self.storages[key] = storage
        return storage

    def load_setitems(self) -> None:
        """Fill a dict; its keys are plain: to hash a tuple of tuples may take for ever."""
        items = self.pop_mark()
        self.stack[-1].update(_plain_dict(zip(items[::2], items[1::2], strict=True)))

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_setitem(self) -> None:
        """Fill a dict with one value."""
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(_plain_dict([(key, value)]))

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_build(self) -> None:
        """Leave out what was kept beside a dict; see that a number is as this processor has it."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], np.dtype) and state[1] not in ("<", "|", "="):
            raise pickle.UnpicklingError("a number whose bytes are in another order than here")

    dispatch[pickle.BUILD[0]] = load_build


def _counts(values: Sequence) -> tuple[int, ...]:
    if len(values) > 64 or not all(type(n) is int and 0 <= n < 1 << 60 for n in values):
        raise pickle.UnpicklingError("a size or an offset that is no whole number from 0 up")
    return tuple(values)


def _plain_dict(items: Any) -> dict:
    found = {}
    for key, value in items:
        # Larger numbers can be chosen so that all have one hash.
        if type(key) not in (str, int, bool) or (type(key) is int and abs(key) >= 1 << 60):
            raise pickle.UnpicklingError("a dict whose keys are neither texts nor numbers")
        found[key] = value
    return found


def _tensor(storage: Storage, offset: int, size: Sequence, stride: Sequence, *_: Any) -> Declared:
    if not isinstance(storage, Storage) or storage.dtype is None:
        return Declared()
    return Declared(storage, *_counts([offset]), _counts(size), _counts(stride))


def _dtype(code: str, *_: Any) -> np.dtype:
    if type(code) is not str or code not in SCALARS:
        raise pickle.UnpicklingError("a number of an unknown kind")
    return np.dtype(code)


def _scalar(dtype: np.dtype, data: bytes | str) -> float:
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("a number without a kind")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype, 1).item()


CALLS: dict[str, Callable] = {
    "collections.OrderedDict": lambda items=(): _plain_dict(items),
    "collections.Counter": lambda *_: {},
    "builtins.set": lambda *_: None,
    "__builtin__.set": lambda *_: None,
    "torch.Size": lambda *sizes: sizes[0],
    "torch.device": lambda *_: None,
    "torch.serialization._get_layout": lambda *_: None,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,  # as NumPy 1 wrote it
    "numpy._core.multiarray.scalar": _scalar,  # as NumPy 2 writes it
    "_codecs.encode": lambda text, _: text.encode("latin1"),
}
"""What a file may call, and what answers it: nothing that lives outside this module."""

"""Opens files of weights that mean harm, in a process that can have little more memory.

``python hostile_weights.py FOLDER`` makes them, and prints as JSON, for each, whether it is sound,
what came of it and the length of the message.
"""

import contextlib
import io
import json
import os
import pickle
import resource
import socket
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from chexlib.models import CheXNet, load_checkpoint

ROOM = 1_000_000_000  # bytes beyond what the process has once torch is there
NAME = "features.conv0.weight"
PROTO = pickle.PROTO + b"\2"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    if isinstance(value, int):
        data = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(data)]) + data
    return pickle.BINFLOAT + struct.pack(">d", value)


def several(*codes):
    return b"(" + b"".join(codes) + b"t"


def numbers(key="0", numel=4, kind=b"ctorch\nFloatStorage\n", view=b""):
    numel = numel if isinstance(numel, bytes) else number(numel)
    return several(text("storage"), kind, key if isinstance(key, bytes) else text(key),
                   text("cpu"), numel, view) + b"Q"  # fmt: skip


def tensor(size=(4,), stride=(1,), offset=0, storage=None):
    sizes = [several(*map(number, x)) if isinstance(x, tuple) else x for x in (size, stride)]
    offset = offset if isinstance(offset, bytes) else number(offset)
    storage = numbers() if storage is None else storage
    return REBUILD + several(storage, offset, *sizes, b"\x89", b"N") + b"R"


def state(value, key=None):
    return PROTO + b"}" + (text(NAME) if key is None else key) + value + b"s."


def zipped(program, parts=None, *, compressed=(), **other):
    """Return a file of torch.save around a pickle's program, with four floats unless told."""
    stream = io.BytesIO()
    parts = {"data/0": bytes(16)} if parts is None else parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same name twice is meant
        with zipfile.ZipFile(stream, "w", compresslevel=1) as archive:
            for name, data in [
                ("data.pkl", program),
                ("version", b"3\n"),
                *parts.items(),
                *other.items(),
            ]:
                kind = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
                archive.writestr(f"a/{name}", data, kind)
    return stream.getvalue()


def old(program, rest=None, *, magic=0x1950A86A20F9469CFC6C, protocol=1001, info=None):
    """Return a file as torch saved them before 1.6."""
    info = {"little_endian": True} if info is None else info
    rest = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16) if rest is None else rest
    return b"".join(pickle.dumps(x, 2) for x in (magic, protocol, info)) + program + rest


OLD = {"storage": numbers(view=b"N")}


def tower(height=60, leaf=b"N"):
    """Return a tuple of the same tuple twice, of the same tuple twice …: small, and endless."""
    return leaf + b"".join(b"q\x05h\x05\x86" for _ in range(height))


def calls(module, name, *arguments):
    return f"c{module}\n{name}\n".encode() + several(*arguments) + b"R"


def patched(content, at, value):
    """Return a zip file with a number changed in its list of parts, for every part."""
    content, start = bytearray(content), 0
    while (start := content.find(b"PK\1\2", start)) >= 0:
        content[start + at : start + at + len(value)] = value
        start += 4
    return bytes(content)


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def table(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def one(dtype="F32", shape=(4,), offsets=(0, 16), name=NAME, **more):
    return {name: {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}, **more}


def pickles():
    """Yield names and programs that do harm to whoever runs them; both containers get each."""
    two = number(2_000_000_000)
    for module in ("builtins", "__builtin__"):
        for name in ("bytearray", "bytes", "list", "range", "eval", "getattr", "object"):
            yield f"{module} {name}", state(calls(module, name, two))
    for name in ("empty", "zeros", "ones", "arange", "randn", "Tensor", "load", "UntypedStorage"):
        yield f"torch {name}", state(calls("torch", name, two))
    yield "unzips", state(calls("_codecs", "decode", text("x"), text("zip")))
    yield "numpy empty", state(calls("numpy", "empty", two))
    yield "numpy array", state(calls("numpy.core.multiarray", "_reconstruct", text("x")))
    for code in ("V2000000000", "S2000000000", "(40000,40000)f8", "O", "f8,f8", "M8[ns]"):
        yield f"dtype {code}", state(calls("numpy", "dtype", text(code)))
        yield (
            f"scalar {code}",
            state(calls("numpy.core.multiarray", "scalar", text(code), text("x" * 16))),
        )
    yield "dtype of a tower", state(calls("numpy", "dtype", tower()))
    yield "system", state(calls("os", "system", text("touch RAN")))
    yield "posix", state(calls("posix", "system", text("touch RAN")))
    # Towers, wherever something may look at them.
    yield "a tower", PROTO + tower() + b"."
    yield "a tower of lists", PROTO + b"]" + b"q\x05]h\x05ah\x05a" * 60 + b"."
    yield "a tower of dicts", PROTO + b"}" + b"q\x05}" + (text("a") + b"h\x05s") * 60 + b"."
    yield "a tower as a key", state(tensor(), key=tower())
    yield "a tower as a value", state(tower())
    yield (
        "a tower beside tensors",
        PROTO + b"}(" + text("x") + tower() + text(NAME) + tensor() + b"u.",
    )
    yield "a tower as keys", PROTO + b"}(" + tower() + b"N" + tower(50) + b"Nu."
    yield "a tower as pairs", state(calls("collections", "OrderedDict", tower()))
    yield "a tower counted", state(calls("collections", "Counter", tower()))
    yield "a tower in a set", state(calls("builtins", "set", b"]" + tower() + b"a"))
    yield "a tower as a size", state(calls("torch", "Size", tower()))
    for name, options in (
        ("size", {"size": tower()}),
        ("stride", {"stride": tower()}),
        ("offset", {"offset": tower()}),
        ("numbers", {"storage": tower()}),
        ("key", {"storage": numbers(key=tower())}),
        ("numel", {"storage": numbers(numel=tower())}),
        ("kind", {"storage": numbers(kind=tower())}),
    ):
        yield f"a tower as {name}", state(tensor(**options))
    yield "a list within itself", PROTO + b"]q\x05h\x05a."
    yield "a key that is a list", state(tensor(), key=b"]")
    keys = b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 150_000))
    yield "keys with one hash", PROTO + b"}(" + keys + b"u."
    # Sizes.
    big = 1_500_000_000
    for name, options in (
        ("elements without numbers", {"size": (big,), "stride": (0,)}),
        ("many dimensions", {"size": (1,) * 5000, "stride": (1,) * 5000}),
        ("huge dimensions", {"size": (2**62, 2**62), "stride": (1, 1)}),
        ("enormous dimensions", {"size": (2**2000,) * 60, "stride": (0,) * 60}),
        ("a negative size", {"size": (-1,)}),
        ("a negative stride", {"stride": (-1,)}),
        ("a negative offset", {"offset": -1}),
        ("an offset beyond", {"offset": 1}),
        ("a stride beyond", {"stride": (4,)}),
        ("an enormous stride", {"stride": (2**62,)}),
        ("a text for a size", {"size": several(text("x" * 1_000_000), number(2_000_000))}),
        ("a size that is a float", {"size": (4.0,)}),
        ("a size that is a number", {"size": number(4)}),
        ("sizes without strides", {"size": (2, 2)}),
        ("numbers without a tensor", {"storage": b"N"}),
        ("numbers that are a text", {"storage": text("numbers")}),
        ("too many numbers", {"storage": numbers(numel=big)}),
        ("endless numbers", {"storage": numbers(numel=2**62)}),
        ("fewer than none", {"storage": numbers(numel=-1)}),
        ("a fraction of numbers", {"storage": numbers(numel=4.5)}),
        ("numbers of no kind", {"storage": numbers(kind=b"N")}),
        ("numbers of a text's kind", {"storage": numbers(kind=text("torch.float32"))}),
        ("numbers of complex", {"storage": numbers(kind=b"ctorch\nComplexFloatStorage\n")}),
        ("numbers quantised", {"storage": numbers(kind=b"ctorch\nQInt8Storage\n")}),
        ("numbers elsewhere", {"storage": numbers(key="../../etc/passwd")}),
        ("numbers by number", {"storage": numbers(key=number(0))}),
    ):
        yield name, state(tensor(**options))
    same = "".join(chr(97 + n % 26) * (n // 26 + 1) for n in range(26))
    many = b"".join(text(f"{n}{same}") + tensor() for n in range(15_000))
    yield "one tensor under many names", PROTO + b"}(" + many + b"u."
    # Operations.
    for name, code in (
        ("a place far away", b"r\xff\xff\xff\xff"),
        ("a text without end", b"X\xff\xff\xff\x7f"),
        ("a longer text", b"\x8d" + b"\xff" * 8),
        ("bytes without end", b"B\xff\xff\xff\x7f"),
        ("bytearray without end", b"\x96" + struct.pack("<Q", 2**40)),
        ("a frame without end", b"\x95" + struct.pack("<Q", 2**40)),
        ("a number without end", b"\x8b\xff\xff\xff\x7f"),
        ("a number of digits", b"L" + b"9" * 100_000 + b"L\n"),
        ("an instance", b"(ios\nsystem\n"),
        ("an object", b"(cos\nsystem\no"),
        ("a new object", b"cbuiltins\nbytearray\n)\x81"),
        ("an extension", b"\x82\x01"),
        ("a buffer", b"\x97"),
        ("nothing to take", b"a"),
        ("nothing to build on", b"Nb"),
        ("nothing remembered", b"h\x07"),
        ("an unknown operation", b"\xff"),
    ):
        yield name, PROTO + b"]" + code + b"."
    yield "empty dicts", PROTO + b"}" * 20_000_000 + b"."
    yield "marks", PROTO + b"(" * 20_000_000 + b"."
    yield "no end", PROTO + b"}"
    yield "nothing", b""
    # Names and texts.
    yield "a long key", state(tensor(), key=text("k" * 3_000_000))
    yield "long keys", PROTO + b"}(" + b"".join(
        text(f"{NAME}{n}{'k' * 500_000}") + tensor() for n in range(6)
    ) + b"u."  # fmt: skip
    yield "a long call", state(b"c" + b"m" * 2_000_000 + b"\nn\n")
    for digits in ("9" * 5000, "0" * 5000, "٣", "²", "1" * 4301):
        key = f"features.denseblock1.denselayer{digits}.norm1.weight"
        yield (
            f"layer {digits[:3]} of {len(digits)}",
            (PROTO + b"}(" + text(NAME) + tensor() + text(key) + tensor() + b"u."),
        )


def containers():
    """Yield names and contents of files that are wrong as files."""
    good = state(tensor())
    yield "a bomb in the pickle", zipped(PROTO + bytes(3 * 10**8), compressed={"data.pkl"})
    yield "a bomb in the numbers", zipped(good, {"data/0": bytes(10**9)}, compressed={"data/0"})
    yield "a bomb beside them", zipped(good, {"data/0": bytes(16), "data/1": bytes(3 * 10**8)},
                                       compressed={"data/1"})  # fmt: skip
    whole = zipped(good)
    for name, at in (("packed", 20), ("unpacked", 24)):
        yield f"a lie about {name} sizes", patched(whole, at, struct.pack("<I", 3_000_000_000))
    yield "two lies about sizes", patched(whole, 20, struct.pack("<II", *[3_000_000_000] * 2))
    for name, at, value in (
        ("a cipher", 8, b"\1\0"),
        ("an unknown packing", 10, b"\x63\0"),
        ("a part outside", 42, struct.pack("<I", 2**31)),
        ("a part elsewhere", 42, struct.pack("<I", 5)),
        ("a wrong sum", 16, b"abcd"),
        ("a name without end", 28, b"\xff\xff"),
    ):
        yield name, patched(whole, at, value)
    end = whole.index(b"PK\5\6")
    for name, at, value in (
        ("a list elsewhere", 16, struct.pack("<I", 1)),
        ("a list beyond", 16, struct.pack("<I", 2**31)),
        ("a list too long", 12, struct.pack("<I", 2**31)),
        ("a comment", 20, b"\x09\0"),
    ):
        yield name, whole[: end + at] + value + whole[end + at + len(value) :]
    far = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, 2**40, 2**40)
    far += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    yield "a list of 64 bits", whole[:end] + far + whole[end:]
    entry = whole[whole.index(b"PK\1\2") : end]
    entry = entry[: entry.index(b"PK\1\2", 4)]
    listed = entry * (30_000_000 // len(entry))
    yield "a million parts", (
        whole[: whole.index(b"PK\1\2")] + listed
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(listed), whole.index(b"PK\1\2"), 0)
    )  # fmt: skip
    yield "no pickle", zipped(good).replace(b"data.pkl", b"data.pki")
    yield "no numbers", zipped(good, {})
    yield "fewer numbers", zipped(good, {"data/0": bytes(12)})
    yield "more numbers", zipped(good, {"data/0": bytes(20)})
    yield "another order of bytes", zipped(good, byteorder=b"big")
    yield "a program", zipped(good, **{"code/x.py": b"import os"})
    yield "one part of another", zipped(good) + zipped(good)[:-3]
    program = state(tensor(storage=OLD["storage"]))
    for name, options in (
        ("another magic", {"magic": 1}),
        ("another protocol", {"protocol": 1002}),
        ("no facts", {"info": []}),
        ("another order", {"info": {"little_endian": False}}),
        ("no list", {"rest": b""}),
        ("a list of towers", {"rest": PROTO + b"]" + tower() + b"a."}),
        ("a list of others", {"rest": pickle.dumps(["1"], 2)}),
        ("no numbers", {"rest": pickle.dumps(["0"], 2)}),
        ("another count", {"rest": pickle.dumps(["0"], 2) + struct.pack("<q", 2**40)}),
        ("cut numbers", {"rest": pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(8)}),
    ):
        yield f"old, {name}", old(program, **options)
    view = several(text("v"), number(2**50), number(4))
    yield "old, a view far away", old(state(tensor(storage=numbers(view=view))))
    # The table of safetensors.
    data = bytes(16)
    for name, content in (
        ("metadata null", table(one(__metadata__=None), data)),
        ("metadata a list", table(one(__metadata__=["a"]), data)),
        ("metadata a number", table(one(__metadata__=3), data)),
        ("metadata nested", table(one(__metadata__={"a": {"b": "c"}}), data)),
        ("metadata of numbers", table(one(__metadata__={"a": 1}), data)),
        ("a length without end", table(one(), data, length=2**40)),
        ("a long header", table(json.dumps(one()).encode() + b" " * 30_000_000, data)),
        ("a header of brackets", table(b"{" + b'"a":[' * 200_000, data)),
        ("a header of digits", table(b'{"a":' + b"9" * 5000 + b"}", data)),
        ("a shape of digits", table(json.dumps(one()).replace("4", "9" * 5000, 1).encode())),
        ("a huge shape", table(one(shape=(2**62, 0), offsets=(0, 0)))),
        ("an overflowing shape", table(one(shape=(2**62, 16)), data)),
        ("a negative shape", table(one(shape=(-4,)), data)),
        ("a shape too large", table(one(shape=(10**9,)), data)),
        ("places backwards", table(one(offsets=(16, 0)), data)),
        ("places outside", table(one(offsets=(0, 10**9)), data)),
        ("places twice", table({**one(), **one(name="b")}, data)),
        ("no places", table({NAME: {"dtype": "F32", "shape": [4]}}, data)),
        ("a list for a header", table(b'[{"":"', data)),
        ("no header", table(b"{}")),
        ("more than it says", table(one(), data + b"more")),
        ("long names", table(one(name="k" * 3_000_000), data)),
        ("many names", table({f"{NAME}{n}": one(shape=(0,), offsets=(0, 0))[NAME]
                              for n in range(60_000)})),
        *((f"dtype {kind}", table(one(dtype=kind, shape=(16 // size,)), data))
          for kind, size in (("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8), ("U64", 8), ("U32", 4),
                             ("U16", 2), ("F4", 1), ("X99", 1))),
    ):  # fmt: skip
        yield f"safetensors, {name}", content


def networks():
    """Yield names and contents of whole networks with one thing wrong."""
    model = CheXNet(growth_rate=1).network
    good = model.state_dict()

    def but(**changed):
        return {"state_dict": good | {key.replace("__", "."): v for key, v in changed.items()}}

    wide = {key: value.reshape(-1)[0].clone().expand(value.shape) for key, value in good.items()}
    most = {key: torch.zeros(1).expand(1_500_000_000) for key in [*good][:4]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bias = good["classifier.bias"]
        values = {
            "over one number each": wide,
            "6 GB over four numbers": most,
            "beyond float32": but(classifier__bias=bias.double() + 1e300),
            "minus beyond float32": but(classifier__bias=bias.double() - 1e300),
            "complex": but(classifier__bias=bias.to(torch.complex64)),
            "complex double": but(classifier__bias=bias.to(torch.complex128)),
            "float8": but(classifier__bias=bias.to(torch.float8_e4m3fn)),
            "float8 of another kind": but(classifier__bias=bias.to(torch.float8_e5m2)),
            "uint16": but(classifier__bias=bias.to(torch.uint16)),
            "uint64": but(classifier__bias=bias.abs().to(torch.uint64)),
            "sparse": but(classifier__weight=good["classifier.weight"].to_sparse()),
            "sparse by rows": but(classifier__weight=good["classifier.weight"].to_sparse_csr()),
            "quantised": but(classifier__bias=torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)),
            "nested": but(classifier__bias=torch.nested.nested_tensor([bias[:2], bias[2:]])),
            "absent": but(classifier__bias=bias.to("meta")),
            "a layer of 5,000 digits": but(
                **{f"features.denseblock1.denselayer{'9' * 5000}.conv1.weight": bias}
            ),
        }
    for name, value in values.items():
        for zipfiles in (True, False):
            with contextlib.suppress(Exception):  # the old container does not take every kind
                content = saved(value, _use_new_zipfile_serialization=zipfiles)
                yield f"{name}{'' if zipfiles else ', old'}", content
    for dtype in (torch.float8_e4m3fn, torch.complex64, torch.uint16):
        changed = good | {"classifier.bias": bias.to(dtype)}
        yield f"safetensors, whole, {dtype}", safetensors.torch.save(changed)
    yield (
        "safetensors, whole, beyond",
        safetensors.torch.save(good | {"classifier.bias": bias.double() + 1e300}),
    )


def strange(folder):
    """Make what is no file at all, or a sparse one, and yield the names."""
    for name in ("zero", "urandom", "full", "null", "tty"):
        (folder / f"link to {name}").symlink_to(f"/dev/{name}")
        yield folder / f"link to {name}"
        yield Path("/dev", name)
    os.mkfifo(folder / "pipe")
    yield folder / "pipe"
    keep = socket.socket(socket.AF_UNIX)
    keep.bind(str(folder / "socket"))
    yield folder / "socket"
    (folder / "folder").mkdir()
    yield folder / "folder"
    (folder / "loop").symlink_to(folder / "loop")
    yield folder / "loop"
    for name, start in (
        ("zip", b"PK\3\4"),
        ("pickle", PROTO),
        ("table", table(one(), length=2**39)),
        ("nothing", b""),
        ("text", b"hello, world"),
    ):
        for length in (800_000_000, 1 << 40):
            path = folder / f"sparse {name} {length}"
            with path.open("wb") as file:
                file.write(start)
                with contextlib.suppress(OSError):  # a disk without files of that length
                    file.truncate(length)
            yield path


def make(folder):
    """Yield the path of each file, and whether it is sound."""
    model = CheXNet(growth_rate=1)
    for name, content in (
        ("sound", saved({"state_dict": model.network.state_dict(), "best": np.float64(1)})),
        ("sound, old", saved(model.network.state_dict(), _use_new_zipfile_serialization=False)),
        ("sound, table", safetensors.torch.save(model.network.state_dict())),
    ):
        yield write(folder, name, content), True
    for name, program in pickles():
        yield write(folder, name, zipped(program)), False
        yield write(folder, f"{name}, old", old(program)), False
    for name, content in (*containers(), *networks()):
        yield write(folder, name, content), False
    for path in strange(folder):
        yield path, False


def write(folder, name, content):
    path = folder / name.replace("/", "-").replace("\0", "0")
    path.write_bytes(content)
    return path


def attempt(path):
    """Open it; return what came of it."""
    try:
        load_checkpoint(path)
    except BaseException as error:
        return type(error).__name__, len(str(error))
    return "opened", 0


def main():
    torch.set_num_threads(1)
    folder, found = Path(sys.argv[1]), {}
    for path, sound in make(folder):
        limits = resource.getrlimit(resource.RLIMIT_AS)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, limits[1]))
        print(path, file=sys.stderr, flush=True)  # what hangs is the last
        found[str(path)] = [sound, *attempt(path)]
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if path.parent == folder and path.is_file() and not path.is_symlink():
            path.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

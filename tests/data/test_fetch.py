"""Fetching, from a real HTTP server on loopback that misbehaves on purpose."""

import contextlib
import csv
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from chexlib.data.fetch import (
    REGISTRY,
    Entry,
    FetchError,
    RemoteFile,
    fetch,
    is_present,
    rsna_matches_to_csv,
)

# Does not compress; six of the chunks it is written in, so that half of it is whole chunks.
CONTENT = np.random.default_rng(14).bytes(6 * 65_536)
SIZE = len(CONTENT)
HALF = SIZE // 2
BOMB = gzip.compress(bytes(10_000_000))
QUICK = {"backoff": 0.0, "timeout": 5.0}


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content`` at every path, each request as ``server.plan`` says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        how = server.plan.pop(0) if server.plan else "ok"
        asked = self.headers.get("Range")
        server.seen.append((how, asked))
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        self.close_connection = True
        if how.isdigit():
            self.answer(int(how), b"sorry")
        elif how == "redirect":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            with contextlib.suppress(OSError):  # the client may have left
                getattr(self, "go_" + how.replace("-", "_"))(server.content, start)

    def answer(self, status, body, *, length=None, start=0, whole=None):
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def partial(self, content, start, body=None, **options):
        """Send content from ``start``, as 206 or, from the beginning, 200."""
        body = content[start:] if body is None else body
        status = 206 if start else 200
        self.answer(status, body, start=start, whole=len(content), **options)

    def go_ok(self, content, start):
        if start >= len(content):
            self.answer(416, b"")
        else:
            self.partial(content, start)

    def go_ignore_range(self, content, _):
        self.answer(200, content)

    def go_cut(self, content, start):
        rest = content[start:]
        self.partial(content, start, rest[: len(rest) // 2], length=len(rest))

    def go_cut_ignoring_range(self, content, _):
        self.answer(200, content[: len(content) // 2], length=len(content))

    def go_drop(self, *_):
        self.connection.shutdown(socket.SHUT_RDWR)

    def go_wrong(self, content, start):
        self.partial(content, start, bytes(len(content) - start))

    def go_page(self, *_):
        self.answer(200, b"<!doctype html><title>Please log in</title>")

    def go_elsewhere_in_the_file(self, content, start):
        self.answer(206, content[100:], start=100, whole=len(content))

    def go_length_too_long(self, content, start):
        self.partial(content, start, length=len(content) - start + 100)

    def go_length_too_short(self, content, start):
        self.partial(content, start, length=(len(content) - start) // 2)

    def go_no_length(self, content, start):
        self.partial(content, start, length="none")

    def go_length_no_number(self, content, start):
        self.partial(content, start, length="plenty")

    def go_too_much(self, content, _):
        self.answer(200, content + b"more", length="none")

    def go_compressed(self, content, start):
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_response(200)
            body = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.partial(content, start)

    def go_hostile(self, *_):
        first, again, pause = self.server.hostile
        self.wfile.write(first)
        while again and not self.server.release.wait(pause):
            self.wfile.write(again)

    def go_stall(self, content, start):
        self.partial(content, start, content[start : start + HALF], length=len(content) - start)
        self.server.release.wait(20)

    def go_silence(self, *_):
        self.server.release.wait(20)

    def go_trickle(self, content, start):
        self.partial(content, start, b"", length=len(content) - start)
        step = (len(content) - start) // 8 + 1
        for at in range(start, len(content), step):
            time.sleep(0.05)
            self.wfile.write(content[at : at + step])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    httpd.daemon_threads = True
    httpd.content, httpd.plan, httpd.seen, httpd.release = CONTENT, [], [], threading.Event()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield httpd
    httpd.release.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def an_entry(url, *, content=CONTENT, size=SIZE, path="folder/file.bin", **options):
    options.setdefault("hash", sha256(content))
    file = RemoteFile(path=path, url=url, size=size, **options)
    return Entry(
        name="test", title="t", files=(file,), licence="l", citation="c", homepage="https://x.y"
    )


def tree(home):
    """Every file below a folder and its content, but for the lock that a fetch leaves."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(Path(home).rglob("*"))
        if path.is_file() and path.name != ".fetch.lock"
    }


def folders(home):
    return [path.name for path in Path(home).rglob("*") if path.is_dir()]


# --- what goes well ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    "how", ["ok", "redirect", "no-length", "length-no-number", "compressed", "trickle"]
)
def test_a_file_arrives(server, tmp_path, how, size):
    server.plan = [how]
    reports = []
    paths = fetch(
        an_entry(server.url, size=size),
        home=tmp_path,
        progress=lambda *report: reports.append(report),
        **QUICK,
    )
    assert paths == [tmp_path / "folder/file.bin"]
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}
    done = [report[1] for report in reports]
    assert done == sorted(done)
    assert done[-1] == SIZE
    assert {report[0] for report in reports} == {"file.bin"}


def test_what_is_there_needs_no_network_and_writes_nothing(tmp_path):
    target = tmp_path / "folder/file.bin"
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    before = tmp_path.stat().st_mtime_ns
    fetch(an_entry("http://127.0.0.1:9/closed"), home=tmp_path)
    assert tmp_path.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file.bin"]


def test_a_damaged_or_changed_file_is_replaced_by_force_alone(server, tmp_path):
    item = an_entry(server.url)
    fetch(item, home=tmp_path)
    (tmp_path / "folder/file.bin").write_bytes(CONTENT[:-1])
    assert not is_present(item.files[0], tmp_path)
    with pytest.raises(FetchError, match=r"found another: .*chexlib fetch \S+ --force"):
        fetch(item, home=str(tmp_path))
    assert tree(tmp_path) == {"folder/file.bin": CONTENT[:-1]}
    fetch(item, home=str(tmp_path), force=True)
    fetch(item, home=tmp_path, force=True)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}
    assert len(server.seen) == 3


def test_the_default_folder_is_the_data_home(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path / "data"))
    assert fetch(an_entry(server.url)) == [tmp_path / "data/folder/file.bin"]


def test_two_at_once_download_once(server, tmp_path, caplog):
    server.plan = ["trickle"]
    item = an_entry(server.url)
    threads = [
        threading.Thread(target=fetch, args=(item,), kwargs={"home": tmp_path}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 1
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}
    assert "Another fetch is at work" in caplog.text


def test_importing_fetches_nothing():
    script = """
        import socket
        def refuse(*_, **__): raise AssertionError("network used at import")
        socket.socket.connect = refuse
        import chexlib.data, chexlib.data.fetch, chexlib.cli, sys
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


# --- what can be mended ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    ("plan", "ranges"),
    [
        (["500", "ok"], [None, None]),
        (["503", "429", "408", "ok"], [None] * 4),
        (["drop", "ok"], [None, None]),
        (["cut", "ok"], [None, HALF]),
        (["cut", "cut", "cut", "cut", "cut", "cut", "ok"], None),  # each time a little further
        (["cut", "ignore-range"], [None, HALF]),
        (["cut", "500", "ok"], [None, HALF, HALF]),
        (["cut", "elsewhere-in-the-file", "ok"], [None, HALF, None]),
        (["cut", "wrong", "ok"], [None, HALF, None]),  # continued with another file's bytes
        (["cut", "compressed"], [None, HALF]),
        (["length-too-long"], [None]),
    ],
    ids=lambda value: (
        "-".join(value) if isinstance(value, list) and isinstance(value[0], str) else ""
    ),
)
def test_a_bad_moment_is_survived(server, tmp_path, plan, ranges, size):
    server.plan = list(plan)
    fetch(an_entry(server.url, size=size), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}
    assert [how for how, _ in server.seen] == plan
    if ranges:
        expected = [f"bytes={start}-" if start else None for start in ranges]
        assert [asked for _, asked in server.seen] == expected


def test_a_length_that_is_too_short_is_mended_where_the_size_is_known(server, tmp_path):
    server.plan = ["length-too-short", "ok"]
    fetch(an_entry(server.url), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_a_stalled_connection_is_given_up_and_continued(server, tmp_path):
    server.plan = ["stall", "ok"]
    fetch(an_entry(server.url), home=tmp_path, timeout=0.3, backoff=0.0)
    (_, first), (_, second) = server.seen
    assert first is None
    assert second.startswith("bytes=")
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    "part",
    [bytes(1000), bytes(SIZE), bytes(SIZE + 5), CONTENT + b"x"],
    ids=["wrong start", "wrong, as long", "wrong, longer", "right, and more"],
)
def test_a_bad_part_does_not_poison_the_next_try(server, tmp_path, part, size):
    path = tmp_path / "folder/file.bin.part"
    path.parent.mkdir()
    path.write_bytes(part)
    fetch(an_entry(server.url, size=size), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_complete_part_needs_no_network(tmp_path, size):
    path = tmp_path / "folder/file.bin.part"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    fetch(an_entry("http://127.0.0.1:9/closed", size=size), home=tmp_path)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_killed_in_the_middle_and_continued(server, tmp_path):
    server.plan = ["stall", "ok"]
    script = f"""
        from chexlib.data.fetch import Entry, RemoteFile, fetch
        file = RemoteFile(path="folder/file.bin", url={server.url!r},
                          hash={sha256(CONTENT)!r}, size={SIZE})
        fetch(Entry(name="t", title="t", files=(file,), licence="l", citation="c", homepage="h"),
              home={str(tmp_path)!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    part = tmp_path / "folder/file.bin.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 65_000):
        assert time.monotonic() < deadline, "the download did not begin"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    held = part.stat().st_size
    assert list(tree(tmp_path)) == ["folder/file.bin.part"]
    fetch(an_entry(server.url), home=tmp_path)
    assert server.seen == [("stall", None), ("ok", f"bytes={held}-")]
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


# --- what cannot: one clear error, and the folder as it was --------------------------------------


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    ("plan", "words", "tries"),
    [
        (["404"], "HTTP status 404", 1),
        (["403"], "HTTP status 403", 1),
        (["500"] * 9, "HTTP status 500", 3),
        (["drop"] * 9, "connection broke", 3),
        (["wrong"], "but got sha256:", 1),
        (["no-length-wrong"], "but got sha256:", 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_one_clear_error_and_nothing_changed(server, tmp_path, plan, words, tries, size):
    if plan == ["no-length-wrong"]:
        plan, server.content = ["no-length"], bytes(SIZE)
    server.plan = list(plan)
    (tmp_path / "other").write_text("as it was")
    with pytest.raises(FetchError, match=words) as caught:
        fetch(an_entry(server.url, size=size), home=tmp_path, retries=2, **QUICK)
    message = str(caught.value)
    assert server.url in message
    assert message.startswith("Expected file.bin")
    assert "\n" not in message
    assert tree(tmp_path) == {"other": b"as it was"}
    assert folders(tmp_path) == []
    assert len(server.seen) == tries


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_web_page_instead_of_the_file_is_called_one(server, tmp_path, size):
    server.plan = ["page"]
    with pytest.raises(FetchError, match="look like a web page"):
        fetch(an_entry(server.url, size=size), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {}


def test_more_than_the_file_is_refused(server, tmp_path):
    server.plan = ["too-much"]
    with pytest.raises(FetchError, match="more than the 393,216 bytes"):
        fetch(an_entry(server.url), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {}


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, tmp_path):
    server.plan = ["cut-ignoring-range"] * 20
    with pytest.raises(FetchError, match=r"196,608 bytes are kept in file\.bin\.part"):
        fetch(an_entry(server.url), home=tmp_path, retries=2, **QUICK)
    assert len(server.seen) == 4  # one that brought something, three in a row that did not
    assert tree(tmp_path) == {"folder/file.bin.part": CONTENT[:HALF]}
    server.plan = []
    fetch(an_entry(server.url), home=tmp_path)
    assert server.seen[-1] == ("ok", f"bytes={HALF}-")
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_a_silent_server_times_out(server, tmp_path):
    server.plan = ["silence"]
    with pytest.raises(FetchError, match=r"no answer for 0\.2 seconds"):
        fetch(an_entry(server.url), home=tmp_path, retries=0, backoff=0, timeout=0.2)
    server.release.set()


def test_a_failed_replacement_keeps_the_old_file(server, tmp_path):
    fetch(an_entry(server.url), home=tmp_path)
    server.plan = ["wrong"]
    with pytest.raises(FetchError):
        fetch(an_entry(server.url), home=tmp_path, force=True)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_no_server_and_no_host(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    with pytest.raises(FetchError, match="connection was refused"):
        fetch(an_entry(url), home=tmp_path, retries=1, backoff=0.0)
    with pytest.raises(FetchError, match="host was not found"):
        fetch(an_entry("http://nothing.invalid/x"), home=tmp_path, retries=0)
    with pytest.raises(FetchError, match="Expected file.bin"):
        fetch(an_entry("http://"), home=tmp_path)
    assert tree(tmp_path) == {}


def test_an_untrusted_certificate_is_final(tmp_path, server, monkeypatch):
    # A plain server asked for TLS: the handshake fails.
    url = server.url.replace("http:", "https:")
    with pytest.raises(FetchError, match="certificate"):
        fetch(an_entry(url), home=tmp_path, **QUICK)


def test_a_file_without_a_known_hash_is_refused_until_one_is_given(server, tmp_path):
    item = an_entry(server.url, hash=None, size=None)
    with pytest.raises(FetchError, match="chexlib fetch test --hash"):
        fetch(item, home=tmp_path)
    assert server.seen == []
    for bad in ("sha256:abc", "crc32:00000000", "g" * 64):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            fetch(item, home=tmp_path, known_hash=bad)
    with pytest.raises(FetchError, match="got sha256:" + sha256(CONTENT)[7:]):
        fetch(item, home=tmp_path, known_hash="0" * 64)
    assert tree(tmp_path) == {}
    fetch(item, home=tmp_path, known_hash=sha256(CONTENT).upper().removeprefix("SHA256:"))
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}
    seen = len(server.seen)
    fetch(item, home=tmp_path)  # there, and nothing to check it against
    assert len(server.seen) == seen


def test_a_hash_of_ones_own_does_not_replace_the_published_one(tmp_path):
    with pytest.raises(ValueError, match="only for an entry that has none"):
        fetch(an_entry("http://127.0.0.1:9/"), home=tmp_path, known_hash="0" * 64)


def test_an_unknown_name():
    with pytest.raises(ValueError, match="Did you mean 'split'"):
        fetch("splits")


def test_a_folder_that_cannot_be_written(server, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(FetchError, match="Check its permissions"):
        fetch(an_entry(server.url), home=blocker)
    assert server.seen == []


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.call(command, stderr=subprocess.DEVNULL):
        pytest.skip("needs root and mount: a small file system to fill")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("how", ["ok", "no-length"])
def test_a_full_disk(server, small_disk, how):
    (small_disk / "other").write_text("as it was")
    server.plan = [how]
    with pytest.raises(FetchError, match="found the disk full") as caught:
        fetch(an_entry(server.url, size=SIZE if how == "ok" else None), home=small_disk, **QUICK)
    assert "--dest" in str(caught.value)
    left = tree(small_disk)
    assert left.pop("other") == b"as it was"
    if how == "ok":  # seen from the announced length, before anything was written
        assert "393,216 bytes needed" in str(caught.value)
        assert left == {}
    else:  # met while writing: what came is kept, and is right
        ((name, content),) = left.items()
        assert name == "folder/file.bin.part"
        assert CONTENT.startswith(content)


def test_a_disk_that_is_seen_to_be_full(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(FetchError, match="found the disk full"):
        fetch(an_entry(server.url), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {}


def test_a_disk_that_fills_while_writing(server, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
    try:
        with pytest.raises(FetchError, match="found the disk full"):
            fetch(an_entry(server.url), home=tmp_path, **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(tmp_path) == {"folder/file.bin.part": CONTENT[:HALF]}
    fetch(an_entry(server.url), home=tmp_path, **QUICK)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_a_disk_that_fills_while_unpacking(server, small_disk):
    content = a_tar({"images/a.png": bytes(1_000_000)})  # compresses well
    with pytest.raises(FetchError, match="found the disk full"):
        fetch(an_archive(server, content), home=small_disk)
    assert tree(small_disk) == {"archives/a.tar.gz.part": content}


# --- a server that means harm --------------------------------------------------------------------

MOST = 2_000_000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LOCATIONS = (
    "http://[::1", "http://", "://", "http:///x", "http://[not]/", "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/", "http://127.0.0.1:x/", "http://a b/", "http://\x00/", "http://\xff\xfe/",
    "http://é/", "http://.../", "http://" + "a" * 300, "http://" + "a." * 30_000, "//",
    "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x", "javascript:1", "data:,x",
    "http://0.0.0.0:1/", "\\\\x\\y", "²",
)  # fmt: skip
LENGTHS = (
    "²", "٣", "-5", "1e9", "0x10", "+5", "5, 6", "", " ", "9" * 5000, "18446744073709551616", "1_0",
    "nan", "5 5", "5\x00", "3000000", "4611686018427387904",
)  # fmt: skip
STATUS = (
    b"HTTP/1.1 999 x\r\n\r\n", b"HTTP/1.1 000 x\r\n\r\n", b"HTTP/1.1 -1 x\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"ICY 200 OK\r\n\r\n",
    b"garbage", b"\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x02\x00",
    b"HTTP/1.1 200 " + b"x" * 60_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 " + b"x" * 99_000, b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 304 No\r\n\r\n", b"HTTP/1.1 206 Part\r\n\r\nabc", b"HTTP/1.1 300 Many\r\n\r\n",
    b"HTTP/1.1 302 No\r\n\r\n", b"HTTP/1.1 407 Proxy\r\n\r\n", b"HTTP/1.1 451 \xff\x1b[31m\r\n\r\n",
)  # fmt: skip
HEADERS = (
    b"X: " + b"y" * 70_000 + b"\r\n\r\n", b"X: y\r\n" * 200 + b"\r\n", b"no colon\r\n\r\n",
    b"X: \x00\r\n\r\n", b": \r\n\r\n", b" folded\r\n\r\n", b"X: \xff\xfe\r\n\r\n", b"",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"Set-Cookie: " + b"a=b;" * 10_000 + b"\r\n\r\n",
)  # fmt: skip
CHUNKS = (
    b"-5\r\nabcde\r\n", b"-1\r\n", b"zz\r\nabc", b"\r\n", b"FFFFFFFFFFFFFFFF\r\nabc", b"5\r\nab",
    b"5;" + b"x" * 70_000 + b"\r\nabcde\r\n", b"0x5\r\nabcde\r\n", b" 5\r\nabcde\r\n",
    b"5_0\r\nabc",
    b"\xb2\r\nabc", b"9" * 5000 + b"\r\nabc", b"5\r\nabcdeXX", b"0\r\n" + b"X: y\r\n" * 300,
)  # fmt: skip
#: What is sent first, what is sent for ever after, and seconds between.
HOSTILE = {
    "endless": (OK + b"\r\n", bytes(65_536), 0),
    "endless chunks": (CHUNKED, b"10000\r\n" + bytes(65_536) + b"\r\n", 0),
    "endless small chunks": (CHUNKED, b"1\r\nx\r\n" * 5000, 0),
    "endless after a length": (OK + b"Content-Length: 393216\r\n\r\n", bytes(65_536), 0),
    "a byte at a time": (OK + b"Content-Length: 393216\r\n\r\n", b"x", 0.02),
    "a byte at a time, no length": (OK + b"\r\n", b"x", 0.02),
    "a chunk of a byte at a time": (CHUNKED, b"1\r\nx\r\n", 0.02),
    "a header at a time": (OK, b"X: y\r\n", 0.1),
    "a letter of a header at a time": (OK + b"X: ", b"y", 0.02),
    "a letter of the status at a time": (b"HTTP/1.1 200 ", b"y", 0.02),
    "a letter of a chunk's size at a time": (CHUNKED, b"0", 0.02),
    "endless continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "continue at times": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "endless early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.01),
    "endless trailers": (CHUNKED + b"0\r\n", b"X: y\r\n", 0.05),
    "endless redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", bytes(65_536), 0
    ),
    "endless error": (b"HTTP/1.1 500 No\r\n\r\n", bytes(65_536), 0),
    "endless refusal": (b"HTTP/1.1 404 No\r\n\r\n", bytes(65_536), 0),
    "redirects without end": (
        b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", b"", 0
    ),
    **{
        f"compressed, {kind}": (
            OK + f"Content-Encoding: {kind}\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode() + BOMB,
            b"", 0,
        )
        for kind in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "x-gzip", "nonsense")
    },
    **{
        f"location {n}": (
            b"HTTP/1.1 302 F\r\nLocation: " + where.encode("latin1")
            + b"\r\nContent-Length: 0\r\n\r\n", b"", 0,
        )
        for n, where in enumerate(LOCATIONS)
    },
    **{
        f"length {n}": (OK + f"Content-Length: {length}\r\n\r\nabc".encode(), b"", 0)
        for n, length in enumerate(LENGTHS)
    },
    **{f"status {n}": (status, b"", 0) for n, status in enumerate(STATUS)},
    **{f"header {n}": (OK + header, b"", 0) for n, header in enumerate(HEADERS)},
    **{f"chunk {n}": (CHUNKED + chunk, b"", 0) for n, chunk in enumerate(CHUNKS)},
}  # fmt: skip


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_gets_nowhere(server, tmp_path, name, size):
    server.hostile, server.plan = HOSTILE[name], ["hostile"] * 40
    item = an_entry(server.url, size=size, most=MOST)
    with pytest.raises(FetchError, match=r"^Expected file\.bin") as caught:
        fetch(item, home=tmp_path, retries=1, backoff=0.0, timeout=0.4)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()
    assert all(len(content) <= (size or MOST) for content in tree(tmp_path).values())
    server.plan = []  # and what it left does no harm
    fetch(item, home=tmp_path, **QUICK)
    assert tree(tmp_path) == {"folder/file.bin": CONTENT}


def test_a_download_ends_in_the_end(server, tmp_path, monkeypatch):
    """A server that always brings a little more, and never all of it."""
    monkeypatch.setattr("chexlib.data.download._SLOWEST", 10 * SIZE)
    server.plan = ["hostile"] * 1000
    server.hostile = (OK + b"Content-Length: 393216\r\n\r\n" + bytes(70_000), b"", 0)
    with pytest.raises(FetchError, match=r"^Expected file\.bin"):
        fetch(an_entry(server.url, size=SIZE), home=tmp_path, retries=10**6, backoff=0, timeout=0.1)
    assert len(server.plan) > 0


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "pipe", "device"])
def test_a_part_that_is_none_is_not_written_through(server, tmp_path, kind):
    other, part = tmp_path / "other", tmp_path / "home/folder/file.bin.part"
    other.write_bytes(CONTENT[:1000])
    part.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "hard link":
        part.hardlink_to(other)
    else:
        part.symlink_to({"link": other, "device": "/dev/null"}.get(kind, tmp_path / "nowhere"))
    with pytest.raises(FetchError, match="found a link, a pipe or a device"):
        fetch(an_entry(server.url), home=tmp_path / "home", **QUICK)
    assert server.seen == []
    assert other.read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "home/folder/file.bin").exists()


# --- archives ------------------------------------------------------------------------------------


def a_tar(members, *, special=()):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, options in special:
            info = tarfile.TarInfo(name)
            for key, value in options.items():
                setattr(info, key, value)
            tar.addfile(info)
    return stream.getvalue()


def an_archive(server, content):
    server.content = content
    return an_entry(
        server.url,
        path="archives/a.tar.gz",
        hash="md5:" + hashlib.md5(content).hexdigest(),
        size=None,
        unpack_to="images",
    )


GOOD = {"images/a.png": b"A", "images/b.png": b"BB"}
UNPACKED = {"images/a.png": b"A", "images/b.png": b"BB"}
RECORD = "images/.a.tar.gz.json"


def test_an_archive_is_unpacked_and_removed(server, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/z.png").write_bytes(b"of another archive")
    item = an_archive(server, a_tar(GOOD))
    reports = []
    paths = fetch(item, home=tmp_path, progress=lambda *report: reports.append(report))
    assert paths == [tmp_path / "images"]
    after = tree(tmp_path)
    assert after.pop(RECORD) == b'{"a.png": 1, "b.png": 2}'
    assert after == UNPACKED | {"images/z.png": b"of another archive"}
    assert {label for label, *_ in reports} == {"a.tar.gz", "a.tar.gz: unpacking"}
    fetch(item, home=tmp_path)
    assert len(server.seen) == 1
    (tmp_path / "images/b.png").write_bytes(b"damaged")
    assert not is_present(item.files[0], tmp_path)
    fetch(item, home=tmp_path)
    assert tree(tmp_path)["images/b.png"] == b"BB"


def test_ones_own_archive_is_used_and_kept(server, tmp_path):
    content = a_tar(GOOD)
    item = an_archive(server, content)
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/a.tar.gz").write_bytes(content)
    fetch(item, home=tmp_path)
    assert server.seen == []
    after = tree(tmp_path)
    del after[RECORD]
    assert after == UNPACKED | {"archives/a.tar.gz": content}


def test_what_a_killed_unpacking_left_is_cleared(server, tmp_path):
    stale = tmp_path / "images/.a.tar.gz.unpacking/images/half.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    fetch(an_archive(server, a_tar(GOOD)), home=tmp_path)
    assert set(tree(tmp_path)) == {*UNPACKED, RECORD}


EVIL = {
    "parent folder": a_tar(GOOD | {"../evil.png": b"!"}),
    "hidden parent folder": a_tar(GOOD | {"images/../../evil.png": b"!"}),
    "absolute": a_tar(GOOD | {"/../evil.png": b"!"}),
    "link out": a_tar(
        GOOD, special=[("images/out.png", {"type": tarfile.SYMTYPE, "linkname": "../../../x"})]
    ),
    "absolute link": a_tar(
        GOOD, special=[("images/out.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})]
    ),
    "hard link out": a_tar(
        GOOD, special=[("images/out.png", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})]
    ),
    "link inside": a_tar(
        GOOD, special=[("images/in.png", {"type": tarfile.SYMTYPE, "linkname": "a.png"})]
    ),
    "device": a_tar(
        GOOD, special=[("images/d", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})]
    ),
    "pipe": a_tar(GOOD, special=[("images/p", {"type": tarfile.FIFOTYPE})]),
    "one name twice": a_tar(GOOD | {"elsewhere/a.png": b"?"}),
    "truncated": a_tar({"images/a.png": CONTENT})[:HALF],
    "damaged": a_tar({"images/a.png": CONTENT})[:50] + b"\xff" * 99,
    "no archive": b"not an archive at all",
}


@pytest.mark.parametrize("content", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("own", [False, True], ids=["downloaded", "own copy"])
def test_an_unsound_archive_leaves_nothing(server, tmp_path, content, own):
    home = tmp_path / "deep" / "home"
    (home / "archives").mkdir(parents=True)
    (home / "other").write_text("as it was")
    item = an_archive(server, content)
    kept = {"other": b"as it was"}
    if own:
        (home / "archives/a.tar.gz").write_bytes(content)
        kept["archives/a.tar.gz"] = content
    with pytest.raises(FetchError, match=r"Expected only files that stay .* in a\.tar\.gz"):
        fetch(item, home=home, **QUICK)
    assert tree(home) == kept
    assert folders(home) == ["archives"]
    assert [path.name for path in tmp_path.rglob("*evil*")] == []
    assert not Path("/evil.png").exists()


def test_an_absolute_name_stays_inside(server, tmp_path):
    # tarfile's data filter takes the leading slash away, so that the file lands in the folder.
    fetch(an_archive(server, a_tar({"/absolute.png": b"x"})), home=tmp_path)
    assert (tmp_path / "images/absolute.png").read_bytes() == b"x"
    assert not Path("/absolute.png").exists()


@pytest.mark.parametrize("record", [b"", b"[]", b"null", b'{"a.png": 1}', b"\xff"])
def test_a_record_that_is_wrong_counts_as_absent(server, tmp_path, record):
    (tmp_path / "images").mkdir()
    (tmp_path / RECORD).write_bytes(record)
    assert not is_present(an_archive(server, b"").files[0], tmp_path)


# --- the pickle ----------------------------------------------------------------------------------

MATCHES = {
    "0004cfab": {"info": ["Normal"], "mse": np.float64(1.80791), "cxr_match": "00019124_092.png"},
    "00313ee0": {"info": ["Lung Opacity"] * 2, "mse": 0.5, "cxr_match": "00028640_003.png"},
}
CSV = (
    b"rsna_patient_id,rsna_class,nih_image_index,pixel_mse\r\n"
    b"0004cfab,Normal,00019124_092.png,1.8079\r\n"
    b"00313ee0,Lung Opacity,00028640_003.png,0.5000\r\n"
)


def a_matching(server, content, expected=CSV):
    server.content = content
    return an_entry(
        server.url,
        content=content,
        size=None,
        path="rsna/rsna_to_nih.csv",
        convert="rsna_matches_to_csv",
        converted_hash=sha256(expected),
    )


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("numpy_1", [False, True])
def test_the_matching_is_converted(server, tmp_path, protocol, numpy_1):
    content = pickle.dumps(MATCHES, protocol=protocol)
    if numpy_1 and protocol == 3:
        content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    fetch(a_matching(server, content), home=tmp_path)
    assert tree(tmp_path) == {"rsna/rsna_to_nih.csv": CSV}


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"x": Evil(os.system, "touch EVIL")}),
        pickle.dumps({"x": Evil(eval, "open('EVIL', 'w')")}),
        pickle.dumps({"x": Evil(np.load, "EVIL")}),
        pickle.dumps({"x": Evil(getattr, "x", "y")}),
        b"\x80\x04\x95 cut short",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": 1}),
        pickle.dumps({"a": {"info": [], "mse": 1.0, "cxr_match": "x"}}),
        pickle.dumps({"a": {"info": ["Normal", "Lung Opacity"], "mse": 1.0, "cxr_match": "x"}}),
        pickle.dumps({"a": {"info": ["Normal"], "mse": np.inf}}),
        pickle.dumps({"a": {"info": ["Normal"], "mse": "1", "cxr_match": "x"}}),
        pickle.dumps({"a": {"info": ["Normal"], "mse": np.array([1.0, 2.0]), "cxr_match": "x"}}),
    ],
)
def test_another_pickle_is_refused_and_not_run(server, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    with pytest.raises(FetchError, match=r"^Expected "):
        fetch(a_matching(server, content), home=home)
    assert tree(home) == {}
    assert not (tmp_path / "EVIL").exists()


def test_a_conversion_that_does_not_give_what_is_known_is_dropped(server, tmp_path):
    with pytest.raises(FetchError, match="does not fit the file"):
        fetch(a_matching(server, pickle.dumps(MATCHES), expected=b"other"), home=tmp_path)
    assert tree(tmp_path) == {}


@pytest.mark.real_data
def test_the_real_matching_survives_the_way_back(tmp_path):
    """The published pickle is not at hand: one of its form, made of the CSV, gives it again."""
    (file,) = REGISTRY["rsna"].files
    real = Path(os.environ.get("CHEXLIB_DATA") or "does-not-exist") / file.path
    if not real.exists():
        pytest.skip("rsna/rsna_to_nih.csv is not in CHEXLIB_DATA: chexlib fetch rsna")
    with real.open(newline="", encoding="utf-8") as stream:
        matches = {
            row["rsna_patient_id"]: {
                "info": [row["rsna_class"]],
                "mse": np.float64(row["pixel_mse"]),
                "cxr_match": row["nih_image_index"],
            }
            for row in csv.DictReader(stream)
        }
    source, target = tmp_path / "matches.pkl", tmp_path / "matches.csv"
    source.write_bytes(pickle.dumps(matches))
    rsna_matches_to_csv(source, target)
    assert sha256(target.read_bytes()) == file.converted_hash


@pytest.mark.real_data
def test_the_real_folder_is_not_written_to():
    home = Path(os.environ.get("CHEXLIB_DATA") or "does-not-exist")
    names = ["predictions", "rsna", "azure", "split"]
    if not all(is_present(file, home) for name in names for file in REGISTRY[name].files):
        pytest.skip(f"needs: chexlib fetch {' '.join(names)}")
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    for name in names:
        fetch(name)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before

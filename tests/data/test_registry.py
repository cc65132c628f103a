"""The registry: every file has an address, a hash or an open refusal, a licence, a citation."""

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import pytest

from chexlib.data.fetch import REGISTRY, entry

FILES = [(item, file) for item in REGISTRY.values() for file in item.files]
HERE = Path(os.environ.get("CHEXLIB_DATA") or "does-not-exist")


@pytest.mark.parametrize("item", REGISTRY.values(), ids=lambda item: item.name)
def test_every_entry_says_whose_it_is(item):
    assert all([item.title, item.licence, item.citation, item.files])
    assert item.homepage.startswith("https://")


@pytest.mark.parametrize(("item", "file"), FILES, ids=lambda value: getattr(value, "path", ""))
def test_every_file_is_well_formed(item, file):
    url = urlsplit(file.url)
    assert url.scheme == "https"
    path = PurePosixPath(file.path)
    assert not path.is_absolute()
    assert ".." not in path.parts
    if file.hash is None:
        assert "no hash" in item.note
    else:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.hash)
    if url.netloc == "raw.githubusercontent.com":
        assert re.fullmatch(r"/[^/]+/[^/]+/[0-9a-f]{40}/.+", url.path), "not pinned to a commit"
    assert file.size is None or file.size > 0
    assert (file.convert is None) == (file.converted_hash is None)


def test_sizes_are_never_invented_and_only_nih_is_trusted_on_md5():
    assert REGISTRY["images"].size is None
    assert REGISTRY["azure"].size == 952 + 306 + 18_598
    assert {item.name for item, file in FILES if (file.hash or "").startswith("md5")} == {"images"}


def test_paths_urls_and_hashes_are_unique():
    for field in ("path", "url", "hash"):
        values = [getattr(file, field) for _, file in FILES if getattr(file, field)]
        assert len(values) == len(set(values)), field


def test_the_image_archives():
    files = REGISTRY["images"].files
    assert [file.path for file in files] == [
        f"archives/images_{n:03d}.tar.gz" for n in range(1, 13)
    ]
    assert {urlsplit(file.url).netloc for file in files} == {"nihcc.box.com"}
    assert {file.unpack_to for file in files} == {"images"}
    assert files[0].url.endswith("/vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz")
    assert files[-1].hash == "md5:dc9fda1757c2de0032b63347a7d2895c"


@pytest.mark.parametrize(
    ("name", "near"), [("prediction", "predictions"), ("Image", "images"), ("zzz", None)]
)
def test_an_unknown_name_gets_a_suggestion(name, near):
    with pytest.raises(ValueError, match="Expected one of") as caught:
        entry(name)
    assert ("Did you mean" in str(caught.value)) == (near is not None)
    assert near is None or repr(near) in str(caught.value)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["predictions", "readers", "chestx-det", "rsna", "azure", "split"])
def test_hashes_and_sizes_are_those_of_the_real_files(name):
    for file in REGISTRY[name].files:
        path = HERE / file.path
        if not path.exists():
            pytest.skip(f"{file.path} is not in CHEXLIB_DATA: chexlib fetch {name}")
        assert pooch.file_hash(path) == file.finished_hash.removeprefix("sha256:")
        if file.size is not None and file.convert is None:
            assert path.stat().st_size == file.size

"""Sources: films in every layout people have, read where they are."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from odd_sources import film
from PIL import Image
from pydicom.data import get_testdata_file

from chexlib.data import ImageCache, data_home, find_radiographs, read_radiograph
from chexlib.data import radiographs as radiographs_module
from chexlib.data import sources as sources_module
from chexlib.files import legible

NAMES = [f"{i:08d}_000.png" for i in range(1, 7)]


@pytest.fixture
def flat(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        Image.fromarray(film(i)).save(folder / name)
    return folder


@pytest.fixture
def nih(tmp_path, flat):
    """Return NIH's folders: images_001/images/*.png and so on, with their list of labels."""
    root = tmp_path / "nih"
    for i, name in enumerate(NAMES):
        folder = root / f"images_{1 + i // 3:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((flat / name).read_bytes())
    (root / "Data_Entry_2017.csv").write_text("Image Index\n")
    return root


@pytest.fixture
def packed(tmp_path, nih):
    root = tmp_path / "packed"
    root.mkdir()
    for number in (1, 2):
        with tarfile.open(root / f"images_{number:03d}.tar.gz", "w:gz") as archive:
            archive.add(nih / f"images_{number:03d}" / "images", "images")
    return root


def films(source):
    return {
        source.names[item.position]: item
        for task in source.tasks(range(len(source.names)))
        for item in task()
    }


@pytest.mark.parametrize("layout", ["flat", "nih", "packed"])
def test_layouts_give_the_same_films(layout, request):
    source = find_radiographs(request.getfixturevalue(layout))
    assert list(source.names) == NAMES
    assert list(source.patients) == [1, 2, 3, 4, 5, 6]
    assert len(source.origins) == 6
    found = films(source)
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(found[name].pixels, film(i))
        assert found[name].position == i


def test_one_archive_and_one_file(packed, flat):
    loose, archived = (films(find_radiographs(folder)) for folder in (flat, packed))
    assert {n: film.sha256 for n, film in loose.items()} == {
        n: film.sha256 for n, film in archived.items()
    }
    assert find_radiographs(packed / "images_002.tar.gz").names == NAMES[3:]
    assert list(find_radiographs(flat / NAMES[2]).names) == [NAMES[2]]


def test_archives_are_not_unpacked(packed, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    ImageCache.build(find_radiographs(packed), tmp_path / "cache", size=32, workers=2)
    made = {path for path in tmp_path.rglob("*") if tmp_path / "cache" not in [path, *path.parents]}
    assert made == set(before)


def test_a_list_of_paths(flat, tmp_path):
    path = tmp_path / "films.csv"
    frame = pd.DataFrame({"path": [f"flat/{n}" for n in NAMES[:3]], "image": ["a", "b", "c"]})
    frame.assign(patient=["007", "A7", None]).to_csv(path, index=False, sep=";", encoding="utf-16")
    source = find_radiographs(path)
    assert list(source.names) == ["a", "b", "c"]
    assert list(source.paths) == [f"flat/{n}" for n in NAMES[:3]]
    assert list(source.patients) == ["007", "A7", None]
    cache = ImageCache.build(source, tmp_path / "cache", size=32, workers=1)
    assert cache.index["patient"].fillna("").tolist() == ["007", "A7", ""]
    np.testing.assert_array_equal(films(source)["b"].pixels, film(1))
    frame[["path"]].to_csv(path, index=False)
    assert list(find_radiographs(path).patients) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image\na\n", "Expected column 'path'"),
        ("path\n", "header alone"),
        ("path,image\n,a\n", "row 2, column 'path'"),
        ("path\na.png\na.png\n", "found a.png twice"),
        ("path,image\na.png,x\nb/a.png,x\n", "found x twice"),
        ("", "Expected a CSV of films"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, text, says):
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        find_radiographs(tmp_path / "films.csv")


def test_a_listed_file_that_is_gone_is_rejected_not_fatal(tmp_path, flat):
    (tmp_path / "films.csv").write_text(f"path\nflat/{NAMES[0]}\nflat/gone.png\n")
    found = films(find_radiographs(tmp_path / "films.csv"))
    assert found["gone.png"].pixels is None
    assert found["gone.png"].sha256 == ""
    np.testing.assert_array_equal(found[NAMES[0]].pixels, film(0))


def test_links_are_followed_once(flat, tmp_path):
    root = tmp_path / "linked"
    root.mkdir()
    (root / "films").symlink_to(flat)
    (flat / "round").symlink_to(root)
    assert list(find_radiographs(root).names) == NAMES


def test_content_decides_and_nothing_is_passed_over_in_silence(flat):
    shutil.copy(get_testdata_file("RG1_UNCR.dcm"), flat / "IM0001")
    shutil.copy(get_testdata_file("DICOMDIR"), flat / "DICOMDIR")
    shutil.copy(flat / NAMES[0], flat / "export.raw")  # a PNG all the same
    Image.fromarray(film(0)).save(flat / "scan.tif")
    (flat / "._00000001_000.png").write_bytes(b"a Macintosh's shadow of a file")
    (flat / "notes.txt").write_text("notes")
    (flat / "report.pdf").write_bytes(b"%PDF-1.7 and so on")
    (flat / "blob").write_bytes(bytes(range(128, 256)) * 4)
    (flat / "nothing").touch()
    with tarfile.open(flat / "more.tar", "w") as archive:
        archive.add(flat / NAMES[0])
    os.mkfifo(flat / "pipe")
    (flat / "lost").symlink_to(flat / "gone")
    source = find_radiographs(flat)
    found = films(source)
    assert sorted(found) == [*NAMES, "IM0001", "export.raw", "lost", "scan.tif"]
    bad = {name: item.reason for name, item in found.items() if item.reason}
    assert set(bad) == {"scan.tif", "lost"}
    assert "found a TIFF" in bad["scan.tif"]
    assert "a link that leads nowhere" in bad["lost"]
    ignored = {name.rpartition("/")[2]: why for name, why in source.ignored}
    assert ignored == {
        "DICOMDIR": "a DICOMDIR",
        "._00000001_000.png": "hidden",
        "notes.txt": "text",
        "report.pdf": "a PDF",
        "blob": "neither PNG, JPEG nor DICOM",
        "nothing": "empty",
        "more.tar": "an archive beside films",
        "pipe": "a device, pipe or socket",
    }


def test_content_decides_in_archives_too(flat, tmp_path):
    path = tmp_path / "pacs.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(flat / NAMES[1], "disc/IM0001")
        archive.add(flat / NAMES[2], "disc/.hidden/IM0002")
        archive.add(get_testdata_file("DICOMDIR"), "disc/DICOMDIR")
        archive.add(__file__, "disc/readme")
    source = find_radiographs(path)
    np.testing.assert_array_equal(films(source)["IM0001"].pixels, film(1))
    assert list(source.names) == ["IM0001"]
    why = {name.partition("::")[2]: why for name, why in source.ignored}
    assert why == {
        "disc/.hidden/IM0002": "hidden", "disc/DICOMDIR": "a DICOMDIR", "disc/readme": "text"
    }  # fmt: skip


def test_known_names_are_not_opened_to_be_listed(flat, monkeypatch):
    monkeypatch.setattr(sources_module, "_head", lambda _: pytest.fail("opened"))
    assert list(find_radiographs(flat).names) == NAMES


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_folders_of_a_pacs_hold_a_film_of_one_name_each(flat, tmp_path, kind):
    root = tmp_path / "disc"
    for i in (0, 1):
        (root / f"PAT{i}").mkdir(parents=True)
        shutil.copy(flat / NAMES[i], root / f"PAT{i}" / "IM0001")
    shutil.copy(flat / NAMES[2], root / "PAT1" / "IM0002")
    if kind == "archive":
        with tarfile.open(tmp_path / "disc.tar", "w") as archive:
            for path in sorted(root.rglob("IM*")):
                archive.add(path, path.relative_to(root))
        root = tmp_path / "disc.tar"
    source = find_radiographs(root)
    assert list(source.names) == ["IM0002", "PAT0/IM0001", "PAT1/IM0001"]
    np.testing.assert_array_equal(films(source)["PAT1/IM0001"].pixels, film(1))


def test_a_name_that_is_no_utf8_costs_nothing(flat, tmp_path):
    odd = os.fsencode(flat) + b"/r\xe9sum\xe9\n.png"
    shutil.copy(flat / NAMES[0], odd)
    Path(os.fsdecode(os.fsencode(flat) + b"/bad\xff.png")).write_bytes(b"no film")
    cache = ImageCache.build(find_radiographs(flat), tmp_path / "cache", size=32, workers=2)
    index = cache.index.set_index("image")
    assert index.loc[r"r\udce9sum\udce9\n.png", "status"] == "ok"
    assert index.loc[r"bad\udcff.png", "status"] == "rejected"
    assert (index["status"] == "ok").sum() == 7
    rejected = pd.read_csv(tmp_path / "cache" / "rejected.csv")
    assert rejected["source"].tolist() == [str(flat / r"bad\udcff.png")]
    assert legible("胸部 X 光.png") == "胸部 X 光.png"


def test_folders_deep_within_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        Image.fromarray(film(3)).save("IM0001", format="PNG")
        os.chdir(tmp_path)
        (item,) = films(find_radiographs("d")).values()
        np.testing.assert_array_equal(item.pixels, film(3))
    finally:  # pytest's own way to remove them ends in a RecursionError
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_headers_of_an_archive_within_each_other_are_refused(tmp_path):
    more = tarfile.TarInfo._create_pax_generic_header({"comment": "x"}, tarfile.XHDTYPE, "utf-8")
    member = tarfile.TarInfo("film.png")
    (tmp_path / "deep.tar").write_bytes(more * 2000 + member.tobuf() + bytes(1024))
    with pytest.raises(ValueError, match=r"a complete archive at .*deep\.tar"):
        find_radiographs(tmp_path / "deep.tar")


def test_whatever_a_film_raises_costs_that_film_alone(flat, monkeypatch):
    real = radiographs_module.decode_picture

    def raising(data, kind, name):
        for number, error in enumerate((IndexError("x\ny" * 300), MemoryError(), TypeError())):
            if name.endswith(NAMES[number]):
                raise error
        return real(data, kind, name)

    monkeypatch.setattr(radiographs_module, "decode_picture", raising)
    found = films(find_radiographs(flat))
    for name in NAMES[:3]:
        said = found[name].reason
        assert said.startswith(str(flat / name))
        assert said.isprintable()
        assert len(said) < 400
    for i in (3, 4, 5):
        np.testing.assert_array_equal(found[NAMES[i]].pixels, film(i))

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(radiographs_module, "decode_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        films(find_radiographs(flat))


HUGE = """
import sys
from chexlib.data import ImageCache, find_radiographs
if __name__ == "__main__":
    built = ImageCache.build(find_radiographs(sys.argv[1]), sys.argv[2], size=32, workers=2)
    assert set(built.index["status"]) == {"rejected"}
    # What the process itself took: ru_maxrss begins with what its parent had.
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    print(int(lines["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to ask it")
def test_huge_members_of_a_small_archive_are_read_one_at_a_time(tmp_path):
    class Zeros(io.RawIOBase):
        def read(self, size=-1):
            return bytes(size)

    with tarfile.open(tmp_path / "small.tar.gz", "w:gz", compresslevel=1) as archive:
        for number in range(8):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 128 * 2**20
            archive.addfile(member, Zeros())
    (tmp_path / "build.py").write_text(HUGE)
    command = [sys.executable, tmp_path / "build.py", tmp_path / "small.tar.gz", tmp_path / "cache"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert int(ended.stdout) < 600  # MB; all at once they would be more than 1,024


def test_one_name_twice_and_nothing_are_refused(nih, tmp_path):
    (nih / "images_002" / "images" / NAMES[0]).write_bytes(b"another")
    with pytest.raises(ValueError, match=rf"found {NAMES[0]} twice: .*images_001.*images_002"):
        find_radiographs(nih)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        find_radiographs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none among 0 files"):
        find_radiographs(tmp_path / "empty")


def test_a_damaged_archive_is_named(packed):
    path = packed / "images_002.tar.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"images_002\.tar\.gz.*chexlib fetch images"):
        find_radiographs(packed)
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(ValueError, match="found none"):
        find_radiographs(path)


def test_what_is_no_file_in_an_archive_is_passed_over(tmp_path, flat):
    path = tmp_path / "odd.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("images/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.add(flat / NAMES[0], f"../../{NAMES[0]}")  # never used as a path
    source = find_radiographs(path)
    assert source.names == NAMES[:1]
    np.testing.assert_array_equal(films(source)[NAMES[0]].pixels, film(0))


@pytest.mark.real_data("nih_sample/images")
def test_nih_sample_in_two_layouts(tmp_path):
    folder = data_home() / "nih_sample" / "images"
    some = sorted(folder.glob("*.png"))[:6]
    with tarfile.open(tmp_path / "images_001.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in some:
            archive.add(path, f"images/{path.name}")
    found = films(find_radiographs(tmp_path / "images_001.tar.gz"))
    for path in some:
        np.testing.assert_array_equal(found[path.name].pixels, read_radiograph(path))

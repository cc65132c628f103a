"""Sources: films in every layout people have, read where they are."""

import tarfile

import numpy as np
import pandas as pd
import pytest
from odd_sources import film
from PIL import Image

from chexlib.data import ImageCache, data_home, find_radiographs, read_radiograph
from chexlib.data.radiographs import RadiographError

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
        np.testing.assert_array_equal(found[name].radiograph.pixels, film(i))
        assert found[name].position == i


def test_hashes_are_those_of_the_files(flat, packed):
    assert {n: item.sha256 for n, item in films(find_radiographs(flat)).items()} == {
        n: item.sha256 for n, item in films(find_radiographs(packed)).items()
    }


def test_one_archive_and_one_file(packed, flat):
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
    frame.assign(patient=[7, 7, None]).to_csv(path, index=False)
    source = find_radiographs(path)
    assert list(source.names) == ["a", "b", "c"]
    assert list(source.patients) == [7, 7, None]
    np.testing.assert_array_equal(films(source)["b"].radiograph.pixels, film(1))
    frame[["path"]].to_csv(path, index=False)
    assert list(find_radiographs(path).patients) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image\na\n", "Expected a column `path`"),
        ("path\n", "0 rows"),
        ("path,image\n,a\n", "found none in row 2"),
        ("path,patient\na.png,one\n", "whole numbers in the column `patient`"),
        ("path\na.png\nb/a.png\n", "found a.png twice"),
        ("", "Expected a CSV table"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, text, says):
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        find_radiographs(tmp_path / "films.csv")


def test_a_listed_file_that_is_gone_is_rejected_not_fatal(tmp_path, flat):
    (tmp_path / "films.csv").write_text(f"path\nflat/{NAMES[0]}\nflat/gone.png\n")
    found = films(find_radiographs(tmp_path / "films.csv"))
    assert isinstance(found["gone.png"].radiograph, RadiographError)
    assert found["gone.png"].sha256 == ""
    np.testing.assert_array_equal(found[NAMES[0]].radiograph.pixels, film(0))


def test_links_are_followed_once(flat, tmp_path):
    root = tmp_path / "linked"
    root.mkdir()
    (root / "films").symlink_to(flat)
    (flat / "round").symlink_to(root)
    assert list(find_radiographs(root).names) == NAMES


def test_hidden_and_other_files_are_left_alone(flat):
    (flat / "._00000001_000.png").write_bytes(b"a Macintosh's shadow of a file")
    (flat / "notes.txt").write_text("notes")
    assert list(find_radiographs(flat).names) == NAMES


def test_one_name_twice_is_refused(nih):
    (nih / "images_002" / "images" / NAMES[0]).write_bytes(b"another")
    with pytest.raises(ValueError, match=rf"found {NAMES[0]} twice: .*images_001.*images_002"):
        find_radiographs(nih)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        find_radiographs(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found none among 0 files"):
        find_radiographs(tmp_path)


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
    np.testing.assert_array_equal(films(source)[NAMES[0]].radiograph.pixels, film(0))


@pytest.mark.real_data("nih_sample/images")
def test_nih_sample_in_two_layouts(tmp_path):
    folder = data_home() / "nih_sample" / "images"
    some = sorted(folder.glob("*.png"))[:6]
    with tarfile.open(tmp_path / "images_001.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in some:
            archive.add(path, f"images/{path.name}")
    found = films(find_radiographs(tmp_path / "images_001.tar.gz"))
    for path in some:
        np.testing.assert_array_equal(found[path.name].radiograph.pixels, read_radiograph(path))

"""Quality checks find what was done to films, and are quiet where nothing was."""

import cv2
import numpy as np
import pandas as pd
import pytest

from chexlib.data import ImageCache, data_home, find_radiographs, quality_table
from chexlib.data.phantom import films_of, population, render

FLAGS = ["blank", "inverted", "rotated", "cropped", "lateral"]
FILMS = np.stack(
    [render(f, size=96).image for f in films_of(population(120, seed=31, max_films=1))]
)


class Made:
    """A cache in memory."""

    def __init__(self, images, status="ok"):
        names = [f"{i}.png" for i in range(len(images))]
        self.images = images
        self.index = pd.DataFrame({"image": names, "status": status})


def cut(film, share, top, left):
    side = round(share * len(film))
    y, x = round(top * (len(film) - side)), round(left * (len(film) - side))
    return cv2.resize(film[y : y + side, x : x + side], film.shape)


def test_quiet_on_plain_films():
    table = quality_table(Made(FILMS))
    assert not table[FLAGS].to_numpy().any()
    assert table["duplicate_of"].isna().all()
    assert table["likeness"].min() > 0.4
    assert table["image"].tolist() == [f"{i}.png" for i in range(120)]
    # The side of the heart is not its business.
    assert not quality_table(Made(FILMS[:, :, ::-1]))[FLAGS].to_numpy().any()


@pytest.mark.parametrize(
    ("flag", "change", "share"),
    [
        ("inverted", lambda film: 255 - film, 1.0),
        ("rotated", np.rot90, 0.97),
        ("rotated", lambda film: np.rot90(film, 2), 0.97),
        ("rotated", lambda film: np.rot90(film, 3), 0.97),
        ("blank", lambda film: film // 64 + 90, 1.0),
        ("blank", np.zeros_like, 1.0),
        ("cropped", lambda film: cut(film, 0.5, 0, 0), 0.9),
        ("cropped", lambda film: cut(film, 0.5, 1, 0.9), 0.9),
        ("cropped", lambda film: cut(film, 0.6, 0.1, 1), 0.9),
    ],
)
def test_finds_what_was_done(flag, change, share):
    changed = np.stack([change(film) for film in FILMS])
    table = quality_table(Made(changed))
    assert table[flag].mean() >= share
    others = [name for name in FLAGS if name != flag]
    assert table[others].to_numpy().mean() <= (1 - share) / 2


def test_finds_copies_also_after_compression_and_in_another_grey():
    def jpeg(film):
        return cv2.imdecode(cv2.imencode(".jpg", film, [1, 80])[1], cv2.IMREAD_GRAYSCALE)

    doubled = np.concatenate([FILMS[:40], FILMS[3:5], [jpeg(FILMS[7])], FILMS[3:4]])
    found = quality_table(Made(doubled))["duplicate_of"]
    assert found[:40].isna().all()
    assert found[40:].tolist() == ["3.png", "4.png", "7.png", "3.png"]
    # Follow-ups are no copies.
    frame = population(20, seed=5, max_films=2)
    films = np.stack([render(f, size=64).image for f in films_of(frame)])
    assert quality_table(Made(films))["duplicate_of"].isna().all()


def test_what_is_neither_like_a_chest_nor_symmetric_may_be_lateral():
    noise = np.random.default_rng(0).integers(0, 256, (30, 6, 6)).astype(np.uint8)
    cloudy = np.stack([cv2.resize(n, (96, 96), interpolation=cv2.INTER_CUBIC) for n in noise])
    table = quality_table(Made(cloudy))
    odd = (table["likeness"] < 0.1) & (table["symmetry"] < 0.1)
    assert odd.sum() > 5
    assert (table["lateral"] <= odd).all()
    assert table["lateral"].any()
    assert (table[FLAGS].sum(axis=1) <= 1).all()


def test_rejected_films_have_no_flags():
    made = Made(np.concatenate([FILMS[:2], np.zeros((1, 96, 96), np.uint8)]))
    made.index["status"] = ["ok", "ok", "rejected"]
    table = quality_table(made)
    assert np.isnan(table["likeness"][2])
    assert not table.loc[2, FLAGS].any()


@pytest.mark.real_data("nih_sample/images")
def test_on_nih_films_it_names_the_one_that_is_inverted(tmp_path):
    source = find_radiographs(data_home() / "nih_sample" / "images")
    table = quality_table(ImageCache.build(source, tmp_path, size=128)).set_index("image")
    assert table.index[table["inverted"]].tolist() == ["00017999_000.png"]  # looked at: it is
    assert not table[["blank", "rotated", "lateral"]].to_numpy().any()
    assert table["cropped"].sum() <= 1
    assert table["duplicate_of"].isna().all()

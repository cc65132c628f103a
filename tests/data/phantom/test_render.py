"""The phantom's films: what they depend on, and what they show of patient, view and exposure."""

import itertools
import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexlib.data.phantom import DEVICES, Film, render
from chexlib.data.phantom.anatomy import plan_chest
from chexlib.data.phantom.film import Film as DirectFilm
from chexlib.data.phantom.render import field_of_view
from chexlib.findings import FINDINGS

SICK = {"Mass": 0.8, "Effusion": 0.5}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"view": "LL"}, "view PA or AP"),
        ({"sex": "X"}, "sex M or F"),
        ({"age": 7}, "no children"),
        ({"patient": -1}, "from 0 up"),
        ({"severity": {"Mass": 0}}, "Leave a finding out"),
        ({"severity": {"Mass": 1.2}}, "got 1.2"),
        ({"severity": {"Measles": 1}}, "Measles"),
        ({"devices": frozenset({"halo"})}, "halo"),
    ],
)
def test_what_cannot_be_simulated_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Film(**{"patient": 1, **wrong})


def test_a_film_can_be_pickled_and_is_compared_by_value():
    film = Film(patient=3, severity=SICK, devices=frozenset({"tube"}))
    again = pickle.loads(pickle.dumps(film))
    assert again == film
    assert isinstance(again, DirectFilm)
    assert list(film.severity) == ["Effusion", "Mass"]  # in the order of the findings


def test_the_same_film_is_the_same_picture():
    film = Film(patient=3, severity=SICK)
    again = Film(patient=3, severity=dict(reversed(SICK.items())))
    one, two = render(film, size=96), render(again, size=96)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.masks["Mass"], two.masks["Mass"])


def test_the_same_film_in_another_process():
    program = (
        "from chexlib.data.phantom import Film, render; import zlib;"
        "print(zlib.crc32(render(Film(patient=3, severity={'Mass': .8}), size=96).image.tobytes()))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    here = render(Film(patient=3, severity={"Mass": 0.8}), size=96).image
    assert int(there) == zlib.crc32(here.tobytes())


def test_the_next_film_shows_the_same_patient():
    def low(patient, follow_up, seed=0):
        image = render(Film(patient=patient, follow_up=follow_up, seed=seed), size=64).image
        return image[8:56, 8:56].astype(float).ravel()

    same = [np.corrcoef(low(p, 0), low(p, 1))[0, 1] for p in range(12)]
    other = [np.corrcoef(low(p, 0), low(p + 1, 0))[0, 1] for p in range(12)]
    assert np.mean(same) > np.mean(other)
    assert not np.array_equal(low(1, 0), low(1, 1))
    assert not np.array_equal(low(1, 0), low(1, 0, seed=1))
    bones = [plan_chest(Film(patient=5, follow_up=k)).mineral for k in (0, 1)]
    assert bones[0] == bones[1]


def test_sizes_show_the_same_chest():
    film = Film(patient=9, severity={"Mass": 1.0})
    large, small = render(film, size=256), render(film, size=128)
    halved = large.image.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.corrcoef(halved.ravel(), small.image.ravel())[0, 1] > 0.98
    (x, y, w, h), *_ = large.boxes["Mass"]
    (x2, y2, w2, h2), *_ = small.boxes["Mass"]
    np.testing.assert_allclose([x, y, w, h], [x2, y2, w2, h2], atol=25)


def test_size_is_checked():
    for size in (16, 4096):
        with pytest.raises(ValueError, match=f"got {size}"):
            render(Film(patient=1), size=size)


def test_portable_films_show_a_larger_heart_and_a_shorter_lung():
    def chest(view):
        plans = [plan_chest(Film(patient=p, view=view)) for p in range(20)]
        return np.mean([(plan.heart, np.ptp(plan.lungs[-1][:, 1])) for plan in plans], axis=0)

    heart, height = chest("AP") / chest("PA")
    assert heart > 1.05
    assert height < 0.95


def test_dense_is_bright_and_the_heart_on_the_images_right():
    films = [render(Film(patient=p), size=128).image.astype(float) for p in range(30)]
    mean = np.mean(films, axis=0)
    lung = mean[50:70, 30:45].mean()
    assert mean[50:70, 60:68].mean() > lung + 50  # spine
    assert mean[105:115, 40:90].mean() > lung + 50  # belly
    assert mean[70:80, 72:84].mean() > mean[70:80, 44:56].mean() + 15  # heart


def test_the_film_holds_a_chest_of_human_size():
    people = [Film(patient=p, sex="MF"[p % 2], view=("PA", "AP")[p % 3 == 0]) for p in range(40)]
    edges = [edge for film in people for edge in field_of_view(film)]
    assert 24 < min(edges) < max(edges) < 43  # cm; a cassette is 35 x 43, and beams diverge
    widths = [plan_chest(Film(patient=p)).width for p in range(40)]
    assert 22 < min(widths) < max(widths) < 34


def test_bones_fade_with_age():
    young, old = (
        np.mean([plan_chest(Film(patient=p, age=age, sex="F")).mineral for p in range(20)])
        for age in (20, 90)
    )
    assert old < 0.8 * young


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_is_seen(device):
    changed = []
    for p in range(6):
        bare = render(Film(patient=p, view="AP"), size=256).image.astype(int)
        worn = render(Film(patient=p, view="AP", devices=frozenset({device})), size=256).image
        changed.append((np.abs(worn - bare) > 8).sum())
    assert np.median(changed) >= 50


@settings(max_examples=40)
@given(
    st.builds(
        Film,
        patient=st.integers(0, 10**7),
        follow_up=st.integers(0, 200),
        view=st.sampled_from(["PA", "AP"]),
        sex=st.sampled_from(["M", "F"]),
        age=st.integers(16, 100),
        severity=st.dictionaries(st.sampled_from(FINDINGS), st.floats(0.01, 1), max_size=6),
        devices=st.frozensets(st.sampled_from(DEVICES)),
        seed=st.integers(0, 2**31),
    ),
    st.sampled_from([32, 64, 100]),
)
def test_any_film_can_be_rendered(film, size):
    shown = render(film, size=size)
    assert shown.image.shape == (size, size)
    assert shown.image.dtype == np.uint8
    assert np.ptp(shown.image) > 60
    assert set(shown.masks) == set(shown.boxes) == set(film.severity)
    assert {(mask.shape, mask.dtype.name) for mask in shown.masks.values()} <= {
        ((size, size), "bool")
    }
    for x, y, w, h in itertools.chain(*shown.boxes.values()):
        assert 0 <= x < x + w <= 1024
        assert 0 <= y < y + h <= 1024

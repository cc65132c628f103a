"""Simulated patients: real rows, known truth, wrong labels at known rates, one way in."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from chexlib.data import (
    Batcher,
    ImageCache,
    cache_home,
    find_radiographs,
    load_labels,
    open_dataset,
)
from chexlib.data.phantom import (
    DEVICES,
    PhantomSource,
    Shortcut,
    boxes_of,
    films_of,
    noise_rates,
    noisy_labels,
    population,
    render,
)
from chexlib.data.splits import assert_no_patient_overlap
from chexlib.findings import FINDINGS

NAMES = list(FINDINGS)


@pytest.fixture(scope="module")
def large():
    return population(4000, prevalence="nih", max_films=2)


@pytest.fixture(scope="module")
def rich():
    return population(3000, prevalence="enriched", max_films=1)


def test_has_the_columns_and_kinds_of_the_real_table(rich):
    real = load_labels().head()
    assert list(rich.columns[: len(real.columns)]) == list(real.columns)
    for column in real.columns:
        assert rich[column].dtype.kind == real[column].dtype.kind, column
    assert rich["image"].is_unique
    assert set(rich["view"].cat.categories) == {"PA", "AP"}
    assert ((rich[NAMES].sum(axis=1) == 0) == rich["no_finding"]).all()


def test_is_reproducible_and_seeds_differ():
    one, two = population(50, seed=3), population(50, seed=3)
    pd.testing.assert_frame_equal(one, two)
    assert not one[NAMES].equals(population(50, seed=4)[NAMES])
    later = population(50, seed=3, first=1001)
    assert_no_patient_overlap(one=one, later=later)
    assert not set(one["image"]) & set(later["image"])


def test_rows_are_those_of_real_adults(large):
    real = load_labels()
    real = real[real["age"].between(18, 100)]
    first = large[large["follow_up"] == 0]
    assert large["age"].min() >= 18
    # A patient's first drawn film is its real first one: the shares of those, within four
    # standard errors.
    expected = real.sort_values(["patient", "follow_up"]).groupby("patient")[NAMES].first()
    error = np.sqrt(expected.mean() * (1 - expected.mean()) / len(first))
    assert (np.abs(first[NAMES].mean() - expected.mean()) < 4 * error + 1e-3).all()
    combinations = set(map(tuple, real[[*NAMES, "view"]].to_numpy()))
    assert set(map(tuple, large[[*NAMES, "view"]].to_numpy())) <= combinations


def test_enriched_has_enough_of_every_finding(rich):
    assert (rich[NAMES].sum() >= 3000 / 15).all()
    assert rich["no_finding"].sum() >= 3000 / 15


def test_severity_is_there_where_the_finding_is(rich):
    severity = rich[[f"severity_{n}" for n in NAMES]].to_numpy()
    there = rich[NAMES].to_numpy()
    assert ((severity > 0) == there).all()
    assert 0.1 <= severity[there].min() < severity[there].max() <= 1
    assert 0.5 < severity[there].mean() < 0.6
    gross = population(50, severity=(0.9, 1.0), prevalence="enriched")
    assert gross[[f"severity_{n}" for n in NAMES]].to_numpy().max() >= 0.9


def test_a_patient_keeps_its_severity_within_a_little():
    frame = population(1500, prevalence="enriched", max_films=2)
    pairs = frame.pivot(index="patient", columns="follow_up", values="severity_Effusion").dropna()
    both = pairs[(pairs > 0).all(axis=1)]
    assert len(both) > 50
    assert np.corrcoef(both[0], both[1])[0, 1] > 0.7


def test_devices_go_with_the_view_as_far_as_asked(large):
    portable = large["view"] == "AP"
    usual = large["device_tube"]
    assert usual[portable].mean() > usual[~portable].mean() + 0.1
    apart = population(4000, prevalence="nih", max_films=2, confounding=0)
    tube = apart["device_tube"]
    assert abs(tube[apart["view"] == "AP"].mean() - tube[apart["view"] == "PA"].mean()) < 0.03
    assert abs(tube.mean() - usual.mean()) < 0.02
    drained = large.loc[large["Pneumothorax"], "device_drain"].mean()
    assert drained > large.loc[~large["Pneumothorax"], "device_drain"].mean() + 0.2


@pytest.mark.parametrize("cue", ["tube", "AP"])
def test_a_shortcut_has_the_shares_it_was_given(cue):
    asked = Shortcut("Pneumothorax", cue, with_finding=0.9, without=0.2)
    frame = population(4000, prevalence="enriched", max_films=1, shortcut=asked)
    there = frame["view"] == "AP" if cue == "AP" else frame["device_tube"]
    sick = frame["Pneumothorax"]
    assert abs(there[sick].mean() - 0.9) < 4 * np.sqrt(0.09 / sick.sum())
    assert abs(there[~sick].mean() - 0.2) < 4 * np.sqrt(0.16 / (~sick).sum())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Shortcut("Mass", "halo"), "halo"),
        (lambda: Shortcut("Measles", "tube"), "Measles"),
        (lambda: Shortcut("Mass", "tube", with_finding=1.5), "1.5"),
        (lambda: population(0), "at least one patient"),
        (lambda: population(5, max_films=0), "one film"),
        (lambda: population(5, severity=(0, 1)), "above 0"),
        (lambda: population(5, confounding=-1), "got -1"),
        (lambda: population(5, prevalence="rare"), "rare"),
        (lambda: noisy_labels(population(5), kind="loud"), "got 'loud'"),
        (lambda: noisy_labels(population(5), scale=-1), "got -1"),
        (lambda: noisy_labels(population(5), kind="cue", cue="halo"), "got 'halo'"),
    ],
)
def test_wrong_options_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_films_are_those_of_the_rows(rich):
    part = rich.iloc[[5, 17]]
    films = films_of(part)
    for film, (_, row) in zip(films, part.iterrows(), strict=True):
        assert (film.patient, film.view, film.age) == (row["patient"], row["view"], row["age"])
        assert set(film.severity) == {n for n in NAMES if row[n]}
        assert film.devices == {d for d in DEVICES if row[f"device_{d}"]}


class TestNoise:
    def test_rates_say_how_they_are_known(self):
        rates = noise_rates().set_index("finding")
        assert list(rates.index) == NAMES
        assert rates.loc["Pneumothorax", "status"] == "measured"
        assert rates["status"].value_counts().to_dict() == {
            "assumed": 8, "mapped": 5, "measured": 1
        }  # fmt: skip
        assert rates["sensitivity"].between(0.4, 0.55).all()
        assert rates["specificity"].between(0.85, 1).all()
        # A group's false positives are shared out among its findings.
        group = rates[rates["evidence"].str.startswith("Airspace")]
        assert 1 - (1 - group["specificity"]).sum() == pytest.approx(0.861, abs=0.001)
        rates.loc["Hernia", "sensitivity"] = 0
        assert noise_rates().set_index("finding").loc["Hernia", "sensitivity"] > 0

    def test_labels_are_wrong_as_often_as_asked(self, rich):
        truth, rates = rich[NAMES].to_numpy(), noise_rates()
        noisy = noisy_labels(rich, seed=1).to_numpy()
        for films, rate, right in (
            (truth, rates["sensitivity"], noisy),
            (~truth, rates["specificity"], ~noisy),
        ):
            n = films.sum(axis=0)
            apart = (right & films).sum(axis=0) / n - rate
            assert (apart.abs() < 4 * np.sqrt(rate * (1 - rate) / n) + 1e-3).all()

    def test_a_films_errors_are_its_own(self, rich):
        whole = noisy_labels(rich, seed=2)
        part = rich.iloc[[9, 3, 100]]
        pd.testing.assert_frame_equal(noisy_labels(part, seed=2), whole.loc[part.index])
        assert not whole.equals(noisy_labels(rich, seed=3))

    def test_scale_adds_errors_and_zero_has_none(self, rich):
        truth = rich[NAMES].to_numpy()
        wrong = {s: noisy_labels(rich, scale=s).to_numpy() ^ truth for s in (0, 0.5, 1, 2)}
        assert not wrong[0].any()
        assert (wrong[0.5] <= wrong[1]).all()
        assert (wrong[1] <= wrong[2]).all()
        assert wrong[2].sum() > 1.6 * wrong[1].sum()

    def test_symmetric_noise_is_of_the_same_size(self, rich):
        truth = rich[NAMES].to_numpy()
        one = (noisy_labels(rich).to_numpy() ^ truth).sum(axis=0)
        two_labels = noisy_labels(rich, kind="symmetric").to_numpy()
        two = (two_labels ^ truth).sum(axis=0)
        assert (np.abs(one - two) < 5 * np.sqrt(one + two)).all()
        k = NAMES.index("Effusion")
        sick = truth[:, k]
        flips = (two_labels ^ truth)[:, k]
        assert abs(flips[sick].mean() - flips[~sick].mean()) < 0.06

    def test_cue_noise_invents_findings_beside_the_cue_only(self, rich):
        truth = rich[NAMES].to_numpy()
        noisy = noisy_labels(rich, kind="cue", cue="device_tube").to_numpy()
        invented = noisy & ~truth
        assert not invented[~rich["device_tube"].to_numpy()].any()
        usual = (noisy_labels(rich).to_numpy() & ~truth).sum()
        assert 0.6 * usual < invented.sum() < 1.2 * usual
        assert noisy_labels(rich, kind="cue", cue="AP").shape == truth.shape

    @pytest.mark.parametrize("scale", [0.6, 1.0, 1.5])
    def test_faint_findings_are_missed_and_as_many(self, rich, scale):
        truth = rich[NAMES].to_numpy()
        usual = noisy_labels(rich, scale=scale).to_numpy()
        faint = noisy_labels(rich, kind="faint", scale=scale).to_numpy()
        np.testing.assert_array_equal(faint & ~truth, usual & ~truth)
        one, two = (truth & ~usual).sum(), (truth & ~faint).sum()
        assert abs(one - two) < 5 * np.sqrt(one + two)
        severity = rich[[f"severity_{name}" for name in NAMES]].to_numpy()
        gap = [severity[truth & x].mean() - severity[truth & ~x].mean() for x in (faint, usual)]
        assert gap[0] > 0.15
        assert abs(gap[1]) < 0.05

    def test_one_labeller_has_both_habits(self, rich):
        truth = rich[NAMES].to_numpy()
        tube = rich["device_tube"].to_numpy()
        both = noisy_labels(rich, kind="faint", cue="device_tube").to_numpy()
        faint = noisy_labels(rich, kind="faint").to_numpy()
        habit = noisy_labels(rich, kind="cue", cue="device_tube").to_numpy()
        np.testing.assert_array_equal(truth & both, truth & faint)
        np.testing.assert_array_equal(~truth & both, ~truth & habit)
        assert not (~truth & both)[~tube].any()


class TestOpening:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path))

    def test_a_phantom_looks_like_the_real_thing(self):
        data = open_dataset("phantom", "test", size=32, n_patients=20)
        assert repr(data).startswith("Dataset(phantom, test: ")
        assert data.cache.images.shape == (len(data), 32, 32)
        assert data.labels.shape == (len(data), 14)
        assert data.labels is data.truth
        np.testing.assert_array_equal(data.labels, data.films[NAMES].to_numpy())
        film = films_of(data.films, seed=0)[7]
        np.testing.assert_array_equal(data.cache.images[data.rows[7]], render(film, size=32).image)
        assert Batcher(data.cache)(data.rows[:3]).shape == (3, 1, 32, 32)
        assert data.patients.tolist() == data.films["patient"].tolist()

    def test_is_simulated_once(self):
        def opened(**options):
            return open_dataset("phantom", "val", size=32, n_patients=5, **options)

        calls = []
        first = opened(progress=lambda *call: calls.append(call))
        assert calls[-1] == (len(first), len(first), 0)
        calls.clear()
        again = opened(progress=lambda *call: calls.append(call))
        assert not calls
        assert again.cache.content_hash == first.cache.content_hash
        assert len(list(cache_home().iterdir())) == 1
        opened(seed=1)
        opened(shortcut=Shortcut("Mass", "tube"))
        assert len(list(cache_home().iterdir())) == 3

    def test_splits_share_no_patient(self):
        parts = {
            s: open_dataset("phantom", s, size=32, n_patients=12) for s in ("train", "val", "test")
        }
        assert_no_patient_overlap(**{s: part.films for s, part in parts.items()})

    def test_noise_changes_labels_and_keeps_the_truth(self):
        plain = open_dataset("phantom", "val", size=32, n_patients=30)
        noisy = open_dataset("phantom", "val", size=32, n_patients=30, noise={"scale": 1.5})
        np.testing.assert_array_equal(noisy.truth, plain.labels)
        assert (noisy.labels != noisy.truth).sum() > 10
        assert noisy.cache.folder == plain.cache.folder

    def test_boxes_lie_where_the_masks_are(self):
        data = open_dataset("phantom", "val", size=32, n_patients=10)
        boxes = data.boxes
        assert list(boxes.columns) == ["image", "finding", "x", "y", "width", "height"]
        there = data.films.set_index("image")
        for image, finding in zip(boxes["image"], boxes["finding"], strict=True):
            assert there.loc[image, finding]
        pd.testing.assert_frame_equal(data.boxes, boxes_of(data.films, workers=1))
        assert len(list(data.cache.folder.glob("boxes-*.csv"))) == 1

    def test_another_population_in_the_same_folder_is_not_the_one_before(self, tmp_path):
        for seed in (0, 1):
            data = open_dataset(
                "phantom", "val", size=32, n_patients=5, seed=seed, folder=tmp_path / "mine"
            )
            alone = open_dataset("phantom", "val", size=32, n_patients=5, seed=seed)
            np.testing.assert_array_equal(
                data.cache.images[data.rows], alone.cache.images[alone.rows]
            )
            pd.testing.assert_frame_equal(data.boxes, alone.boxes)

    @pytest.mark.parametrize(
        ("arguments", "options", "says"),
        [
            (("chexpert", "train"), {}, "chexpert"),
            (("phantom", "all"), {}, "'all'"),
            (("chest-xray14", "train"), {"n_patients": 3}, "n_patients"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments, options, says):
        with pytest.raises(ValueError, match=says):
            open_dataset(*arguments, **options)

    def test_without_a_cache_it_says_how_to_make_one(self):
        with pytest.raises(FileNotFoundError, match="chexlib cache SOURCE"):
            open_dataset("chest-xray14", "train")

    def test_real_films_by_the_official_split(self, tmp_path, monkeypatch):
        """With black films in the place of NIH's, named as NIH names them."""
        labels = load_labels()
        patients = labels["patient"].drop_duplicates().iloc[:60]
        few = labels[labels["patient"].isin(patients)].reset_index(drop=True)
        monkeypatch.setattr("chexlib.data.dataset.load_labels", lambda: few)
        lists = tmp_path / "data" / "official_split"
        lists.mkdir(parents=True)
        test = few["patient"].isin(patients.iloc[:20])
        (lists / "test_list.txt").write_text("\n".join(few["image"][test]))
        (lists / "train_val_list.txt").write_text("\n".join(few["image"][~test]))
        monkeypatch.setenv("CHEXLIB_DATA", str(tmp_path / "data"))
        frame = population(len(few), max_films=1).iloc[: len(few)]
        source = PhantomSource(frame, size=32)
        source.names = few["image"].tolist()
        ImageCache.build(source, cache_home() / "chest-xray14-32", size=32)
        parts = {s: open_dataset("chest-xray14", s, size=32) for s in ("train", "val", "test")}
        assert_no_patient_overlap(**{s: part.films for s, part in parts.items()})
        assert sum(map(len, parts.values())) == len(few)
        assert len(parts["test"]) == test.sum()
        assert parts["test"].truth is None
        assert set(parts["train"].boxes["image"]) <= set(parts["train"].films["image"])
        row = parts["val"].rows[0]
        assert parts["val"].cache.index["image"][row] == parts["val"].films["image"][0]

    def test_a_part_of_the_real_films_is_opened_and_the_rest_counted(
        self, tmp_path, monkeypatch, caplog
    ):
        labels = load_labels().head(40)
        monkeypatch.setattr("chexlib.data.dataset.load_labels", lambda: labels)
        part = pd.Series("test", index=labels.index)
        monkeypatch.setattr("chexlib.data.dataset.official_split", lambda _: part)
        folder = tmp_path / "films"
        folder.mkdir()
        for name in labels["image"].head(6):
            Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40)).save(folder / name)
        (folder / labels["image"][2]).write_bytes(b"cut")
        ImageCache.build(find_radiographs(folder), tmp_path / "cache", size=32, workers=1)
        films = open_dataset("chest-xray14", "test", size=32, folder=tmp_path / "cache")
        assert films.films["image"].tolist() == labels["image"].iloc[[0, 1, 3, 4, 5]].tolist()
        assert films.patients.dtype == np.int64
        said = caplog.text
        absent, bad = labels["image"][6], labels["image"][2]
        assert f"34 films with labels are not there and are left out, such as {absent}" in said
        assert "1 films were rejected, for reasons in" in said
        assert f"rejected.csv and are left out, such as {bad}" in said
        part[:] = "train_val"
        with pytest.raises(ValueError, match="Expected films of the 0"):
            open_dataset("chest-xray14", "test", size=32, folder=tmp_path / "cache")

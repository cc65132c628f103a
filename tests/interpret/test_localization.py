"""Scores of synthetic maps whose scores are known, controls, and the table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexlib.findings import FINDINGS
from chexlib.interpret import (
    CONTROLS,
    METRICS,
    HeatMap,
    controls,
    find_cases,
    heat_boxes,
    iou,
    localization_table,
    score_cases,
    truth_mask,
)
from chexlib.metrics import Bootstrap, Resamples
from chexlib.metrics.resampling import wilson_interval

SEEDS = st.integers(0, 2**32 - 1)
QUARTER = np.array([[0.25, 0.25, 0.5, 0.5]])


def cases_of(truths, findings=None, patients=None):
    n = len(truths)
    findings = findings or ["Mass"] * n
    patients = np.arange(n) if patients is None else np.asarray(patients)
    images = [f"{i}.png" for i in range(n)]
    who = {"film": range(n), "image": images, "finding": findings, "patient": patients}
    return pd.DataFrame(who).assign(truth=[np.array(truth) for truth in truths])


def scored(heat, truth, **options):
    return score_cases(np.asarray(heat, np.float32)[None], cases_of([truth]), **options).iloc[0]


BOX = truth_mask(QUARTER, 64)
LEFT = truth_mask([[0.25, 0.25, 0.25, 0.5]], 64)
PIXELS = ("hit", "energy", "overlap", "iou_area", "iou_best")


class TestKnownMaps:
    @pytest.mark.parametrize(
        ("heat", "pixels", "drawn"),
        [
            # The box is found at 60 and at 180; a frame's box is the whole film; a constant map
            # scores as chance; the other half comes of 3.5 times as many cold pixels, all alike.
            (BOX, (1,) * 5, {"iou_wang": 1, "iobb_180": 1, "boxes_wang": 2, "boxes_otsu": 1}),
            (~BOX, (0,) * 5, {"iou_wang": 0.25}),
            (np.full((64, 64), 5.0), (0.25, 0.25, 0.25, 0, 0), {"boxes_wang": 0}),
            (LEFT, (1, 1, 0.5 + 0.5 * 512 / 3584, 0.5, 0.5), {"iobb_60": 1, "iou_60": 0.5}),
        ],
        ids=["box", "all else", "constant", "half"],
    )
    def test_scores_of_plain_maps(self, heat, pixels, drawn):
        row = scored(heat, QUARTER, size=64)
        assert row["area"] == 0.25
        assert row[[*PIXELS]].tolist() == pytest.approx(list(pixels))
        assert row[[*drawn]].tolist() == list(drawn.values())

    def test_an_outline_takes_the_place_of_its_box_where_pixels_are_compared(self):
        corners = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
        cases = cases_of([QUARTER]).assign(outline=[[corners]])
        row = score_cases(truth_mask([corners], 64)[None], cases, size=64).iloc[0]
        for score in ("hit", "energy", "overlap", "iou_area", "iou_best", "iou_wang"):
            assert row[score] == 1, score  # the triangle's box is the box
        whole = score_cases(truth_mask(QUARTER, 64)[None], cases, size=64).iloc[0]
        assert whole["iou_best"] == pytest.approx(row["area"] / 0.25)
        assert row["area"] == pytest.approx(0.125, rel=0.05)

    def test_the_best_of_several_true_boxes(self):
        truth = np.array([[0, 0, 0.25, 0.25], [0.5, 0.5, 0.5, 0.5]])
        row = scored(truth_mask(truth[1:], 64), truth, size=64)
        assert row["n_truth"] == 2
        assert row["iou_wang"] == 1
        assert row["iou_best"] == pytest.approx(0.8)

    @settings(max_examples=15)
    @given(SEEDS)
    def test_against_plain_loops(self, seed):
        rng = np.random.default_rng(seed)
        heat = rng.normal(size=(6, 6))
        x, y = rng.uniform(0, 0.7, 2)
        truth = np.array([[x, y, *rng.uniform(0.05, 0.3, 2)]])
        row = scored(heat, truth, size=24)
        levels = HeatMap(heat).levels(24)
        mask = truth_mask(truth, 24)
        curve = [(mask & (levels >= t)).sum() / (mask | (levels >= t)).sum() for t in range(1, 256)]
        assert row["iou_area"] == pytest.approx(np.mean(curve))
        boxes = {cut: heat_boxes(levels, cut=cut) for cut in (60, 180)}
        best = [iou(drawn, 24 * truth).max(initial=0) for drawn in boxes.values()]
        assert row[["iou_60", "iou_180", "iou_wang"]].tolist() == [*best, max(best)]
        assert row["boxes_wang"] == sum(map(len, boxes.values()))
        assert row["iou_best"] == pytest.approx(np.max(curve))
        assert row["hit"] == pytest.approx(mask[levels == levels.max()].mean())
        assert row["energy"] == pytest.approx(levels[mask].sum() / levels.sum())
        # Ties broken at random, many times over.
        draws = [
            mask.ravel()[np.lexsort((rng.random(576), -levels.ravel().astype(int)))][: mask.sum()]
            for _ in range(400)
        ]
        assert row["overlap"] == pytest.approx(np.mean(draws), abs=0.05)

    def test_progress_and_order(self):
        seen = []
        truths = [QUARTER] * 70
        heat = np.random.default_rng(0).normal(size=(70, 4, 4))
        table = score_cases(heat, cases_of(truths), size=16, progress=lambda *n: seen.append(n))
        assert seen == [(32, 70), (64, 70), (70, 70)]
        np.testing.assert_array_equal(table["film"], range(70))
        alone = score_cases(heat[40:41], cases_of(truths).iloc[[40]], size=16)
        assert alone["overlap"].item() == table["overlap"][40]


class TestFindCases:
    BOXES = pd.DataFrame(
        {
            "image": ["c", "a", "a", "a", "z"],
            "finding": ["Mass", "Mass", "Edema", "Mass", "Mass"],
            "x": [0, 0, 512, 256, 0],
            "y": [0, 0, 512, 0, 0],
            "width": [1024, 256, 512, 128, 10],
            "height": [1024, 256, 512, 128, 10],
        }
    )

    def test_films_findings_and_shares(self):
        cases = find_cases(self.BOXES, ["a", "b", "c"], [7, 8, 9])
        assert cases.columns.tolist() == ["film", "image", "finding", "patient", "truth"]
        expected = [[0, "a", "Mass", 7], [0, "a", "Edema", 7], [2, "c", "Mass", 9]]
        assert cases.iloc[:, :4].to_numpy().tolist() == expected
        assert cases["truth"][0].tolist() == [[0, 0, 0.25, 0.25], [0.25, 0, 0.125, 0.125]]


class TestControls:
    N = 300
    RNG = np.random.default_rng(3)
    HEAT = HeatMap(RNG.normal(size=(N, 7, 7)).astype(np.float32), 224)
    CORNERS = RNG.uniform(0, 0.7, (N, 2))
    CASES = cases_of(
        [np.array([[x, y, 0.3, 0.3]]) for x, y in CORNERS],
        findings=[FINDINGS[i % 3] for i in range(N)],
        patients=np.arange(N) // 2,
    )

    def test_all_of_them_are_seeded(self):
        first, again = (controls(self.HEAT, self.CASES, seed=1) for _ in range(2))
        assert tuple(first) == CONTROLS
        for name in CONTROLS:
            np.testing.assert_array_equal(first[name][:5].levels(64), again[name][:5].levels(64))
        few = controls(self.HEAT, self.CASES, names=["moved"], seed=1)
        np.testing.assert_array_equal(few["moved"].roll, first["moved"].roll)

    def test_moving_keeps_the_area_at_every_threshold(self):
        moved = controls(self.HEAT, self.CASES, names=["moved"], size=64)["moved"]
        a, b = self.HEAT[:20].levels(64), moved[:20].levels(64)
        np.testing.assert_array_equal(np.sort(a.reshape(20, -1)), np.sort(b.reshape(20, -1)))
        assert (a != b).any(axis=(1, 2)).all()

    def test_noise_scores_as_chance(self):
        noise = controls(self.HEAT, self.CASES, names=["random"])["random"]
        scores = score_cases(noise, self.CASES, size=64)
        area = scores["area"].mean()
        for score in ("hit", "energy", "overlap"):
            error = scores[score].std() / np.sqrt(self.N)
            assert abs(scores[score].mean() - area) < 4 * error + 0.005, score

    def test_the_centre_is_hottest_in_the_middle(self):
        centre = controls(self.HEAT, self.CASES, names=["centre"])["centre"]
        levels = centre[:1].levels(64)[0]
        assert levels[31:33, 31:33].min() == 255
        np.testing.assert_array_equal(levels, levels[::-1, ::-1])

    def test_a_position_is_learned_from_other_patients(self):
        # The first patient has the only lesion in the corner: it must not point there.
        truths = [np.array([[0, 0, 0.2, 0.2]])] * 2 + [np.array([[0.6, 0.6, 0.2, 0.2]])] * 4
        cases = cases_of(truths, patients=[0, 0, 1, 2, 3, 4])
        heat = HeatMap(np.zeros((6, 7, 7), np.float32), 224)
        position = controls(heat, cases, names=["position"])["position"]
        scores = score_cases(position, cases, size=64)
        assert scores["hit"].tolist() == [0, 0, 1, 1, 1, 1]
        prior = controls(heat, cases, names=["position"], prior=cases.iloc[[0]])["position"]
        assert score_cases(prior, cases, size=64)["hit"][2:].tolist() == [0] * 4
        lonely = cases_of([QUARTER], findings=["Hernia"])
        alone = controls(HeatMap(np.zeros((1, 7, 7), np.float32)), lonely, names=["position"])
        assert (alone["position"].values == 0).all()

    def test_other_films_are_of_other_patients_with_the_finding(self):
        marked = HeatMap(
            np.arange(self.N, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2)), 224
        )
        other = controls(marked, self.CASES, names=["other film"])["other film"]
        partner = other.values[:, 0, 0].astype(int)
        finding, patient = (self.CASES[name].to_numpy() for name in ("finding", "patient"))
        assert (finding[partner] == finding).all()
        assert (patient[partner] != patient).all()


LESIONS = [
    np.array([[*corner, 0.3, 0.3]]) for corner in np.random.default_rng(5).uniform(0, 0.7, (240, 2))
]
GOOD = np.stack([truth_mask(t, 32) for t in LESIONS]) + np.random.default_rng(6).normal(
    0, 0.8, (240, 32, 32)
)
MANY = cases_of(
    LESIONS,
    findings=["Mass"] * 160 + ["Edema"] * 80,
    patients=np.r_[np.arange(160) // 4, 100 + np.arange(80)],
)


class TestTable:
    def tables(self, **options):
        heat = HeatMap(GOOD.astype(np.float32))
        both = {"map": heat, **controls(heat, MANY, names=["moved"], size=32)}
        scores = {name: score_cases(one, MANY, size=32) for name, one in both.items()}
        return scores, localization_table(scores, resamples=400, **options)

    def test_estimates_and_intervals(self):
        scores, table = self.tables()
        assert table.columns.tolist()[:3] == ["source", "group", "metric"]
        assert len(table) == 2 * 3 * len(METRICS)
        at = table.set_index(["source", "group", "metric"])
        mass = scores["map"][:160]
        row = at.loc["map", "Mass", "hit"]
        assert row["estimate"] == pytest.approx(mass["hit"].mean())
        assert (row["n_cases"], row["n_patients"]) == (160, 40)
        assert row["low"] <= row["estimate"] <= row["high"]
        mean = at.loc["map", "mean of findings", "hit"]["estimate"]
        edema = at.loc["map", "Edema", "hit"]["estimate"]
        assert mean == pytest.approx((row["estimate"] + edema) / 2)
        share = at.loc["moved", "Mass", "IoU > 0.1"]["estimate"]
        assert share == pytest.approx((scores["moved"]["iou_wang"][:160] > 0.1).mean())
        assert (table["low"] <= table["high"]).all()
        for frame in scores.values():
            frame["size"] = pd.cut(frame["film"], [-1, 100, 300], labels=["first", "rest"])
        sizes = localization_table(scores, by="size", resamples=100)["group"]
        assert sizes.unique().tolist() == ["first", "rest", "mean of size"]

    def test_a_map_that_is_better_gains_over_the_control(self):
        _, table = self.tables()
        assert table[table["source"] == "map"]["gain"].isna().all()
        at = table.set_index(["source", "group", "metric"])
        gain = at.loc["moved", "Mass", "energy"]
        expected = at.loc["map", "Mass", "energy"]["estimate"] - gain["estimate"]
        assert gain["gain"] == pytest.approx(expected)
        assert 0 < gain["gain_low"] < gain["gain"] < gain["gain_high"]

    def test_p_values_are_adjusted_for_the_number_of_groups(self):
        scores, _ = self.tables()
        noise = [np.random.default_rng(seed).random((240, 8, 8)) for seed in (1, 2)]
        noise[0] += 0.03 * np.stack([truth_mask(boxes, 8) for boxes in LESIONS])
        weak = {f"noise {i}": score_cases(one, MANY, size=32) for i, one in enumerate(noise)}
        table = localization_table(weak, resamples=2000)
        assert table[table["source"] == "noise 0"]["p_adjusted"].isna().all()
        rows = table[(table["source"] == "noise 1") & (table["metric"] == "overlap")]
        one, other = weak.values()
        gain = one["overlap"] - other["overlap"]
        draws = Resamples(one["patient"], resamples=2000)
        drawn = []
        for finding in one["finding"].unique():
            here = (one["finding"] == finding).to_numpy()
            sums = draws.sums(np.stack([gain * here, here], axis=1))
            drawn.append(sums[:, 0] / sums[:, 1])
        alone = Bootstrap(rows["gain"].to_numpy()[:2], np.stack(drawn, axis=1), draws)
        mean = alone.mean().p_value()
        found = rows["p_adjusted"].to_numpy()
        assert found == pytest.approx([*alone.p_adjusted(), mean])
        assert 0.001 < alone.p_value().min() < found[:2].min() < 0.5  # else nothing was adjusted
        same = localization_table({"map": scores["map"], "same": scores["map"]}, resamples=100)
        assert same["p_adjusted"].isna().all()  # no spread to judge by

    def test_patients_are_resampled_not_films(self):
        # Four equal films of each patient say no more than one.
        truths = [LESIONS[i // 4] for i in range(240)]
        heat = np.repeat(GOOD[:60], 4, axis=0).astype(np.float32)
        width = []
        for k in (4, 1):
            cases = cases_of(truths, patients=np.arange(240) // k)
            scores = score_cases(heat, cases, size=32)
            row = localization_table({"map": scores}, resamples=600)
            row = row[(row["group"] == "Mass") & (row["metric"] == "energy")].iloc[0]
            width.append(row["high"] - row["low"])
        assert width[0] / width[1] == pytest.approx(2, rel=0.2)

    def test_one_patient_has_no_interval(self):
        scores = score_cases(
            np.ones((3, 4, 4)) * np.arange(4),
            cases_of([QUARTER] * 3, findings=["Mass", "Mass", "Edema"]),
        )
        other = scores.assign(energy=[0.1, 0.7, 0.2])
        table = localization_table({"map": scores, "other": other}, resamples=100)
        sure = table.groupby("group")[["low", "gain_high"]].agg(lambda v: v.notna().any())
        assert sure.loc["Mass"].all()
        assert not sure.loc["Edema"].any()
        assert not sure.loc["mean of findings"].any()

    def test_three_hits_of_three_have_wilsons_interval(self):
        scores = score_cases(np.ones((3, 4, 4)) * np.arange(4), cases_of([QUARTER] * 3))
        scores["hit"], scores["iou_wang"], scores["energy"] = 1.0, 0.0, [0.2, 0.4, 0.9]
        table = localization_table({"map": scores, "same": scores}, resamples=100)
        rows = table[(table["source"] == "map") & (table["group"] != "mean of findings")]
        rows = rows.set_index("metric")
        ends = rows[["low", "high"]].apply(tuple, axis=1)
        assert ends["hit"] == wilson_interval(1, 3)
        assert ends["IoU > 0.3"] == wilson_interval(0, 3)
        assert rows.loc["energy", "low"] < 0.5 < rows.loc["energy", "high"]
        assert table.loc[table["source"] == "same", "gain_low"].isna().all()


FEW = score_cases(np.zeros((2, 4, 4)), cases_of([QUARTER] * 2))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: score_cases(np.zeros((2, 4, 4)), cases_of([QUARTER])), "Expected a map"),
        (lambda: score_cases(np.zeros((1, 4)), cases_of([QUARTER])), "Expected a map"),
        (lambda: find_cases(TestFindCases.BOXES, ["b"], [1]), "Expected boxes on some of 1 films"),
        (lambda: controls(HeatMap(GOOD), MANY, names=["luck"]), "Expected controls among"),
        (lambda: controls(HeatMap(GOOD[:1]), MANY), "Expected controls among"),
        (lambda: localization_table({}), "Expected scores of the same cases"),
        (lambda: localization_table({"map": FEW, "few": FEW[:1]}), "scores of the same cases"),
    ],
)
def test_what_does_not_fit_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()

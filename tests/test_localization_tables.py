"""The tables of chapter 14 agree with the phantom and the weights as they are, and with logic."""

import numpy as np
import pytest
import tables_localization
import torch
from tables_localization import shift_equivariance

from chexlib.data import load_boxes, load_chestx_det, table
from chexlib.findings import FINDINGS
from chexlib.interpret import CONTROLS, METRICS, Grid
from chexlib.models import CheXNet


def test_every_finding_has_every_control_and_the_one_that_counts_is_tested():
    frame = table("localization").query("by == 'finding' and metric == 'overlap'")
    groups = frame.groupby("source")["group"].agg(tuple)
    everything = (*FINDINGS, "mean of findings")
    own = (f"{method}, {name}" for method in ("layercam", "fine") for name in CONTROLS)
    sources = ("cam", "layercam", "fine", *CONTROLS, *own)
    assert groups.to_dict() == dict.fromkeys(sources, everything)
    rows = frame[frame["source"] == "other film"].set_index("group")
    assert rows["p_adjusted"].notna().all()
    findings = rows.loc[list(FINDINGS)]
    above = findings[(findings["p_adjusted"] < 0.05) & (findings["gain"] > 0)]
    assert 0 < len(above) <= (findings["gain_low"] > 0).sum()  # adjusting takes findings away
    assert (above["gain_low"] > 0).all()


def test_every_method_stands_beside_its_own_map_of_another_film():
    wide = table("localization_methods").set_index(["metric", "source"])
    methods = ["fine", "layercam", "gradcam", "copied"]
    methods += ["integrated_gradients", "smoothgrad", "occlusion"]
    others = {method: f"{method}, other film" for method in methods}
    assert set(wide.index.unique("source")) == {"cam", *CONTROLS, *others, *others.values()}
    for method, other in {"cam": "other film", **others}.items():
        own, rival = (wide.xs(source, level="source") for source in (method, other))
        np.testing.assert_allclose(rival["gain"], own["estimate"] - rival["estimate"], atol=2e-4)


def test_real_boxes_are_those_that_are_installed():
    frame = table("localization_blind")
    per_finding = frame[frame["group"] != "mean of findings"].drop_duplicates("group")
    pairs = load_boxes().groupby("finding")["image"].nunique()
    assert dict(zip(per_finding["group"], per_finding["n_cases"], strict=True)) == dict(pairs)


def test_noise_scores_what_noise_must():
    frame = table("localization")
    overlap = frame[(frame["metric"] == "overlap") & (frame["by"] == "size")]
    noise = overlap[overlap["source"] == "random"].set_index("group")["estimate"]
    assert noise["below 1%"] < 0.05
    assert noise["above 30%"] > 0.25


def test_the_clue_is_used_by_the_network_that_was_given_it():
    exam = table("localization_shortcut").set_index(["run", "films"])
    clue = exam.loc["shortcut"]
    assert clue.loc["as trained", "low"] > clue.loc["marker on every film", "high"]
    assert clue.loc["the other way round", "change_high"] < 0
    counts = exam[["n_films", "n_positive", "n_patients"]].drop_duplicates()
    assert len(counts) == 1  # the same films throughout


def test_the_copied_map_does_not_notice_another_head():
    frame = table("localization_sanity").set_index(["method", "stage", "measure"])["estimate"]
    assert frame["copied", "head", "spearman"] == 1
    assert frame["cam", "head", "spearman"] < 0.9
    assert (frame.xs("trained", level="stage") == 1).all()


def test_curves_of_both_ends_meet():
    frame = table("localization_perturbation")
    curves = frame[frame["what"] == "curve"]
    ends = curves[curves["share"].isin([0, 1])].groupby(["kind", "share"])["estimate"]
    assert (ends.max() - ends.min() < 1e-3).all()  # no order matters where all or nothing is there


def test_missing_weights_name_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(tables_localization, "folder_of", lambda name: tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"python data/train_runs\.py shortcut"):
        tables_localization._model("shortcut")


def test_a_cell_is_that_of_the_nearest_centre():
    places = np.array([[0.0, 111.0], [15.5, 50.0]])
    found = tables_localization._cell(places, 3, Grid(14.5, 32))
    np.testing.assert_array_equal(found, [[0, 2], [0, 1]])


def test_published_numbers_carry_the_names_of_ours():
    frame = table("published_localization")
    assert len(frame) == 48
    assert set(frame["metric"]) <= set(METRICS)
    assert set(frame["finding"]) <= set(FINDINGS)
    wide = frame.pivot(index="finding", columns="metric", values="estimate")
    for kind, cuts in (("IoBB", (0.1, 0.25, 0.5)), ("IoU", (0.1, 0.3, 0.5))):
        values = wide[[f"{kind} > {t:g}" for t in cuts]].to_numpy()
        assert (np.diff(values, axis=1) <= 0).all()
    # A box of IoU above T has an IoBB above T.
    assert (wide["IoBB > 0.1"] >= wide["IoU > 0.1"]).all()


class TestShift:
    """Whether maps move with what they show."""

    FILMS = torch.nn.functional.interpolate(
        torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1)), 224, mode="bilinear"
    )

    def test_a_network_without_padding_effects_is_equivariant(self):
        # Dense blocks that add nothing: cells see the stem and the poolings only.
        torch.manual_seed(0)
        model = CheXNet(growth_rate=12).eval()
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, torch.nn.Conv2d) and "denselayer" in name:
                    module.weight.zero_()
        found = shift_equivariance(model, self.FILMS, "Mass", shifts=(32,))
        assert found["shift"].tolist() == [32, 32]
        assert found["spearman"].min() > 0.7

    def test_logits_are_the_networks(self):
        """Not those of a probability, which is 1 from a logit of 17 on."""
        torch.manual_seed(0)
        model, films = CheXNet(growth_rate=12).eval(), self.FILMS[:, :, :96, :96]
        before = shift_equivariance(model, films, "Mass", shifts=(8,))
        with torch.no_grad():
            model.classifier.bias[4] += 40
        after = shift_equivariance(model, films, "Mass", shifts=(8,))
        np.testing.assert_allclose(after["logit"], before["logit"], atol=1e-4)

    def test_columns_and_shifts(self):
        model, films = CheXNet(growth_rate=12).eval(), self.FILMS[:, :, :96, :96]
        found = shift_equivariance(model, films, "Mass", shifts=(8, 32))
        assert found.columns.tolist() == ["film", "shift", "spearman", "peak", "logit"]
        assert found.groupby("shift").size().to_dict() == {8: 2, 32: 2}
        assert (found["peak"] >= 0).all()
        for shifts in ((), (0,), (49,)):
            with pytest.raises(ValueError, match="Expected shifts"):
                shift_equivariance(model, films, "Mass", shifts=shifts)


class TestChestXDet:
    def test_candidates_that_see_no_film_keep_their_order(self):
        frame = table("localization_chestx_det")
        means = frame[frame["group"] == "mean of findings"]
        means = means.set_index(["truth", "metric", "source"]).sort_index()
        for truth in ("boxes", "outlines"):
            overlap = means.loc[(truth, "overlap"), "estimate"]
            names = ["position", "any finding", "lungs", "centre", "random"]
            assert overlap[names].is_monotonic_decreasing
        assert means.loc[("boxes", "IoBB > 0.1", "random"), "estimate"] > 0.9
        assert means.loc[("boxes", "IoU > 0.5", "random"), "estimate"] < 0.05

    def test_outlines_lie_within_boxes(self):
        wide = table("localization_chestx_det").pivot(
            index=["source", "group"], columns=["metric", "truth"], values="estimate"
        )
        assert (wide["overlap", "outlines"] <= wide["overlap", "boxes"] + 0.01).all()
        drawn = table("localization_chestx_det").query("truth == 'outlines'")["metric"]
        assert set(drawn) == {"hit", "energy", "overlap", "iou_area", "iou_best"}

    def test_a_second_radiologist_is_above_the_usual_place(self):
        two = table("reader_boxes").query("against == 'the same film' and statistic == 'IoU > 0.5'")
        usual = table("localization_chestx_det").query("truth == 'boxes' and source == 'position'")
        usual = usual[usual["metric"] == "IoU > 0.5"].set_index("group")
        two = two.set_index("finding")
        for name in two.index.intersection(usual.index):
            assert two.loc[name, "low"] > usual.loc[name, "high"], name

    @pytest.mark.real_data("chestx_det/ChestX_Det_train.json")
    def test_pairs_are_of_films_with_marks(self):
        films = load_chestx_det()
        frame = table("localization_chestx_det").query("source == 'position' and truth == 'boxes'")
        cases = frame.drop_duplicates("group").set_index("group")["n_cases"]
        for name in cases.index.drop("mean of findings"):
            assert 0.3 * films[name].sum() < cases[name] < 0.7 * films[name].sum()
        assert cases["mean of findings"] == cases.drop("mean of findings").sum()

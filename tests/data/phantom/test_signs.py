"""Each finding has its sign: where it is, how large, and what it does to the film."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from chexlib.data.phantom import Film, render
from chexlib.data.phantom.anatomy import generator, plan_chest
from chexlib.data.phantom.render import field_of_view
from chexlib.data.phantom.signs import SIGNS
from chexlib.findings import FINDINGS

SIZE = 128
PATIENTS = range(12)


@cache
def shown(patient, view, size, finding=None, severity=0.0):
    severity = {finding: severity} if finding else {}
    return render(Film(patient=patient, view=view, severity=severity), size=size)


def pair(finding, patient, severity=0.7, size=SIZE, view="PA"):
    """Return films without and with a finding, and the finding's mask."""
    healthy, sick = shown(patient, view, size), shown(patient, view, size, finding, severity)
    return healthy.image.astype(float), sick.image.astype(float), sick.masks[finding]


def planned(finding, patient, severity=0.8):
    """Return the chest before and after a finding changed its shape."""
    before = plan_chest(Film(patient=patient))
    film = Film(patient=patient, severity={finding: severity})
    after = plan_chest(film)
    SIGNS[finding](after, severity, generator(film, finding)).shape()
    return before, after


def share_of_height(mask):
    """Return the height of a mask's centre, 0 at the top of the film."""
    return ndimage.center_of_mass(mask)[0] / len(mask)


def test_every_finding_has_a_sign():
    assert set(SIGNS) == set(FINDINGS)


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_a_sign_is_there_at_every_severity(finding, view):
    for severity in (0.01, 0.1, 0.5, 1.0):
        for patient in range(3):
            assert shown(patient, view, 64, finding, severity).masks[finding].any()


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_sign_grows_with_severity(finding):
    def change(severity):
        pairs = (pair(finding, p, severity) for p in PATIENTS)
        return np.mean([np.abs(sick - healthy).mean() for healthy, sick, _ in pairs])

    subtle, gross = change(0.1), change(1.0)
    assert gross > 1.15 * subtle


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_a_gross_sign_is_plain_where_its_mask_is(finding, view):
    changes = []
    for p in range(6):
        healthy, sick, mask = pair(finding, p, 0.9, size=64, view=view)
        change = sick - healthy
        changes.append(np.abs(change - np.median(change))[mask].mean())
    assert np.median(changes) > 6  # grey values


@pytest.mark.parametrize(
    "finding",
    ["Mass", "Nodule", "Consolidation", "Infiltration", "Pneumonia", "Atelectasis", "Effusion",
     "Edema", "Fibrosis", "Pleural_Thickening"],
)  # fmt: skip
def test_what_is_dense_is_bright_where_the_mask_is(finding):
    gains = []
    for p in PATIENTS:
        healthy, sick, mask = pair(finding, p, 0.9)
        near, far = (ndimage.binary_dilation(mask, iterations=n) for n in (3, 12))
        change = sick - healthy
        gains.append(change[mask].mean() - change[far & ~near].mean())
    assert np.median(gains) > 4  # grey values, against the change around it


@pytest.mark.parametrize("finding", ["Pneumothorax", "Emphysema"])
def test_what_holds_more_air_is_darker(finding):
    darker = []
    for p in PATIENTS:
        healthy, sick, mask = pair(finding, p, 0.9)
        change = sick - healthy
        darker.append(change[mask].mean() - np.median(change))
    assert np.median(darker) < -4


def test_a_nodule_is_at_most_three_centimetres_and_a_mass_is_more():
    widest = {"Nodule": [], "Mass": []}
    for finding, p, severity in product(widest, PATIENTS, (0.1, 0.6, 1.0)):
        mask = shown(p, "PA", 256, finding, severity).masks[finding]
        parts, count = ndimage.label(mask)
        area = ndimage.sum_labels(mask, parts, range(1, count + 1)).max()
        wide, high = field_of_view(Film(patient=p, severity={finding: severity}))
        widest[finding].append(2 * np.sqrt(area / np.pi * wide * high) / 256)
    assert max(widest["Nodule"]) <= 3.0
    assert min(widest["Nodule"]) > 0.3
    assert min(widest["Mass"]) > 2.6  # the mask ends where a third of the density is left
    assert max(widest["Mass"]) < 11


def test_effusion_lies_low_and_outside_and_hides_the_angle():
    for p in PATIENTS:
        healthy, sick, mask = pair("Effusion", p, 0.6)
        lungs = shown(p, "PA", SIZE, "Emphysema", 0.01).masks["Emphysema"]
        assert share_of_height(mask) > share_of_height(lungs) + 0.03
        side = -1 if ndimage.center_of_mass(mask)[1] < SIZE / 2 else 1
        film = Film(patient=p, severity={"Effusion": 0.6})
        columns = np.flatnonzero(mask.any(axis=0))
        far = min(columns) if side < 0 else max(columns)
        assert abs(far - SIZE / 2) / SIZE * field_of_view(film)[0] > 7  # cm from the middle
        assert sick[mask].mean() > healthy[mask].mean()


def test_edema_is_on_both_sides_and_around_the_hila():
    for p in PATIENTS:
        _, _, mask = pair("Edema", p, 0.8)
        left, right = mask[:, : SIZE // 2].sum(), mask[:, SIZE // 2 :].sum()
        assert 0.25 < left / (left + right) < 0.75
        assert 0.3 < share_of_height(mask) < 0.7


def test_pneumothorax_lies_high_in_a_standing_patient_and_effusion_low():
    def height(finding, severity):
        return np.median([share_of_height(pair(finding, p, severity)[2]) for p in PATIENTS])

    assert height("Pneumothorax", 0.4) < 0.5
    assert height("Effusion", 0.7) > height("Emphysema", 0.7)


def test_cardiomegaly_is_a_ratio_above_one_half():
    for p in PATIENTS:
        before, after = planned("Cardiomegaly", p, 0.9)
        assert after.heart > before.heart
        assert after.heart > 0.5
        _, mild = planned("Cardiomegaly", p, 0.1)
        assert mild.heart < after.heart


def test_emphysema_lowers_and_flattens_the_diaphragm():
    for p in PATIENTS:
        before, after = planned("Emphysema", p)
        for side in (-1, 1):
            assert after.dome(side) > before.dome(side) + 0.5  # cm, downwards
            assert arch(after.lungs[side][20:34]) < 0.8 * arch(before.lungs[side][20:34])


def arch(base):
    """Return how far a dome rises above the line between its ends, cm."""
    along = np.linspace(0, 1, len(base))[:, None]
    return (base[0] + along * (base[-1] - base[0]) - base)[:, 1].max()


@pytest.mark.parametrize("finding", ["Atelectasis", "Fibrosis"])
def test_what_scars_or_collapses_takes_volume(finding):
    ratios = []
    for p in PATIENTS:
        before, after = (
            sum(np.ptp(lung, axis=0).prod() for lung in (plan.lungs[-1], plan.lungs[1]))
            for plan in planned(finding, p, 1.0)
        )
        ratios.append(after / before)
    assert np.median(ratios) <= 1.0


def test_a_hernia_lies_behind_the_heart_near_the_diaphragm():
    for p in PATIENTS:
        _, _, mask = pair("Hernia", p, 0.8)
        row, column = ndimage.center_of_mass(mask)
        assert 0.3 < column / SIZE < 0.72
        assert row / SIZE > 0.45


def test_lesions_stay_where_they_are_in_the_patient():
    far = []
    for p in PATIENTS:
        films = [Film(patient=p, follow_up=k, severity={"Mass": 0.8}) for k in (0, 1)]
        centres = [ndimage.center_of_mass(render(f, size=64).masks["Mass"]) for f in films]
        far.append(np.linalg.norm(np.subtract(*centres)) / 64)
    assert np.median(far) < 0.08

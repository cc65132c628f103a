"""Figures that can be touched on the site, as they stand in a notebook."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import expit

from chexlib.data import table
from figures import touch


@pytest.mark.parametrize("finding", ["Nodule", "Mass", "Effusion"])
def test_places_are_where_the_lesions_are(finding):
    known, (_, ax) = touch.content("lesion"), plt.subplots()
    touch.places(ax, known, finding)
    films, k = known["films"][finding], known["findings"].index(finding)
    side = ax.images[0].get_array().shape[0]
    drawn = np.vstack([line.get_xydata() for line in ax.lines]) / side
    assert sorted(map(tuple, drawn.round(4))) == sorted(tuple(one["at"]) for one in films)
    called = sum(p >= known["thresholds"][k] for p in expit([one["logits"][k] for one in films]))
    assert len(ax.lines[0].get_xdata()) == called


def test_letters_have_a_line_a_film_and_a_panel_a_network():
    _, axes = plt.subplots(1, 2)
    touch.letter_lines(axes, touch.content("marker"), {"default": "book", "shortcut": "clue"})
    rows = table("localization_shortcut_films").query("run == 'shortcut' and marker == 'with'")
    ends = [line.get_ydata()[1] for line in axes[1].lines]
    assert ends == pytest.approx((1 / (1 + np.exp(-rows["logit"]))).tolist(), abs=1e-3)

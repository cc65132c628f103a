"""The figure of chapter 12 puts women's and men's films where they belong."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from figures.whom import by_training


def test_each_sex_has_a_line_over_the_share_of_women_with_its_intervals():
    _, ax = plt.subplots()
    rows = pd.DataFrame(
        {
            "women_percent": [50, 0, 0, 50],
            "sex": list("FFMM"),
            "estimate": [0.8, 0.7, 0.9, 0.85],
            "low": [0.75, 0.6, 0.88, 0.8],
            "high": [0.9, 0.75, 0.95, 0.86],
        }
    )
    by_training(ax, rows)
    lines, bars = zip(*((one[0], one[2][0]) for one in ax.containers), strict=True)
    drawn = [line.get_xydata() for line in lines]
    np.testing.assert_allclose(drawn, [[[-1, 0.7], [49, 0.8]], [[1, 0.9], [51, 0.85]]])
    ends = np.array([[path.vertices[:, 1] for path in bar.get_paths()] for bar in bars])
    np.testing.assert_allclose(ends, [[[0.6, 0.75], [0.75, 0.9]], [[0.88, 0.95], [0.8, 0.86]]])
    assert ax.get_legend_handles_labels()[1] == ["women's films", "men's films"]
    assert list(ax.get_xticks()) == [0, 50]

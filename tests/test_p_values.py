"""No table contradicts itself: a p and the interval beside it say the same."""

from pathlib import Path

import pandas as pd
import pytest

FILES = sorted((Path(__file__).resolve().parent.parent / "data").glob("*.csv*"))
INTERVALS = (("difference_low", "difference_high"), ("ci_low", "ci_high"), ("low", "high"))


def with_p(file):
    """Return the rows of a table that have a p, or None where the table has no such column."""
    frame = pd.read_csv(file, comment="#", low_memory=False)
    return frame[frame["p_value"].notna()] if "p_value" in frame else None


TABLES = {file.name: rows for file in FILES if (rows := with_p(file)) is not None}


def test_the_tables_with_a_p_are_found():
    assert {"clean_labels.csv", "clean_subgroups.csv", "noise_readers.csv"} <= set(TABLES)
    for file in FILES:  # no p goes by another name
        header = pd.read_csv(file, comment="#", nrows=0).columns
        assert not {c for c in header if c.startswith("p_") and "ppv" not in c} - {
            *("p_value", "p_holm", "p_adjusted")
        }, file.name


@pytest.mark.parametrize("name", TABLES)
def test_p_is_below_5_percent_exactly_where_the_interval_of_95_percent_leaves_out_0(name):
    rows = TABLES[name]
    low, high = next(pair for pair in INTERVALS if pair[0] in rows)
    assert rows[[low, high]].notna().all(axis=None)
    outside = (rows[low] > 0) | (rows[high] < 0)
    contradicting = rows[(rows["p_value"] < 0.05) != outside]
    assert contradicting.empty, contradicting.to_string()
    for adjusted in rows.columns.intersection(["p_holm", "p_adjusted"]):
        given = rows[rows[adjusted].notna()]
        assert (given[adjusted] >= given["p_value"] - 1e-12).all()

"""No table contradicts itself: a p and the interval beside it say the same."""

from pathlib import Path

import pandas as pd
import pytest

FILES = sorted((Path(__file__).resolve().parent.parent / "data").glob("*.csv*"))
INTERVALS = (("difference_low", "difference_high"), ("gain_low", "gain_high"), ("low", "high"))
TABLES = {
    file.name: frame
    for file in FILES
    if {"p", "p_adjusted"} & set(frame := pd.read_csv(file, comment="#", low_memory=False))
}


def test_the_tables_with_a_p_are_found():
    assert {"clean_labels.csv", "clean_subgroups.csv", "noise_readers.csv"} <= set(TABLES)
    for file in FILES:  # no p goes by another name
        header = set(pd.read_csv(file, comment="#", nrows=0))
        named = {column for column in header if column == "p" or column.startswith("p_")}
        assert named <= {"p", "p_adjusted"}, file.name


@pytest.mark.parametrize("name", TABLES)
def test_p_is_below_5_percent_exactly_where_the_interval_of_95_percent_leaves_out_0(name):
    table = TABLES[name]
    low, high = (table[end] for end in next(pair for pair in INTERVALS if pair[0] in table))
    outside, around = (low > 0) | (high < 0), (low < 0) & (high > 0)
    if "p" in table:
        given = table["p"].notna()
        wrong = table[given & ((table["p"] < 0.05) != outside)]
        assert wrong.empty, wrong.to_string()
    if "p_adjusted" in table:
        wrong = table[(table["p_adjusted"] < 0.05) & around]  # an end of 0 may be rounded
        assert wrong.empty, wrong.to_string()
        if "p" in table:
            assert not (table["p_adjusted"] < table["p"] - 1e-12).any()

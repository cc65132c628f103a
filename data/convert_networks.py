"""Join the scores of 80 networks with the names of their films, and write `predictions.npz`.

    python data/convert_networks.py LISTS SCORES OUT.npz

LISTS is a checkout of github.com/N-Nieto/GenderBias_CheXNet at bb37cfa3 (the test lists of
Larrazabal et al., PNAS 2020), SCORES one of github.com/beepulbharti/Revisiting_CheXnet_GenderBias
at cd736d0f. The scores stand without names, in the order of a generator that shuffles the list of
the men, then that of the women, with a fixed seed, and leaves out the last batch where it is not
full. So the names are the shuffled lists, cut to length; that is believed only where the 14 columns
of labels beside the scores agree with the lists in every row. The published folders for 75% women
are left out: their files are those for 50%, byte for byte.

Neither repository states a licence. Use the result to compute figures, and pass no row on.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from chexlib.data.networks import LOGITS, WOMEN_PERCENT
from chexlib.files import write_atomically
from chexlib.findings import FINDINGS

FOLDS = 20
LIST = "Cross_validation_splits/0%_female_images/Fold_{fold}/test_{sex}.csv"
SCORE = "reorganized_nih_results/train{women}%_female_images/{finding}/Fold_{fold}"
SEXES = {"males": 1, "female": 0}  # as the lists are called, and as the scores say it
_TINY = 1e-7


def read(path: Path, **options: object) -> pd.DataFrame:
    """Read one published table, or say which is missing."""
    if not path.is_file():
        raise SystemExit(f"Expected {path}, found none. Is this a checkout of the commit named?")
    return pd.read_csv(path, **options)


def named(lists: pd.DataFrame, label: np.ndarray, where: str) -> pd.Series:
    """Return the films of shuffled lists, cut to the length of labels, if all labels agree."""
    films = lists.sample(frac=1, random_state=1).head(len(label))
    same = films[list(FINDINGS)].to_numpy() == label if len(films) == len(label) else np.array(0)
    if not same.all():
        raise SystemExit(
            f"Expected the labels of the lists in the order of the scores of {where}, got others. "
            "The names of these films cannot be told; nothing was written."
        )
    return films["Image Index"]


def quantised(probability: np.ndarray) -> np.ndarray:
    """Return logits as whole numbers from 0 to 65,535 over the range LOGITS."""
    kept = np.clip(probability, _TINY, 1 - _TINY)
    share = (np.log(kept / (1 - kept)) - LOGITS[0]) / (LOGITS[1] - LOGITS[0])
    return np.round(share * np.iinfo(np.uint16).max).astype(np.uint16)


def convert(lists: Path, scores: Path, *, folds: int = FOLDS) -> dict[str, np.ndarray]:
    """Return the arrays that :func:`chexlib.data.load_networks` reads."""
    images, parts = [], []
    for fold in range(folds):
        listed = {
            value: read(lists / LIST.format(fold=fold, sex=sex)) for sex, value in SEXES.items()
        }
        for women in WOMEN_PERCENT:
            paths = [SCORE.format(women=women, finding=name, fold=fold) for name in FINDINGS]
            files = [read(scores / path, index_col=0) for path in paths]
            label, score = (
                np.stack([file[name] for file in files], axis=1) for name in ("y", "y_prob")
            )
            for value, films in listed.items():
                here = files[0]["a"].to_numpy() == value
                where = f"fold {fold}, {women}% women, sex {value}"
                images.append(named(films, label[here], where))
                parts.append((fold, women, quantised(score[here].astype(np.float32))))
    names, image = np.unique(np.concatenate(images).astype("S16"), return_inverse=True)
    lengths = [len(one) for one in images]
    return {
        "image": image.astype(np.uint16),
        "fold": np.repeat([fold for fold, _, _ in parts], lengths).astype(np.uint8),
        "women_percent": np.repeat([women for _, women, _ in parts], lengths).astype(np.uint8),
        "logit": np.concatenate([logit for _, _, logit in parts]),
        "names": names,
    }


def main() -> None:
    """Convert what the command line names."""
    first, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(description=first)
    for name in ("lists", "scores", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    arrays = convert(options.lists, options.scores)
    write_atomically(options.out, functools.partial(_save, arrays=arrays))
    print(f"{len(arrays['image']):,} rows on {len(arrays['names']):,} films: {options.out}")


def _save(draft: Path, *, arrays: dict[str, np.ndarray]) -> None:
    with draft.open("wb") as file:  # savez would add a suffix to a name
        np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    main()

"""Draw ``cover.svg``: of 100 films with a text-mined label, those that radiologists confirm.

Everything in the picture is counted from two published label tables: NIH's text-mined labels, and
Google's adjudicated readings of 4,376 of the same films (Majkowska et al. 2020). Run it again after
any change; the same tables give the same file, byte for byte.

    python book/images/make_cover.py
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from chexlib.data import load_adjudicated, load_labels

OUT = Path(__file__).with_name("cover.svg")

# Title, the NIH labels that count as "called", and the readers' column that confirms the call.
# NIH has no label "airspace opacity": the three labels beside it are this book's mapping.
PANELS = (
    ("Pneumothorax", ("Pneumothorax",), "pneumothorax"),
    ("Nodule or mass", ("Nodule", "Mass"), "nodule_or_mass"),
    ("Airspace opacity", ("Consolidation", "Infiltration", "Pneumonia"), "airspace_opacity"),
    ("“No Finding”", ("no_finding",), None),
)

INK, SOFT, PAPER = "#1c2733", "#5a6673", "#fbfaf7"
YES, NO = "#0b5a8a", "#c2410c"


def share(films: pd.DataFrame, labels: tuple[str, ...], read: str | None) -> dict[str, float]:
    """Count the called films and the confirmed ones, with a 95% interval that respects patients.

    Films of one patient are not independent, so the variance of the ratio is summed over patients
    and the interval is drawn on the logit scale, which keeps it inside 0 to 1.
    """
    called = films[films[list(labels)].any(axis=1)]
    confirmed = (
        called[read]
        if read
        else ~called[["pneumothorax", "nodule_or_mass"]].any(axis=1) & ~called["airspace_opacity"]
    )
    n, k = len(called), int(confirmed.sum())
    p = k / n
    per_patient = (confirmed - p).groupby(called["patient"]).sum().to_numpy(float)
    patients = len(per_patient)
    error = math.sqrt(patients / (patients - 1) * np.square(per_patient).sum()) / n
    half = 1.959964 * error / (p * (1 - p))
    low, high = (1 / (1 + math.exp(-(math.log(p / (1 - p)) + s * half))) for s in (-1, 1))
    return {"n": n, "k": k, "p": p, "low": low, "high": high}


def text(x: float, y: float, words: str, size: int, **style: str) -> str:
    """Return one line of SVG text."""
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{extra}>{words}</text>'


def panel(x: float, y: float, title: str, got: dict[str, float], *, agree: str) -> list[str]:
    """Return one square of 100 dots, filled from the bottom row up, under its title and figures."""
    filled = round(100 * got["p"])
    low, high = round(100 * got["low"]), round(100 * got["high"])
    out = [
        text(x, y + 24, title, 25, font_weight="700", fill=INK),
        text(x, y + 76, f"{filled}", 46, font_weight="700", fill=YES),
        text(x + 60, y + 60, agree, 19, fill=INK),
        text(x + 60, y + 82, f"95% interval {low} to {high}, {got['n']:,} films", 17, fill=SOFT),
    ]
    for i in range(100):
        cx, cy = x + 13 + 31 * (i % 10), y + 390 - 31 * (i // 10)
        out.append(
            f'<circle cx="{cx:g}" cy="{cy:g}" r="11" fill="{YES}"/>'
            if i < filled
            else f'<circle cx="{cx:g}" cy="{cy:g}" r="9.6" fill="none" stroke="{NO}"'
            ' stroke-width="2.6"/>'
        )
    return out


def cover() -> str:
    """Return the picture as SVG."""
    films = load_adjudicated().merge(load_labels().drop(columns="patient"), on="image")
    results = [(title, share(films, labels, read)) for title, labels, read in PANELS]
    counted = "; ".join(
        f"{title.strip('“”')}: {round(100 * got['p'])} of 100" for title, got in results
    )
    width, height = 760, 1132
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-labelledby="t d" font-family="Inter, \'Helvetica Neue\', Arial, sans-serif">',
        '<title id="t">How often radiologists confirm a text-mined label</title>',
        f'<desc id="d">Four squares of 100 dots. Filled dots are films on which radiologists'
        f" confirm the label. {counted}.</desc>",
        f'<rect width="{width}" height="{height}" rx="18" fill="{PAPER}"/>',
        text(
            44,
            66,
            "Take 100 films that the text-mined labels call …",
            28,
            font_weight="700",
            fill=INK,
        ),
        text(44, 100, "How many do radiologists, reading the same films, confirm?", 21, fill=SOFT),
        f'<circle cx="55" cy="136" r="11" fill="{YES}"/>',
        text(76, 143, "confirmed", 19, fill=INK),
        f'<circle cx="209" cy="136" r="9.6" fill="none" stroke="{NO}" stroke-width="2.6"/>',
        text(230, 143, "not confirmed", 19, fill=INK),
    ]
    for i, (title, got) in enumerate(results):
        agree = "clear of all three" if i == len(results) - 1 else "of 100 confirmed"
        out += panel(44 + 362 * (i % 2), 186 + 448 * (i // 2), title, got, agree=agree)
    out += [
        text(
            44,
            1078,
            f"{len(films):,} films of {films['patient'].nunique():,} patients of one research"
            " hospital: not the share in another.",
            17,
            fill=SOFT,
        ),
        text(44, 1102, "Labels: Wang et al. 2017. Readers: Majkowska et al. 2020.", 17, fill=SOFT),
        "</svg>",
    ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    OUT.write_text(cover(), encoding="utf-8")

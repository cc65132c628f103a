"""Draw ``cover.svg``: 810 films, what five radiologists see on them, and what NIH's label says.

Every dot is counted from the table ``reader_votes``. Run it again after any change; the same table
gives the same file, byte for byte. The picture that other sites show beside a link to the book is
drawn from the same dots when the book is built, by chexlib.sphinxext.

    python book/images/make_cover.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from chexlib.data import table

OUT = Path(__file__).with_name("cover.svg")

INK, SOFT, PAPER = "#1c2733", "#5a6673", "#ffffff"
MAJORITY = 3
KINDS = (  # of votes: first and last, fill, what the legend says
    (3, 5, "#0b5a8a", "three or more"),
    (1, 2, "#f2a65a", "one or two"),
    (0, 0, "#dfe3e6", "none of the five"),
)
COLUMNS, STEP, RADIUS = 45, 15, 5.4
DARK = "".join(  # what changes on a dark page, which the browser tells a picture
    f'[{what}="{colour}"]{{{what}:{other}}}'
    for what, colour, other in (
        ("fill", PAPER, "#121212"),
        ("fill", INK, "#d7dce1"),
        ("stroke", INK, "#d7dce1"),
        ("fill", SOFT, "#9ea5ad"),
        ("fill", KINDS[0][2], "#4f9fd0"),
        ("fill", KINDS[2][2], "#363f49"),
    )
)


def text(x: float, y: float, words: str, size: int, **style: str) -> str:
    """Return one line of SVG text."""
    extra = "".join(
        f' {key.replace("_", "-")}="{value}"' for key, value in style.items()
    )
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{extra}>{words}</text>'


def dot(x: float, y: float, fill: str, *, labelled: bool = False) -> str:
    """Return one film: filled by its votes, with a black ring where NIH's label is set."""
    ring = f' stroke="{INK}" stroke-width="2.4"' if labelled else ""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{fill}"{ring}/>'


def panel(x: float, y: float, votes: pd.DataFrame) -> list[str]:
    """Return a finding: its films that have a majority in big figures, and one dot a film."""
    finding, seen = votes["finding"].iloc[0], votes["votes"].between(MAJORITY, 5)
    films, marked = votes["n"][seen].sum(), votes["n_labelled"].sum()
    out = [
        text(x, y, finding, 30, font_weight="700", fill=INK),
        text(x, y + 62, f"{films}", 58, font_weight="700", fill=KINDS[0][2]),
        text(
            x + 136, y + 36, "films on which most of the five see it;", 23, fill=INK
        ),
        text(x + 136, y + 65, f"NIH’s label says it on {marked}", 23, fill=INK),
    ]
    for column, row, fill, labelled in places(votes):
        out.append(
            dot(x + 6 + STEP * column, y + 94 + STEP * row, fill, labelled=labelled)
        )
    return out


def places(votes: pd.DataFrame) -> list[tuple[int, int, str, bool]]:
    """Return column, row, fill and whether NIH's label is set, for each film of a finding."""
    films = []
    for first, last, fill, _ in KINDS:
        kind = votes[votes["votes"].between(first, last)]
        n, labelled = kind["n"].sum(), kind["n_labelled"].sum()
        films += [(fill, i < labelled) for i in range(n)]
    return [(i % COLUMNS, i // COLUMNS, *film) for i, film in enumerate(films)]


def shown() -> list[pd.DataFrame]:
    """Return the votes on the two findings that are shown."""
    votes = table("reader_votes")
    return [
        votes[votes["finding"] == name] for name in ("Pneumonia", "Pneumothorax")
    ]


def card(path: Path) -> None:
    """Write the picture beside a link: the two findings side by side, 1,200 by 630 pixels."""
    from matplotlib.figure import Figure

    figure = Figure((12, 6.3), facecolor=PAPER)
    title = f"Five radiologists read the same {shown()[0]['n'].sum()} chest films"
    figure.text(0.045, 0.88, title, fontsize=28, weight="bold", color=INK)
    for votes, left in zip(shown(), (0.045, 0.525), strict=True):
        seen = votes["n"][votes["votes"] >= MAJORITY].sum()
        head = f"{votes['finding'].iloc[0]}: {seen}"
        figure.text(
            left, 0.745, head, fontsize=26, weight="bold", color=KINDS[0][2]
        )
        figure.text(
            left, 0.685, "seen by three or more of the five", fontsize=17, color=INK
        )
        ax = figure.add_axes((left, 0.13, 0.43, 0.53))
        x, y, fills, labelled = zip(*places(votes), strict=True)
        rings = [
            INK if one else fill for one, fill in zip(labelled, fills, strict=True)
        ]
        ax.scatter(x, y, c=fills, s=32, edgecolors=rings, linewidths=1.6)
        ax.set(xlim=(-0.6, COLUMNS - 0.4), ylim=(max(y) + 0.6, -0.6))
        ax.set_axis_off()
    figure.text(
        0.045, 0.055, "The CheXNet book", fontsize=20, weight="bold", color=INK
    )
    figure.text(
        0.525, 0.055, "ringed: NIH’s label says it", fontsize=17, color=SOFT
    )
    figure.savefig(path, dpi=100)


def cover() -> str:
    """Return the picture as SVG."""
    findings = shown()
    total = findings[0]["n"].sum()
    width, height = 760, 1010
    told = "; ".join(
        f"{one['finding'].iloc[0]}: a majority on {one['n'][one['votes'] >= MAJORITY].sum()}, "
        f"NIH’s label on {one['n_labelled'].sum()}"
        for one in findings
    )
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-labelledby="t d" font-family="Inter, \'Helvetica Neue\', Arial, sans-serif">',
        f'<title id="t">What five radiologists see on {total} chest films</title>',
        f'<desc id="d">Two fields of {total} dots, one a film. {told}.</desc>',
        f"<style>@media (prefers-color-scheme: dark){{{DARK}}}</style>",
        f'<rect width="{width}" height="{height}" rx="18" fill="{PAPER}"/>',
        text(
            44,
            60,
            f"Five radiologists read the same {total} films",
            28,
            font_weight="700",
            fill=INK,
        ),
        text(44, 100, "Seen by", 22, fill=SOFT),
    ]
    x = 146.0
    for (_, _, fill, words), wide in zip(KINDS, (182, 158, 0), strict=True):
        out += [dot(x, 93, fill), text(x + 13, 100, words, 22, fill=SOFT)]
        x += wide
    out += [
        dot(50, 129, PAPER, labelled=True),
        text(64, 136, "NIH’s label says it", 22, fill=SOFT),
    ]
    for i, one in enumerate(findings):
        out += panel(44, 196 + 400 * i, one)
    out += [
        text(
            44,
            982,
            "Readers: Nabulsi et al. 2021. Labels: Wang et al. 2017.",
            19,
            fill=SOFT,
        ),
        "</svg>",
    ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    OUT.write_text(cover(), encoding="utf-8")

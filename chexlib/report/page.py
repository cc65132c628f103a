"""The report of ``chexlib evaluate``: one HTML page that needs nothing else, and CSV tables."""

from __future__ import annotations

import base64
import html
import io
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from chexlib.files import draft_of, sha256, write_csv
from chexlib.report.figures import draw_calibration, draw_curves, draw_ranking, draw_subgroups
from chexlib.text import p_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from chexlib.report.evaluation import Evaluation

__all__ = ["check_folder", "render", "write_report"]

MANIFEST = "manifest.json"

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #2b2b2b; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption, .small { font-size: .9rem; }
li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; border-bottom: 1px solid #8886;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.warning { border-left: 4px solid #d55e00; padding: .2rem 1rem; }
a { color: #0072b2; }
@media (prefers-color-scheme: dark) { body { color: #e8e6e1; background: #1b1b1b; }
  a { color: #56b4e9; } }
"""


def write_report(
    found: Evaluation,
    folder: str | Path,
    *,
    inputs: Mapping[str, str | Path],
    settings: Mapping[str, object],
    force: bool = False,
) -> list[Path]:
    """Write ``report.html`` and the tables into a folder of their own, all or nothing.

    Parameters
    ----------
    found : Evaluation
    folder : path
        Made here; its parent folder must exist.
    inputs : mapping of str to path
        What was read, such as ``{"predictions": "predictions.csv"}``; named with its SHA-256.
    settings : mapping
        What else to state, such as the seed.
    force : bool
        Whether to replace an earlier report: a folder that holds what this function wrote, as it
        wrote it, and nothing else.

    Returns
    -------
    list of path
        The files, the page first; the last is ``manifest.json``, the SHA-256 of each.

    Raises
    ------
    FileExistsError
        If the folder is there and ``force`` is not given; or, whatever is given, if a file in it
        was added or changed since, or it holds an input or is the working folder or above it.

    Notes
    -----
    The earlier report is set aside, then the new one put in its place: two renames. A call that
    finds that a kill came between them puts the earlier one back first.
    """
    folder = Path(folder)
    check_folder(folder, force=force, inputs=inputs.values())
    facts = {name: f"{Path(path).name}, SHA-256 {sha256(path)}" for name, path in inputs.items()}
    facts |= {name: str(value) for name, value in settings.items()}
    facts["made with"] = f"chexlib {version('chexlib')}"
    place = folder.resolve()
    work = draft_of(place)
    work.mkdir()
    try:
        names = ["report.html"]
        (work / names[0]).write_text(render(found, facts), encoding="utf-8")
        for name, table in found.tables.items():
            names.append(f"{name}.csv")
            write_csv(work / names[-1], table, lineterminator="\n")
        hashes = {name: sha256(work / name) for name in names}
        (work / MANIFEST).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
        _swap(work, place)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return [folder / name for name in (*names, MANIFEST)]


def _swap(work: Path, place: Path) -> None:
    """Put a new report where none is or an earlier one was."""
    earlier = _set_aside(place)
    if place.exists():
        place.rename(earlier)
    try:
        if earlier.exists():  # looked at again, where nobody adds to it any more
            _written(earlier, place)
        work.rename(place)
    except BaseException:
        if earlier.exists() and not place.exists():
            earlier.rename(place)
        raise
    _remove(earlier)


def _remove(earlier: Path) -> None:
    """Remove a report that was replaced, the list of its files last: a kill may come between."""
    if (earlier / MANIFEST).exists():
        for file in sorted(_written(earlier, earlier), key=lambda file: file.name == MANIFEST):
            file.unlink()
    if earlier.exists():
        earlier.rmdir()


def _set_aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.earlier")


def _written(folder: Path, called: Path) -> list[Path]:
    """Return a report's files; refuse a folder with anything else in it."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        names = {MANIFEST, *hashes}
    except (OSError, ValueError, TypeError):
        raise FileExistsError(
            f"Expected an earlier report in {called}, found no list of its files ({MANIFEST}); "
            "nothing was replaced. Name another folder with --out."
        ) from None
    files = sorted(folder.iterdir())
    for file in files:
        ours = file.name in names and file.is_file() and not file.is_symlink()
        if not ours or (file.name != MANIFEST and sha256(file) != hashes[file.name]):
            raise FileExistsError(
                f"Expected nothing but an earlier report in {called}, found {file.name}, which was "
                f"{'changed' if file.name in names else 'added'} since; nothing was replaced. Move "
                "it away, or name another folder with --out."
            )
    return files


def check_folder(folder: Path, *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a folder that a report may not be written to; see :func:`write_report`."""
    place = folder.resolve()
    if not place.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder at {folder.parent}, found none. Make it first.")
    earlier = _set_aside(place)
    if earlier.exists() and not place.exists():  # killed between two renames
        earlier.rename(place)
    elif earlier.exists():  # or after them
        _remove(earlier)
    if not place.exists():
        return
    held = [f"holds {path}" for path in inputs if place in Path(path).resolve().parents]
    if place in (Path.cwd(), *Path.cwd().parents):
        held.append("is the working folder or above it")
    if held:
        raise FileExistsError(
            f"Expected a folder for the report alone, got {folder}, which {held[0]}. Name another "
            "with --out."
        )
    if not force:
        raise FileExistsError(
            f"Expected no folder {folder} yet, found one. Name another with --out, or replace "
            "it with --force."
        )
    _written(place, folder)


def render(found: Evaluation, facts: Mapping[str, str]) -> str:
    """Return the page: text, tables, and figures as data URIs, with nothing to load."""
    ranking = found.tables["ranking"]
    auroc = "{:.3f} ({:.3f} to {:.3f})".format(*found.mean["auroc"])
    mean_ap = "{:.3f} ({:.3f} to {:.3f})".format(*found.mean["average_precision"])
    n_films, n_patients = int(ranking["n_images"].iloc[0]), int(ranking["n_patients"].iloc[0])
    subgroups = found.tables["subgroups"]
    standing = subgroups[subgroups["p_adjusted"] < 0.05]
    points = found.tables["operating_points"]
    parts = [
        "<h1>Evaluation of predictions</h1>",
        '<p class="warning">A research report. Not for clinical use.</p>',
        f"<p>{n_films:,} films of {n_patients:,} patients. Mean AUROC over the findings: "
        f"<strong>{auroc}</strong>; mean average precision: <strong>{mean_ap}</strong>. Brackets "
        "hold 95% intervals; patients, not films, were resampled.</p>",
        _list(facts),
        *(
            ["<p>Not computed:</p><ul>"]
            + [f"<li>{html.escape(note)}</li>" for note in found.notes]
            + ["</ul>"]
            if found.notes
            else []
        ),
        "<h2>Ranking</h2><p>AUROC is the chance that a film with the finding scores above one "
        "without, whatever the prevalence. Average precision depends on prevalence: a useless "
        "score has the prevalence for its average precision.</p>",
        _figure(draw_ranking(found), _alt_ranking(ranking), "AUROC and average precision."),
        _table(
            "Ranking",
            {
                "Finding": _names(ranking["finding"]),
                "Positive films": [f"{n:,}" for n in ranking["n_positive"]],
                "Prevalence": [f"{x:.2%}" for x in ranking["prevalence"]],
                "AUROC": _estimates(ranking, "auroc"),
                "Average precision": _estimates(ranking, "average_precision"),
            },
        ),
        _figure(
            draw_curves(found),
            "One small panel a finding: the ROC curve as a solid line, the precision-recall curve "
            "as a dashed one, both from 0 to 1.",
            "ROC (solid) and precision against recall (dashed). The dotted line is the prevalence, "
            "the precision of calling every film.",
        ),
        "<h2>Thresholds</h2><p>Chosen on half of the patients, reported on the other half. A film "
        "is called positive if its score is at least the threshold.</p>",
        *(_operating_table(rule, part) for rule, part in points.groupby("rule", sort=False)),
        "<h2>Calibration</h2><p>Slope 1 and intercept 0 would be calibrated; a slope below 1 means "
        "probabilities that are too extreme.</p>",
        _figure(
            draw_calibration(found),
            "One small panel a finding: share of positive films against mean probability in ten "
            "bins of equal numbers, with intervals, beside the diagonal, on logarithmic axes.",
            "Share of positive films (with interval) against mean probability. On the dotted line, "
            "probabilities mean what they say.",
        ),
        _calibration_table(found.tables["calibration"]),
        "<h2>Subgroups</h2>"
        f"<p>{len(subgroups)} figures in groups and {subgroups['comparisons'].max()} comparisons "
        f"with the films outside the group; adjusted for their number, {len(standing)} of them "
        "stay below p = 0.05. All are in subgroups.csv.</p>",
        _figure(
            draw_subgroups(found),
            "Two forest plots of differences in AUROC a finding: men less women, and PA less AP "
            "films, with intervals about a line at 0.",
            "Difference in AUROC between groups, before adjustment for their number.",
        ),
        _subgroup_table(standing),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation of predictions</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _operating_table(rule: str, part: pd.DataFrame) -> str:
    title = {"youden": "Youden", "max_f1": "Highest F1"}.get(
        rule, rule.replace("_", " of at least ")
    )
    part = part[part["threshold"].notna()]
    return _table(
        f"Rule: {title}",
        {
            "Finding": _names(part["finding"]),
            "Threshold": [f"{x:.3g}" for x in part["threshold"]],
            "Called": [f"{x:.1%}" for x in part.get("called", [])],
            **{
                title: _estimates(part, name)
                for title, name in (
                    ("Sensitivity", "sensitivity"),
                    ("Specificity", "specificity"),
                    ("PPV", "ppv"),
                    ("F1", "f1"),
                )
            },
        },
    )


def _calibration_table(table: pd.DataFrame) -> str:
    numbers = {
        "Mean probability": "mean_probability",
        "Prevalence": "prevalence",
        "Brier": "brier",
        "Brier of prevalence": "brier_of_prevalence",
        "Calibration error": "calibration_error",
        "Slope": "slope",
        "Intercept": "intercept",
    }
    columns = {"Finding": _names(table["finding"])}
    for title, name in numbers.items():
        digits = 2 if name in ("slope", "intercept") else 4
        values = table[name] if name in table else [float("nan")] * len(table)
        columns[title] = [_number(x, digits) for x in values]
    return _table("Calibration", columns)


def _subgroup_table(table: pd.DataFrame) -> str:
    if not len(table):
        return ""
    return _table(
        "Differences that stay after adjustment",
        {
            "Finding": _names(table["finding"]),
            "Group": [f"{a}: {g}" for a, g in zip(table["attribute"], table["group"], strict=True)],
            "Positive films": [f"{n:,}" for n in table["n_positive"]],
            "AUROC": [
                f"{e:.3f} ({a:.3f} to {b:.3f})"
                for e, a, b in zip(table["estimate"], table["low"], table["high"], strict=True)
            ],
            "Less films outside": _estimates(table, "difference"),
            "p, adjusted": p_text(table["p_adjusted"]),
        },
    )


def _estimates(table: pd.DataFrame, name: str) -> list[str]:
    if name not in table:
        return [""] * len(table)
    columns = (table[name], table[f"{name}_low"], table[f"{name}_high"])
    return [
        "undefined"
        if pd.isna(value)
        else f"{value:.3f}" + ("" if pd.isna(low) else f" ({low:.3f} to {high:.3f})")
        for value, low, high in zip(*columns, strict=True)
    ]


def _number(value: float, digits: int) -> str:
    return "undefined" if pd.isna(value) else f"{value:.{digits}f}"


def _names(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _table(caption: str, columns: Mapping[str, Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in zip(*columns.values(), strict=True)
    )
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    )


def _list(facts: Mapping[str, str]) -> str:
    items = "".join(f"<li>{html.escape(f'{k}: {v}')}</li>" for k, v in facts.items())
    return f'<ul class="small">{items}</ul>'


def _figure(figure: Figure, alt: str, caption: str) -> str:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=96)
    data = base64.b64encode(png.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _alt_ranking(table: pd.DataFrame) -> str:
    order = table.dropna(subset="auroc").sort_values("auroc")
    ends = (
        f" AUROC runs from {order['auroc'].iloc[0]:.3f} ({order['finding'].iloc[0]}) to "
        f"{order['auroc'].iloc[-1]:.3f} ({order['finding'].iloc[-1]})."
        if len(order)
        else ""
    )
    text = f"Two forest plots, a line a finding: AUROC and average precision, with intervals.{ends}"
    return text.replace("_", " ")

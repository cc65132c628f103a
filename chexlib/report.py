"""What ``chexlib evaluate`` writes: one model's predictions as tables and a page of figures.

The page needs nothing else: its text is ``report.html`` beside this module, its figures are inside.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from chexlib import metrics
from chexlib.evaluation import LEAST, Evaluation, evaluate
from chexlib.files import draft_of, sha256, write_csv
from chexlib.findings import describe
from chexlib.plots import BLUE, GREY, INK, ORANGE, forest, use_style
from chexlib.plots.style import MARKERS
from chexlib.text import estimate_text, p_text

__all__ = ["evaluate", "write_report"]

MANIFEST = "manifest.json"
# Where a machine has one of these, names in Chinese are drawn with it.
EAST = ("Noto Sans CJK TC", "Noto Sans CJK JP", "PingFang TC", "Heiti TC", "Microsoft JhengHei")


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
    ranking, points, calibration, subgroups = (
        found.tables[name] for name in ("ranking", "operating_points", "calibration", "subgroups")
    )
    standing = subgroups[subgroups["p_adjusted"] < 0.05]
    order = ranking.dropna(subset="auroc").sort_values("auroc")
    ends = [f"{row.auroc:.3f} ({describe(row.finding).english})" for row in order.itertuples()]
    notes = _items(found.notes)
    parts = {
        "n_films": f"{len(found.labels):,}",
        "n_patients": f"{found.n_patients:,}",
        **{name: estimate_text(*ends, decimals=3) for name, ends in found.mean.items()},
        "facts": _items(f"{name}: {value}" for name, value in facts.items()),
        "notes": f"<p>Left out or not computed:</p><ul>{notes}</ul>" if notes else "",
        "range": html.escape(f" AUROC runs from {ends[0]} to {ends[-1]}.") if ends else "",
        "checks": _checks(found.tables["checks"]),
        "readers": _readers_part(found.tables.get("readers")),
        "ranking": _table(
            "Ranking",
            ranking,
            {
                "Films": _whole(ranking["n_images"]),
                "Positive films": _whole(ranking["n_positive"]),
                "Prevalence": ranking["prevalence"].map("{:.2%}".format),
                "AUROC": _estimates(ranking, "auroc"),
                "Average precision": _estimates(ranking, "average_precision"),
            },
        ),
        "operating_points": "\n".join(
            _operating_table(rule, part.dropna(subset="threshold"))
            for rule, part in points.groupby("rule", sort=False)
        ),
        "calibration": _calibration_table(calibration),
        "n_subgroups": len(subgroups),
        "n_comparisons": subgroups["p"].count(),
        "n_standing": len(standing),
        "subgroups": _subgroup_table(standing) if len(standing) else "",
    }
    fonts = ["DejaVu Sans", *(name for name in EAST if name in get_font_names())]
    for draw in (draw_ranking, draw_curves, draw_calibration, draw_subgroups):
        png = io.BytesIO()
        with rc_context():  # the house style, and the caller's settings left as they were
            use_style()
            rcParams["font.family"] = fonts
            draw(found).savefig(png, format="png", dpi=96)
        parts[draw.__name__] = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    page = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    if not _compared(found):
        page = re.sub("<figure>.*draw_subgroups.*</figure>", "", page)
    return Template(page).substitute(parts)


def _operating_table(rule: str, part: pd.DataFrame) -> str:
    titles = {"youden": "Youden", "max_f1": "Highest F1"}
    figures = {"Sensitivity": "sensitivity", "Specificity": "specificity", "PPV": "ppv", "F1": "f1"}
    return _table(
        f"Rule: {titles.get(rule, rule.replace('_', ' of at least '))}",
        part,
        {
            "Films": _whole(part[["tp", "fp", "fn", "tn"]].sum(axis=1).astype(int)),
            "Threshold": part["threshold"].map("{:.3g}".format),
            "Called": part["called"].map("{:.1%}".format),
            **{title: _estimates(part, name) for title, name in figures.items()},
        },
    )


def _calibration_table(table: pd.DataFrame) -> str:
    decimals = {
        **{"mean_probability": 4, "prevalence": 4, "brier": 4, "brier_of_prevalence": 4},
        **{"calibration_error": 4, "slope": 2, "intercept": 2},
    }
    columns = table.reindex(columns=list(decimals))
    shown = {"Films": _whole(table["n_images"])} | {
        name.replace("_", " ").capitalize(): columns[name].map(
            lambda x, n=n: "undefined" if pd.isna(x) else f"{x:.{n}f}"
        )
        for name, n in decimals.items()
    }
    return _table("Calibration", table, shown)


def _subgroup_table(table: pd.DataFrame) -> str:
    shown = {
        "Group": table["attribute"] + ": " + table["group"],
        "Films": _whole(table["n_films"]),
        "Positive films": _whole(table["n_positive"]),
        "AUROC": _estimates(table),
        "Less films outside": _estimates(table, "difference"),
        "p, adjusted": p_text(table["p_adjusted"]),
    }
    return _table("Differences that stay after adjustment", table, shown)


def _checks(table: pd.DataFrame) -> str:
    lines = _items(f"{row.column}: {row.seen}. {row.advice}" for row in table.itertuples())
    return f"<ul>{lines}</ul>" if lines else "<p>None of these was found.</p>"


def _readers_part(table: pd.DataFrame | None) -> str:
    if table is None:
        return "<p>No reads were given.</p>"
    whole = table[table["reader"] == "mean"].set_index("finding")["n_positive"]
    few = html.escape(", ".join(describe(name).english for name in whole.index[whole < LEAST]))
    rows = table[table["finding"].map(whole) >= LEAST]
    columns = {
        "Reader": rows["reader"],
        "Films": _whole(rows["n_images"]),
        "Positive films": _whole(rows["n_positive"]),
        "False alarms": rows["false_positive_rate"].map("{:.1%}".format),
        "Reader's sensitivity": rows["sensitivity"].map("{:.2f}".format),
        "Score's": rows["score"].map("{:.2f}".format),
        "Score less reader": _estimates(rows),
        "Above": rows["above"],
    }
    lines = _table("Beside each reader", rows, columns)
    return lines + f"<p>Fewer than {LEAST} films by majority, not judged: {few or 'none'}.</p>"


def _table(caption: str, rows: pd.DataFrame, columns: Mapping[str, Iterable[str]]) -> str:
    """Return an HTML table of texts, a line a finding."""
    frame = pd.DataFrame({"Finding": [describe(x).english for x in rows["finding"]], **columns})
    with pd.option_context("display.max_colwidth", None):
        text = frame.to_html(index=False, border=0).replace("<th>", '<th scope="col">')
    inside = text.partition(">")[2]
    return f'<div class="wide"><table><caption>{html.escape(caption)}</caption>{inside}</div>'


def _estimates(table: pd.DataFrame, name: str = "estimate") -> list[str]:
    ends = ["low", "high"] if name == "estimate" else [f"{name}_low", f"{name}_high"]
    columns = table.reindex(columns=[name, *ends])
    return [
        "undefined" if pd.isna(row[0]) else estimate_text(*row, decimals=3)
        for row in columns.itertuples(index=False)
    ]


def _whole(counts: pd.Series) -> pd.Series:
    return counts.map("{:,}".format)


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)


def draw_ranking(found: Evaluation) -> Figure:
    """Draw AUROC and average precision of each finding with their intervals."""
    table = found.tables["ranking"]
    figure = Figure(figsize=(9.5, _height(found)))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name, title in zip(
        axes, ("auroc", "average_precision"), ("AUROC", "Average precision"), strict=True
    ):
        ends = (_around(table[name], table[f"{name}_{end}"]) for end in ("low", "high"))
        forest(ax, [_label(x) for x in table["finding"]], table[name], *ends)
        ax.set(title=title, xlabel="with 95% interval by patient")
    axes[0].axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes[1].plot(table["prevalence"], range(len(table)), "|", color=INK, markersize=12)
    axes[1].set_xlabel("with 95% interval by patient; tick: prevalence")
    return figure


def draw_curves(found: Evaluation) -> Figure:
    """Draw the ROC and precision-recall curves, a panel a finding."""
    figure = Figure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.OneClassWarning)  # an empty panel says it
        curves = zip(
            metrics.roc(found.labels, found.scores),
            metrics.precision_recall(found.labels, found.scores),
            strict=True,
        )
    for (ax, name), (one, other) in zip(_panels(figure, found), curves, strict=True):
        ax.plot(*_thin(one.false_positive_rate, one.sensitivity), color=BLUE, linewidth=1.4)
        ax.plot(*_thin(other.recall, other.precision), "--", color=ORANGE, linewidth=1.2)
        ax.axhline(found.labels[name].mean(), color=GREY, linestyle=":", linewidth=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.supxlabel("false-positive rate (solid), recall (dashed)", fontsize=10)
    figure.supylabel("sensitivity (solid), precision (dashed)", fontsize=10)
    return figure


def draw_calibration(found: Evaluation) -> Figure:
    """Draw the reliability curve of each finding on logarithmic axes."""
    figure = Figure()
    bins = found.tables["reliability"]
    least = max(1e-5, bins.loc[bins["predicted"] > 0, "predicted"].min() / 2)  # or NaN
    for ax, name in _panels(figure, found):
        part = bins[bins["finding"] == name]
        x = part["predicted"].clip(lower=least)
        ax.plot([least, 1], [least, 1], color=GREY, linestyle=":", linewidth=1)
        low, high = (part[f"observed_{end}"].clip(lower=least) for end in ("low", "high"))
        ax.vlines(x, low, high, color=BLUE, linewidth=1.4)
        ax.plot(x, part["observed"].clip(lower=least), "o", color=BLUE, markersize=3.5)
        ax.set(xscale="log", yscale="log", xlim=(least, 1.2), ylim=(least, 1.2))
    figure.supxlabel("mean probability in the bin", fontsize=10)
    figure.supylabel("share of positive films", fontsize=10)
    return figure


def draw_subgroups(found: Evaluation) -> Figure:
    """Draw differences in AUROC between groups, a panel an attribute."""
    compared = _compared(found)
    rows = max(1, -(-len(compared) // 2))
    room = 0.4 + 0.8 * max(map(len, compared.values()), default=0)  # lines that a legend takes
    figure = Figure(figsize=(9.5, rows * (_height(found) + 0.3 * room)))
    grid = figure.subplots(rows, min(2, max(1, len(compared))), sharey=True, squeeze=False)
    names, axes = [_label(name) for name in found.labels], _used_of(grid, len(compared))
    for ax, (attribute, groups) in zip(axes, compared.items(), strict=True):
        for k, (group, part) in enumerate(groups):
            one = part.set_index("finding").reindex(found.labels.columns)
            gap, *ends = (one[f"difference{end}"] for end in ("", "_low", "_high"))
            place = {"label": f"{_label(group)} less others", "series": k, "n_series": len(groups)}
            forest(ax, names, gap, *(_around(gap, end) for end in ends), **place)
        ax.set_ylim(len(names) - 0.5 + room, -0.5)
        ax.legend(loc="lower right")
        ax.axvline(0, color=GREY, linestyle=":", linewidth=1)
        ax.set(title=_label(attribute), xlabel="difference in AUROC, 95% interval")
        ax.locator_params(axis="x", nbins=5)
    return figure


def _compared(found: Evaluation) -> dict[str, list[tuple[str, pd.DataFrame]]]:
    """Return the groups that are compared, by attribute; bands of age and many are too many."""
    rows = found.tables["subgroups"].dropna(subset="difference")
    parts = rows[rows["attribute"] != "age"].groupby("attribute", sort=False)
    groups = {name: list(part.groupby("group", sort=False)) for name, part in parts}
    return {name: some for name, some in groups.items() if len(some) <= len(MARKERS)}


def _height(found: Evaluation) -> float:
    """Return the inches of a forest with a line a finding."""
    return max(2.5, 0.7 + 0.3 * found.labels.shape[1])


def _panels(figure: Figure, found: Evaluation) -> Iterator[tuple[Axes, str]]:
    names = list(found.labels.columns)
    rows, columns = -(-len(names) // 5), min(5, len(names))
    figure.set_size_inches(max(4.5, 1.9 * columns), max(3.2, 0.5 + 1.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for k, (ax, name) in enumerate(zip(_used_of(axes, len(names)), names, strict=True)):
        ax.set_title(_label(name, 20), fontsize=9)
        ax.tick_params(labelsize=8, labelbottom=k + columns >= len(names))
        yield ax, name


def _used_of(axes: np.ndarray, n: int) -> Iterator[Axes]:
    """Return the first of some axes, and remove the others."""
    for ax in axes.flat[n:]:
        ax.remove()
    return axes.flat[:n]


def _label(name: str, width: int = 32) -> str:
    """Return a name as a figure shows it, in lines of so many characters."""
    return textwrap.fill(describe(name).english, width).replace("$", r"\$")


def _around(estimate: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Let an estimate without an interval be drawn as a point."""
    return np.where(np.isnan(end), estimate, end)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out points that no eye could tell from the one before."""
    moves = np.abs(np.diff(np.round(400 * np.stack([x, y])), axis=1)).any(axis=0)
    kept = np.concatenate([[True], moves]) | (np.arange(len(x)) == len(x) - 1)
    return x[kept], y[kept]

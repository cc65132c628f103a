"""``chexlib train``: a recipe in, a run's folder out."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from chexlib.cli.shell import (
    NOTICE,
    Labelled,
    Separator,
    Uncertain,
    bars,
    names_in,
    one_line_errors,
    table,
    terminal,
)

if TYPE_CHECKING:
    from rich.console import Console

    from chexlib.data.dataset import Dataset
    from chexlib.training import Recipe, Run


@one_line_errors()
def train(
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A name of [cyan]--list[/].")
    ] = "phantom-cpu",
    *,
    show: Annotated[
        bool, typer.Option("--list", help="List the recipes and their values; train nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run. Default: [cyan]runs/[/] and the recipe's name with a few "
            "digits that stand for its values."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another value, such as [cyan]learning_rate=1e-4[/] or "
            "[cyan]loss_options.gamma=1[/]; as often as wanted.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="phantom or chest-xray14; short for --set.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Labels of your own films, a CSV.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of these films.")] = None,
    findings: Labelled = None,
    separator: Separator = None,
    uncertain: Uncertain = None,
    fit: Annotated[str | None, typer.Option(help="squash or pad films to squares.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A run's folder, a file of weights, imagenet, or phantom."),
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Only the head learns.")] = False,
    arch: Annotated[str | None, typer.Option(help="A network of torchvision.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most; short for --set.")] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    devices: Annotated[
        str, typer.Option(help="Processes on this node; by default its GPUs, or one CPU process.")
    ] = "auto",
    nodes: Annotated[int, typer.Option(help="Machines, under Slurm or torchrun.")] = 1,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two points from which a run can go on.")
    ] = 200,
) -> None:
    """Train a network by a recipe, or go on with a run that was stopped.

    Repeat the command after a stop of any kind: the run goes on, and ends as if nothing had
    happened. Over several processes, start the same command by torchrun; all need the same folder.
    [bold]Not for clinical use.[/]

    Films of your own: [cyan]--data[/] is a table with the image, its findings as 0, 1 or empty (or
    one column of names), and, where you have them, patient, age, sex, view and split.

    [bold]Examples[/]

    [cyan]chexlib train --list[/]

    [cyan]chexlib train[/]      on simulated films, ten minutes on two cores

    [cyan]chexlib train --recipe chexnet-paper --set seed=1 --out runs/paper-1[/]

    [cyan]chexlib train --data labels.csv --images films/ --from imagenet --out runs/own[/]

    [cyan]torchrun --standalone --nproc-per-node 8 -m chexlib train --recipe chexnet-paper[/]

    On several nodes, a script for Slurm's sbatch; [cyan]runs/[/] is in a folder that all share:

    [cyan]#!/bin/bash[/]

    [cyan]#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=32[/]

    [cyan]first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)[/]

    [cyan]srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --rdzv-backend c10d
    --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID"
    -m chexlib train --recipe chexnet-paper --out runs/paper[/]
    """
    from chexlib.training import RECIPES

    console = terminal()
    if show:
        _list(list(RECIPES.values()), console)
        return
    if recipe not in RECIPES:
        raise ValueError(f"Expected a recipe among {', '.join(RECIPES)}, got {recipe!r}.")
    own = {"findings": names_in(findings), "separator": separator, "uncertain": uncertain}
    own |= {"labels": data and str(data), "images": images and str(images)}
    own = {name: value for name, value in own.items() if value is not None}
    if own and not (data and images):
        raise ValueError(f"Expected both --data and --images of your own films, got {own}.")
    short = {"dataset": "own" if own else dataset, "data_options": own or None, "fit": fit}
    short |= {"epochs": epochs, "weights": start, "freeze": freeze or None, "arch": arch}
    given = {name: value for name, value in short.items() if value is not None}
    if start or arch:  # its own, whatever a recipe has
        given["growth_rate"] = None
    asked = RECIPES[recipe].with_values(values or (), **given)
    told = {name: value for name, value in asked.to_dict().items() if name != "about"}
    told = json.dumps(told, sort_keys=True).encode()
    digits = hashlib.sha256(told).hexdigest()[:6]  # tell these values from others
    folder = out or Path("runs") / f"{recipe}-{digits}"
    from chexlib.training import fit as train_by
    from chexlib.training.devices import is_first
    from chexlib.training.start import check_options

    if not is_first():
        logging.getLogger().setLevel(logging.ERROR)
        console.quiet = True
    _introduce(asked, RECIPES[recipe], folder, console)
    place = {"accelerator": accelerator, "devices": devices, "num_nodes": nodes}
    films = None
    if asked.dataset == "own" or not (folder / "metrics.json").is_file():  # labels may change
        check_options(asked, **place)
        films = _open(asked, console)
    said = {"progress": True, "checkpoint_every": checkpoint_every}
    run = train_by(asked, folder, data=films, **said, **place)
    if is_first():
        _conclude(run, console)


def _introduce(recipe: Recipe, plain: Recipe, folder: Path, console: Console) -> None:
    import torch

    gpus = torch.cuda.device_count()
    device = f"CPU, {torch.get_num_threads()} threads"
    if gpus:
        device = f"{gpus} x {torch.cuda.get_device_name()}"
    lines = [f"[bold]{escape(recipe.name)}[/]  {escape(recipe.about)}"]
    for name, (old, new) in recipe.differences(plain).items():
        lines.append(f"  {name} = {escape(json.dumps(new))}, not {escape(json.dumps(old))}")
    lines += [f"  device  {escape(device)}", f"  folder  {escape(str(folder))}"]
    console.print("\n".join(lines), soft_wrap=True)


def _open(recipe: Recipe, console: Console) -> dict[str, Dataset]:
    """Open the films; simulated ones are made now, once, where nobody has asked for them before."""
    from chexlib.training.recipes import open_data

    with bars(leave=False, disable=console.quiet) as bar:
        data = open_data(recipe, progress=bar)
    for split, films in data.items():
        patients = films.films["patient"].nunique()
        console.print(f"  {split:7} {len(films):,} films of {patients:,} patients")
    if recipe.dataset == "own":
        counts = [[(part.labels == y).sum(0) for y in (1, 0)] for part in data.values()]
        rows = [
            (f"  {name}", *(f"{yes[k]:,} of {yes[k] + no[k]:,}" for yes, no in counts))
            for k, name in enumerate(data["train"].findings)
        ]
        console.print(table("  Finding, of films known", *(f">{s}" for s in data), rows=rows))
    return data


def _conclude(run: Run, console: Console) -> None:
    from chexlib.text import estimate_text

    against, lines = ["truth", "labels"], []
    if run.metrics.get("truth") == run.metrics["labels"]:  # a phantom without noise
        del against[1]
    for name in against:
        if name in run.metrics:
            mean = run.metrics[name]["mean_auroc"]
            text = estimate_text(mean["estimate"], mean["low"], mean["high"], decimals=3)
            lines.append(
                f"[green]ready[/] mean AUROC {text} against the {name}, "
                f"{run.metrics['films']:,} test films of {run.metrics['patients']:,} patients"
            )
    folder = escape(str(run.folder))
    lines += [
        f"  {folder}",
        f"  [cyan]chexlib predict FILM --checkpoint {folder}[/]",
        f"  [cyan]chexlib evaluate {folder}/predictions.csv --labels {folder}/labels.csv[/]",
        f"  [cyan]tensorboard --logdir {folder}[/]",
        f"[bold]{NOTICE}[/]",
    ]
    console.print("\n".join(lines), soft_wrap=True)


def _list(recipes: list[Recipe], console: Console) -> None:
    values = [recipe.to_dict() for recipe in recipes]
    rows = [
        (name, *(json.dumps(one[name]) for one in values))
        for name in values[0]
        if name not in ("name", "about")
    ]
    console.print(table("Value", *(recipe.name for recipe in recipes), rows=rows))
    for recipe in recipes:
        console.print(f"\n[bold cyan]{escape(recipe.name)}[/]  {escape(recipe.about)}")

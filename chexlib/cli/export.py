"""``chexlib export``: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from chexlib.cli import shell


@shell.one_line_errors()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run, or weights as for predict.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file to write.")],
    *,
    films: Annotated[
        Path | None,
        typer.Option(
            help="Films of your own on which the file is checked. Default: simulated ones."
        ),
    ] = None,
    findings: shell.Findings = None,
    force: shell.Force = False,
) -> None:
    """Write a network as ONNX: grey film in, probabilities and logits out.

    It is checked with onnxruntime against PyTorch and written only if they agree. Its metadata say
    which findings, thresholds and preparation belong to it, where its weights are from, and what
    its training wrote of itself. [bold]Not for clinical use.[/]

    [bold]Example[/]

    [cyan]chexlib export runs/mine model.onnx --films /data/films[/]
    """
    from chexlib.data import find_radiographs
    from chexlib.export import export_onnx
    from chexlib.inference import read_thresholds
    from chexlib.metrics.thresholds import RULES
    from chexlib.models import load_checkpoint

    shell.keep_what_is_there([out], force=force, inputs=[checkpoint])
    model = load_checkpoint(checkpoint, findings=shell.names_in(findings))
    table, chosen = checkpoint / "thresholds.csv", {}
    for rule in RULES if table.is_file() else ():
        values = read_thresholds(table, rule=rule, findings=model.findings).tolist()
        chosen[rule] = dict(zip(model.findings, values, strict=True))
    source = None if films is None else find_radiographs(films)
    out.parent.mkdir(parents=True, exist_ok=True)
    count, difference = export_onnx(model, out, films=source, thresholds=chosen)
    console = shell.terminal()
    of = "simulated films" if films is None else "films"
    console.print(
        f"[green]ready[/] {escape(str(out))}: {len(model.findings)} findings; on {count} {of} its "
        f"probabilities are PyTorch's to {difference:.0e}",
        soft_wrap=True,
    )
    console.print(f"[bold]{shell.NOTICE}[/]")

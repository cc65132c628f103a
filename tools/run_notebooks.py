"""Run notebooks in place, and write them as they are committed: executed, and nothing else.

Run by ``make notebooks``. Clean means: sequential execution counts, cell identifiers, no metadata
but the kernel's name and what a person wrote, no widget state, no times.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(path: Path) -> None:
    """Execute one notebook in its own folder and write it back; an error leaves the file alone."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
    ).execute()
    notebook.metadata = {"kernelspec": KERNEL}
    for cell in notebook.cells:
        for noise in ("execution", "collapsed", "scrolled"):
            cell.metadata.pop(noise, None)
    nbformat.write(nbformat.validator.normalize(notebook)[1], path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, flush=True)
        run(Path(name))

"""Run the notebooks of the book side by side, into the cache from which Jupyter Book takes them.

Jupyter Book runs one after the other. What is in the cache already is not run again; what fails is
left to Jupyter Book, which runs it once more and says why.
"""

import logging
import os
import sys
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

BOOK = Path(__file__).resolve().parent.parent / "book"

if __name__ == "__main__":
    os.environ["CHEXLIB_FIGURES"] = "svg"  # as chexlib.sphinxext asks of the notebooks
    cache = get_cache(BOOK.parent / "_build/.jupyter_cache")
    found = [cache.add_nb_to_project(str(path)) for path in sorted(BOOK.glob("*.ipynb"))]
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    done = load_executor("local-parallel", cache).run_and_cache(
        filter_pks=[record.pk for record in found], timeout=600
    )
    print(f"ran {len(done.succeeded)} notebooks ahead")

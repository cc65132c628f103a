"""Rebuild the tables of figures: `python data/make_tables.py [NAME…]`, or `make tables` for all.

A builder computes a whole table and hands it over with its provenance, and only then the file is
replaced. A table whose inputs were not fetched is left as it is, and the command that fetches them
is named.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "book"))  # what chapters compute

from builders import BUILDERS, write_table

FOLDER = Path(__file__).parent
# In the order in which tables may need one another.
CHAPTERS = (
    *("dataset", "reports", "phantom", "label_quality", "seen", "readers", "images", "gap"),
    *("training", "real_films", "noise", "evaluation", "operating_points", "all_findings"),
    *("calibration", "clean_labels", "clean_subgroups", "radiologists", "networks", "spread"),
    *("cam", "localization", "touch", "touch_films"),
)
for chapter in CHAPTERS:
    import_module(f"tables_{chapter}")


def main() -> int:
    """Build what the command line names; return 1 if an input was missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BUILDERS)}")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (data/)")
    options = parser.parse_args()
    unknown = set(options.names) - set(BUILDERS)
    if unknown:
        parser.error(f"expected names of {', '.join(BUILDERS)}, got {', '.join(sorted(unknown))}")
    missing = 0
    for name in options.names or BUILDERS:
        try:
            frame, provenance = BUILDERS[name]()
        except FileNotFoundError as error:
            missing += 1
            print(f"{name}: left as it is. {error}", file=sys.stderr)
            continue
        command = f"python data/make_tables.py {name}"
        usual = ".json" if isinstance(frame, dict) else ".csv"
        suffix = provenance.pop("suffix", usual)  # a long table asks to be compressed
        write_table(frame, options.folder / f"{name}{suffix}", command=command, **provenance)
        print(f"{name}: {len(frame)} rows")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m chexlib``: the same as the command ``chexlib``."""

from chexlib.cli import app

if __name__ == "__main__":
    app(prog_name="chexlib")

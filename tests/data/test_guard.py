"""A script without a guard is told so, where it would wait for itself for ever."""

import os
import subprocess
import sys

import pytest

CACHE = (
    "from pathlib import Path\n"
    "from chexlib.data import open_dataset\n"
    "folder = Path(__file__).parent / 'films'\n"
    "print(open_dataset('phantom', 'val', size=32, n_patients=2, folder=folder))\n"
)
POOL = (
    "from chexlib.files import processes\n"
    "with processes(2) as pool:\n"
    "    print(pool.submit(abs, -4).result())\n"
)


def run(tmp_path, text):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "CHEXLIB_CACHE": str(tmp_path)},
    )


@pytest.mark.parametrize("text", [CACHE, POOL])
def test_without_a_guard_it_says_what_to_do(tmp_path, text):
    ended = run(tmp_path, text)
    assert ended.returncode == 1
    *_, error = ended.stderr.split("RuntimeError: ")
    assert error.startswith("Expected processes that help this one")
    assert str(tmp_path / "script.py") in error
    assert 'if __name__ == "__main__":' in error
    assert ended.stdout == ""


def test_with_a_guard_it_works(tmp_path):
    guarded = 'if __name__ == "__main__":\n' + "".join(
        f"    {line}\n" for line in POOL.splitlines()
    )
    ended = run(tmp_path, guarded)
    assert (ended.returncode, ended.stdout) == (0, "4\n"), ended.stderr

"""Two processes with half batches, started by torchrun, against one with whole batches."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from run_it import VALIDATION, data
from safetensors.torch import load_file
from small import films, recipe

from chexlib.data.batches import Batcher
from chexlib.metrics import auroc
from chexlib.models import CheXNet
from chexlib.training import fit, open_run
from chexlib.training.start import batches_of

PROGRAM = str(Path(__file__).with_name("run_it.py"))
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def started(*arguments):
    command = [sys.executable, *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended


def test_validation_is_exact_and_weights_are_those_of_the_first_process(tmp_path):
    started(*TORCHRUN, PROGRAM, tmp_path, "watched")
    run = open_run(tmp_path)
    (mine, kept), (others, taken) = (torch.load(tmp_path / f"buffers-{r}.pt") for r in (0, 1))
    assert not torch.equal(mine, others)  # each saw films of its own
    torch.testing.assert_close(kept, mine, rtol=0, atol=0)
    torch.testing.assert_close(taken, mine, rtol=0, atol=0)
    model = run.model()
    found = torch.cat([b.double().flatten() for b in model.buffers()])
    torch.testing.assert_close(found, mine, rtol=0, atol=0)

    val = films("val", VALIDATION)
    with torch.no_grad():
        logits = model(Batcher(val.cache)(val.rows)).double().numpy()
    loss = np.logaddexp(0, np.where(val.labels, -logits, logits)).mean()
    last = run.history.iloc[-1]
    assert last["val_loss"] == pytest.approx(loss, abs=1e-6)
    assert last["val_auroc"] == pytest.approx(auroc(val.labels, logits).mean(), abs=1e-6)
    assert [path.name for path in tmp_path.glob("judged-by-*")] == ["judged-by-0"]
    assert len(run.predictions) == len(films("test"))

    # Batch normalisation saw half batches: another run of the same kind, as fit's notes say.
    alone = fit(recipe(epochs=1), tmp_path / "alone", data=data())
    difference, _ = apart(run.folder, alone.folder)
    assert 1e-4 < difference < 0.02  # six steps of at most 0.002
    assert last["val_loss"] == pytest.approx(alone.history["val_loss"].iloc[-1], abs=0.02)


def apart(one, two):
    """Return the largest difference of two runs, and how far the first has come from the start."""
    one, two = (load_file(folder / "best.safetensors") for folder in (one, two))
    weights = [key for key in one if "running" not in key and "num_batches" not in key]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = CheXNet(growth_rate=1).network.state_dict()

    def largest(a, b):
        return max(float((a[key] - b[key]).abs().max()) for key in weights)

    return largest(one, two), largest(one, start)


@pytest.mark.parametrize("mode", ["frozen", "accumulated"])
def test_two_halves_are_one_whole_but_for_batch_normalisation(tmp_path, mode):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    started(PROGRAM, tmp_path / "one", mode)
    started(*TORCHRUN, PROGRAM, tmp_path / "two", mode)
    difference, moved = apart(tmp_path / "one", tmp_path / "two")
    assert moved > (2e-4 if mode == "frozen" else 5e-5)
    assert difference < 1e-6  # the same films in the same steps, summed in another order
    histories = [open_run(tmp_path / name).history.iloc[0] for name in ("one", "two")]
    for column in ("train_loss", "val_loss", "val_auroc"):
        assert histories[1][column] == pytest.approx(histories[0][column], abs=1e-6)


def runs(pid):
    """Return whether a process runs; nobody may have asked how an orphan ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are read in /proc")
def test_no_process_outlives_a_killed_torchrun(tmp_path):
    command = [sys.executable, *TORCHRUN, PROGRAM, str(tmp_path), "endless"]
    with (tmp_path / "said").open("wb") as said:
        torchrun = subprocess.Popen(command, stdout=said, stderr=said)
    training = lambda: [int(p.name[9:]) for p in tmp_path.glob("training-*")]  # noqa: E731
    try:
        assert wait_until(lambda: len(training()) == 2, 240), (tmp_path / "said").read_text()
        assert all(map(runs, training()))
    finally:
        torchrun.kill()
        torchrun.wait()
        gone = wait_until(lambda: not any(map(runs, training())), 20)
        for pid in filter(runs, training()):
            os.kill(pid, signal.SIGKILL)
    assert gone


def test_ranks_share_the_films():
    def rows(kind, rank, world):
        made = batches_of(recipe(), films(kind), train=kind == "train", rank=rank, world=world)
        parts = [batch[2] for batch in made]
        assert len(made) == len(parts)
        return parts

    whole = rows("train", 0, 1)
    halves = [rows("train", rank, 2) for rank in (0, 1)]
    assert len(whole) == len(films("train")) // 8 == len(halves[0]) == len(halves[1])
    for step, batch in enumerate(whole):  # the halves of a step make up its whole
        both = np.concatenate([halves[0][step], halves[1][step]])
        np.testing.assert_array_equal(np.sort(both), np.sort(batch))
    judged = np.concatenate([np.concatenate(rows("val", rank, 2)) for rank in (0, 1)])
    np.testing.assert_array_equal(np.sort(judged), np.arange(len(films("val"))))

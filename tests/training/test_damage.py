"""A damaged resume point, or file of weights, is refused: it is never half believed."""

import json
import pickle
import random
import shutil
import zipfile

import pandas as pd
import pytest
import torch
from small import datasets, recipe

from chexlib.models import CheckpointError, CheXNet, load_checkpoint, save_checkpoint
from chexlib.training import fit, loop, open_run
from chexlib.training.run import read_point

ASKED = recipe(epochs=1)
BITS, CUTS = 60, 20


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run's folder, stopped at its end, before it was judged."""
    folder = tmp_path_factory.mktemp("stopped")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "judge", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(ASKED, folder, data=datasets(), checkpoint_every=2)
    torch.set_num_threads(before)
    return folder


@pytest.fixture(scope="module")
def read(stopped):
    """What reads a resume point of the run, by the recipe as its folder has it."""
    asked = open_run(stopped, finished=False).recipe
    state = CheXNet(growth_rate=1).state_dict()
    return lambda path: read_point(path, asked, state)


def plain(value):
    """Return values that can be compared, bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def flipped(content, rng, places):
    """Yield copies with one bit changed: in the data, and where a format's own bytes are."""
    for place in places:
        copy = bytearray(content)
        copy[place] ^= 1 << rng.randrange(8)
        yield bytes(copy)


def structure(path):
    """Return the places of a zip file that are no member's data."""
    size, data = path.stat().st_size, set()
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            start = info.header_offset + 30 + name + extra
            data |= set(range(start, start + info.file_size))
    return sorted(set(range(size)) - data)


def judged(variants, path, read):
    """Count refused variants; those that are read must be what was written."""
    expected, whole, refusals = plain(read(path)), path.read_bytes(), []
    for content in variants:
        path.write_bytes(content)
        try:
            found = read(path)
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            assert plain(found) == expected
    path.write_bytes(whole)
    assert all(str(path) in said and len(said) < 2100 for said in refusals)
    return len(refusals)


@pytest.fixture
def point(stopped, tmp_path):
    return shutil.copy(stopped / "last.ckpt", tmp_path / "last.ckpt")


def test_no_bit_of_a_resume_point_is_taken_for_another(point, read):
    rng, content = random.Random(1), point.read_bytes()
    places = [rng.randrange(len(content)) for _ in range(BITS)]
    places += rng.sample(structure(point), BITS // 3)
    variants = flipped(content, rng, places)
    refused = judged(variants, point, read)
    assert refused > BITS // 2  # all in the data, and most of the rest


def test_no_part_of_a_resume_point_is_taken_for_the_whole(point, read):
    rng, content = random.Random(2), point.read_bytes()
    ends = [0, 1, 4, len(content) - 1, *(rng.randrange(len(content)) for _ in range(CUTS))]
    variants = (content[:end] for end in ends)
    refused = judged(variants, point, read)
    assert refused == len(ends)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_no_bit_of_weights_is_taken_for_another(kind, tmp_path):
    torch.manual_seed(0)
    model = CheXNet(growth_rate=1)
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_checkpoint(model, path, metadata={"recipe": {"size": 96}})
    else:
        torch.save(model.network.state_dict(), path)
    rng, content = random.Random(3), path.read_bytes()
    places = [rng.randrange(len(content)) for _ in range(BITS)]
    places += rng.sample(structure(path) if kind == "torch" else range(20_000), BITS // 3)

    def weights(path):
        return load_checkpoint(path).state_dict()

    refused = judged(flipped(content, rng, places), path, weights)
    assert refused > BITS // 2
    ends = [0, 1, len(content) - 1, *(rng.randrange(len(content)) for _ in range(CUTS))]
    assert judged((content[:end] for end in ends), path, weights) == len(ends)


def foreign(path, stopped):
    """Yield what stands in the place of a resume point, and is none of this run."""
    kept = torch.load(stopped / "last.ckpt", weights_only=True)
    path.write_bytes(b"")
    yield "empty"
    path.write_bytes(b"e")  # a pickle that ends at once
    yield "a letter"
    path.write_text("<html>404</html>")
    yield "a page"
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    yield "a plain pickle"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("films/a.txt", "text")
    yield "a zip"
    torch.save([1, 2], path)
    yield "a list"
    torch.save(kept["state_dict"], path)
    yield "weights"
    torch.save({k: v for k, v in kept.items() if k != "totals"}, path)
    yield "a part"
    values = json.loads(kept["chexlib"]["recipe"]) | {"seed": 7}
    chexlib = {**kept["chexlib"], "recipe": json.dumps(values)}
    torch.save({**kept, "chexlib": chexlib}, path)
    yield "another run's"


def test_a_point_of_the_trainer_of_earlier_versions_is_refused_by_name(stopped, read, point):
    kept = torch.load(point, weights_only=True)
    torch.save({**kept, "pytorch-lightning_version": "2.6.6"}, point)
    with pytest.raises(CheckpointError, match="one of Lightning's Trainer.* remove last.ckpt and"):
        read(point)


def test_a_run_says_what_to_do_and_goes_on_from_the_point_before(stopped, read, tmp_path):
    whole = tmp_path / "whole"
    fit(ASKED, whole, data=datasets(), checkpoint_every=2)
    assert not (whole / "previous.ckpt").exists()  # of no more use
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    path = folder / "last.ckpt"
    for what in foreign(path, stopped):
        content = path.read_bytes()
        with pytest.raises(CheckpointError, match="the run goes on from previous") as refused:
            read(path)
        assert str(path) in str(refused.value), what
        assert "\n" not in str(refused.value), what
        assert path.read_bytes() == content, what
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="the run goes on from previous"):
        fit(ASKED, folder, data=datasets())
    path.unlink()
    fit(ASKED, folder, data=datasets(), checkpoint_every=2)
    for name in ("best.safetensors", "predictions.csv", "metrics.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    histories = [pd.read_csv(f / "history.csv").drop(columns="seconds") for f in (folder, whole)]
    pd.testing.assert_frame_equal(*histories)

    shutil.copytree(stopped, tmp_path / "alone")
    (tmp_path / "alone" / "previous.ckpt").unlink()
    (tmp_path / "alone" / "last.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"Remove it: the run begins again"):
        fit(ASKED, tmp_path / "alone", data=datasets())

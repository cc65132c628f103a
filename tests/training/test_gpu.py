"""What only a graphics card can show: mixed precision, compiling, resuming, a resident cache."""

import numpy as np
import pandas as pd
import pytest
import torch
from small import datasets, recipe

from chexlib.data import Augment, Batcher
from chexlib.models import CheXNet, load_checkpoint
from chexlib.training import fit, loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card"),
]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CheXNet(growth_rate=4).cuda().eval()


@pytest.fixture
def images():
    return torch.rand(8, 1, 64, 64, device="cuda", generator=torch.Generator("cuda").manual_seed(1))


@torch.no_grad()
def test_mixed_precision_moves_logits_little(network, images):
    with torch.autocast("cuda", torch.bfloat16):
        mixed = network(images)
    assert mixed.dtype == torch.bfloat16
    assert float((mixed.float() - network(images)).abs().max()) < 0.05


@torch.no_grad()
def test_a_compiled_network_gives_the_same_logits(network, images):
    compiled = torch.compile(network)(images.contiguous(memory_format=torch.channels_last))
    assert float((compiled - network(images)).abs().max()) < 1e-3


@pytest.mark.parametrize("augment", [Augment.none(), Augment.chexnet()])
def test_films_in_the_card_are_those_of_the_cache(augment):
    films = datasets()["train"].cache.images
    rows = np.arange(len(films))[::-1]
    ways = {
        resident: Batcher(films, augment=augment, device="cuda", resident=resident)
        for resident in (True, False)
    }
    assert ways[True].resident
    assert torch.equal(ways[True](rows, epoch=3), ways[False](rows, epoch=3))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch, compiled):
    """A card adds in no fixed order, so that the last digits differ; a step too few shows."""
    asked = recipe(compile=compiled, precision="auto", channels_last="auto", growth_rate=4)
    whole = fit(asked, tmp_path / "whole", data=datasets(), accelerator="gpu")

    class Stopped(BaseException):
        pass

    written = loop.write_point

    def once(*arguments, **options):
        written(*arguments, **options)
        monkeypatch.setattr(loop, "write_point", written)
        raise Stopped

    monkeypatch.setattr(loop, "write_point", once)
    options = {"data": datasets(), "accelerator": "gpu", "checkpoint_every": 3}
    with pytest.raises(Stopped):
        fit(asked, tmp_path / "stopped", **options)
    resumed = fit(asked, tmp_path / "stopped", **options)
    columns = ["epoch", "train_loss", "val_loss", "learning_rate"]
    histories = [pd.read_csv(run.folder / "history.csv")[columns] for run in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories, rtol=0.02)
    assert load_checkpoint(resumed.folder).provenance["metadata"]["recipe"]

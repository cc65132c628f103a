"""Frozen bodies, rates, accumulated gradients, SGD, random layers, labels that are not known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small import ACCUMULATED, SIDE, datasets, films, recipe
from test_resume import Stopped, at_call, attempts, outcome, same

from chexlib.data import read_labels
from chexlib.data.batches import Batcher, Batches
from chexlib.findings import FINDINGS
from chexlib.inference import choose_thresholds
from chexlib.metrics import auroc
from chexlib.models import CheXNet, load_checkpoint, phantom_checkpoint, save_checkpoint
from chexlib.training import fit, loop, open_run, predict, start
from chexlib.training.loop import Training

ON_SHIPPED = {"weights": str(phantom_checkpoint()), "growth_rate": None, "epochs": 1}
OPTIONS = {
    "sgd, accumulated": ACCUMULATED,
    "one-cycle, accumulated": recipe(accumulate=4, epochs=1),
    "frozen": recipe(**ON_SHIPPED, freeze=True),
    "two rates": recipe(**ON_SHIPPED, body_rate=0.1),
    "layers that drop": recipe(arch="efficientnet_b0", growth_rate=None, epochs=1),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_stopped_within_every_other_step(name, tmp_path, monkeypatch):
    asked = OPTIONS[name]
    fit(asked, tmp_path / "whole", data=datasets(), checkpoint_every=100)
    torch.rand(1)  # what others draw changes nothing
    arm = at_call(Training, "train_step", asked.accumulate + 2)
    assert attempts(asked, tmp_path / "stopped", 1, monkeypatch, arm) >= 1
    same(tmp_path / "stopped", outcome(tmp_path / "whole"))


def test_every_batch_draws_its_own_numbers_and_the_callers_stay(tmp_path, monkeypatch):
    seen, step = [], Training.train_step

    def watched(self, *batch):
        step(self, *batch)
        seen.append(torch.rand(3).tolist())

    monkeypatch.setattr(Training, "train_step", watched)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(recipe(epochs=2), tmp_path / "one", data=datasets())
    assert torch.get_rng_state().equal(before)
    assert len({tuple(numbers) for numbers in seen}) == len(seen) == 12
    first = seen.copy()
    seen.clear()
    fit(recipe(epochs=1, seed=1), tmp_path / "two", data=datasets())
    assert seen[0] != first[0]


def weights(run):
    return {k: v for k, v in load_file(run.folder / "best.safetensors").items() if "num_" not in k}


PLAIN = {"schedule": "constant", "epochs": 1, "optimizer": "sgd", "momentum": 0.0}


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "CheXNet", lambda **options: CheXNet(**options).eval())
    values = {**PLAIN, "learning_rate": 0.02, "momentum": 0.9, "augment": "none"}
    whole = fit(recipe(**values, batch_size=16), tmp_path / "whole", data=datasets())
    asked = recipe(**values, batch_size=4, accumulate=4)
    steps, step = [], torch.optim.SGD.step

    def counted(*arguments, **options):
        steps.append(1)
        return step(*arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", counted)
    parts = fit(asked, tmp_path / "parts", data=datasets())
    assert len(steps) == 3  # 48 films
    one, other = weights(whole), weights(parts)
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)
    losses = [run.history["train_loss"].iloc[0] for run in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_body_moves_at_its_own_rate(tmp_path):
    values = {**PLAIN, "weight_decay": 0.0, "learning_rate": 0.1, "batch_size": 48}  # one step
    runs = [
        fit(recipe(**values, body_rate=rate), tmp_path / str(rate), data=datasets())
        for rate in (1.0, 0.25)
    ]
    assert [run.history["learning_rate"].iloc[0] for run in runs] == [0.1, 0.1]  # the head's
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        begun = CheXNet(growth_rate=1).network.state_dict()
    one, quarter = (
        {key: value - begun[key] for key, value in weights(run).items() if "running" not in key}
        for run in runs
    )
    for key, moved in one.items():
        share = 1.0 if key.startswith("classifier") else 0.25
        torch.testing.assert_close(quarter[key], share * moved, rtol=0.02, atol=2e-7)
    assert max(float(v.abs().max()) for k, v in one.items() if "classifier" not in k) > 1e-4


@pytest.mark.parametrize("batches", range(1, 12))
def test_one_cycle_has_a_rate_for_any_number_of_steps(batches):
    asked, model = recipe(epochs=1), CheXNet(growth_rate=1)
    optimizer = start.make_optimizer(asked, model, fused=False)
    schedule = start.make_schedule(asked, optimizer, batches=batches)
    rates = []
    for _ in range(batches):
        rates.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        schedule.step()
    assert 0 < max(rates) <= asked.learning_rate * 1.000001


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_momentum_and_decay_reach_the_optimizer(kind):
    asked = recipe(schedule="plateau", optimizer=kind, momentum=0.7, weight_decay=0.03)
    model = CheXNet(growth_rate=1)
    found = start.make_optimizer(asked, model, fused=False)
    assert type(found).__name__.lower() == kind
    learns = [p for group in found.param_groups for p in group["params"]]
    assert [id(p) for p in learns] == [id(p) for p in model.parameters()]
    for group in found.param_groups:
        assert group["weight_decay"] == 0.03
        assert group.get("momentum", group.get("betas", [None])[0]) == 0.7


def test_a_frozen_body_stays_and_the_head_of_other_findings_learns(tmp_path):
    names = ("Cough", "Effusion", "Mass")
    kept = [FINDINGS.index(name) for name in names[1:]]
    data = {
        split: replace(part, labels=part.labels[:, [0, *kept]], truth=None, findings=names)
        for split, part in datasets().items()
    }
    shipped = load_checkpoint(phantom_checkpoint())
    asked = recipe(**ON_SHIPPED, learning_rate=1e-4, freeze=True)
    run = fit(asked, tmp_path / "run", data=data)
    model = run.model()
    assert model.findings == names
    for key, value in shipped.state_dict().items():
        if "classifier" not in key:
            assert model.state_dict()[key].equal(value), key
    moved = (model.classifier.weight[1:] - shipped.classifier.weight[kept]).detach().abs().max()
    assert 0 < float(moved) < 1e-3  # the rows of the shipped network, six steps on
    assert run.recipe.dataset == "given"
    onward = recipe(weights=str(run.folder), growth_rate=None, epochs=1)
    again = fit(onward, tmp_path / "again", data=data).model()
    assert again.findings == names
    stem = "network.features.conv0.weight"
    assert not again.state_dict()[stem].equal(shipped.state_dict()[stem])


def test_weights_of_another_network_are_refused_before_anything_is_opened(tmp_path):
    save_checkpoint(CheXNet(arch="resnet18", findings=("A",)), tmp_path / "other.safetensors")
    asked = recipe(weights=str(tmp_path / "other.safetensors"), growth_rate=None)
    with pytest.raises(ValueError, match=r"Expected weights of .*densenet121.* --arch resnet18"):
        fit(asked, tmp_path / "run", data=datasets())
    (tmp_path / "none.pt").write_text("no weights")
    with pytest.raises(ValueError, match="Expected a safetensors file"):
        fit(recipe(weights=str(tmp_path / "none.pt"), growth_rate=None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_imagenets_weights_is_known_for_one(tmp_path):
    from torchvision.models import resnet18

    path, plain = tmp_path / "resnet18.pt", resnet18()
    torch.save(plain.state_dict(), path)
    asked = recipe(weights=str(path), arch="resnet18", growth_rate=None, epochs=1, freeze=True)
    model = fit(asked, tmp_path / "run", data=datasets()).model()
    assert model.network.conv1.weight.equal(plain.conv1.weight)
    assert model.findings == FINDINGS


# ---- labels that are not known


def hidden(share=0.3):
    """Return the small films with labels that are known for most of them."""
    rng, data = np.random.default_rng(1), {}
    for split, part in datasets().items():
        labels = np.where(rng.random(part.labels.shape) < share, np.nan, part.labels)
        labels[:3] = part.labels[:3]  # both kinds of each
        data[split] = replace(part, labels=labels.astype(np.float32), truth=None)
    return data


def test_what_is_not_known_counts_nowhere(tmp_path, monkeypatch):
    data, shares, made = hidden(), [], loop.make_loss

    def watched(asked, prevalence):
        shares.append(prevalence)
        return made(asked, prevalence)

    monkeypatch.setattr(loop, "make_loss", watched)
    run = fit(recipe(loss="weighted-bce", epochs=1), tmp_path, data=data)
    train, val, test = (data[split] for split in ("train", "val", "test"))
    for k, share in enumerate(shares[-1]):
        column = train.labels[:, k]
        assert share == pytest.approx(column[~np.isnan(column)].mean())
    with torch.no_grad():
        logits = run.model()(Batcher(val.cache)(val.rows)).double().numpy()
    known = ~np.isnan(val.labels)
    costs = np.logaddexp(0, np.where(val.labels == 1, -logits, logits))[known]
    areas = [auroc(y[k], x[k]) for y, x, k in zip(val.labels.T, logits.T, known.T, strict=True)]
    row = run.history.iloc[-1]
    assert row["val_loss"] == pytest.approx(costs.mean(), abs=1e-6)
    assert row["val_auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    chosen = choose_thresholds(val.labels, predict(run.model(), val))
    written = pd.read_csv(tmp_path / "thresholds.csv")
    np.testing.assert_allclose(written["threshold"], chosen["threshold"], rtol=1e-5)
    for k, name in enumerate(FINDINGS):
        some = ~np.isnan(test.labels[:, k])
        found = run.metrics["labels"]["auroc"][name]
        assert found["positives"] == test.labels[some, k].sum()
        expected = auroc(test.labels[some, k], run.predictions.loc[some, name])
        assert found["estimate"] == pytest.approx(expected, abs=1e-4)
    table, names = read_labels(tmp_path / "labels.csv", findings=FINDINGS)
    np.testing.assert_array_equal(table[list(names)].to_numpy(float), test.labels)
    assert table["view"].tolist() == test.films["view"].tolist()


def test_what_is_known_is_part_of_the_data(tmp_path, monkeypatch):
    data = hidden()
    with monkeypatch.context() as patch:
        at_call(Training, "train_step", 3)(patch)
        with pytest.raises(Stopped):
            fit(recipe(epochs=1), tmp_path, data=data)
    labels = data["train"].labels.copy()
    labels[tuple(np.argwhere(np.isnan(labels))[0])] = 0
    other = {**data, "train": replace(data["train"], labels=labels)}
    names = tuple(f"{name}, again" for name in FINDINGS)
    renamed = {split: replace(part, findings=names) for split, part in data.items()}
    for others in (other, renamed):
        with pytest.raises(ValueError, match="Expected the films that the run in"):
            fit(recipe(epochs=1), tmp_path, data=others)
    fit(recipe(epochs=1), tmp_path, data=data)
    with pytest.raises(ValueError, match="Expected the films that the run in"):
        fit(recipe(epochs=1), tmp_path, data=other)  # nor is a finished run opened for them
    assert open_run(tmp_path).metrics["films"] == 30


def test_targets_are_what_losses_take():
    part = films("val")
    options = {"rows": part.rows, "targets": part.labels, "shuffle": False, "epoch": 0}
    for images, targets, rows in Batches(Batcher(part.cache), batch_size=8, **options):
        assert (images.dtype, targets.dtype) == (torch.float32, torch.float32)
        assert images.shape[1:] == (1, SIDE, SIDE)
        np.testing.assert_array_equal(targets, part.labels[rows])

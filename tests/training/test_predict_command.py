"""`chexlib predict`: films as people have them, thresholds, and a job that goes on."""

import json
import shutil
import subprocess
import sys
import tarfile
import zlib

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from small import datasets, films, recipe
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import find_radiographs, read_predictions
from chexlib.data.predictions import IDENTIFY
from chexlib.findings import FINDINGS, INFO
from chexlib.inference import Preparation, choose_thresholds, predict_files, read_thresholds
from chexlib.metrics import choose
from chexlib.metrics.thresholds import RULES
from chexlib.models import CheXNet, load_checkpoint, save_checkpoint
from chexlib.training import fit

WIDE = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}
MANY = 75  # two whole tasks and a part


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = fit(recipe(epochs=1), tmp_path_factory.mktemp("run"), data=datasets())
    torch.set_num_threads(before)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The test films and more as PNG files, and one that is none."""
    path = tmp_path_factory.mktemp("films")
    for part in (films("test"), films("val", MANY - 31)):
        for name, pixels in zip(part.films["image"], part.cache.images, strict=True):
            cv2.imwrite(str(path / name), pixels)
    (path / "00002050_000.png").write_text("no film")
    return path


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=WIDE)


def test_one_film(call, run, folder):
    name = "00002001_000.png"
    result = call("predict", folder / name, "--checkpoint", run.folder)
    assert result.exit_code == 0, result.output
    assert "Not for clinical use." in result.stdout
    scores = run.predictions.set_index("image").loc[name]
    chosen = read_thresholds(run.folder / "thresholds.csv")
    for finding, threshold in zip(FINDINGS, chosen, strict=True):
        line = next(
            line for line in result.stdout.splitlines() if line.startswith(INFO[finding].english)
        )
        if scores[finding] != pytest.approx(threshold, rel=1e-4):
            assert ("at or above" in line) == (scores[finding] > threshold)
        numbers = [float(word) for word in line.split() if word.startswith("0.")]
        assert numbers == pytest.approx([scores[finding], threshold], abs=6e-4)


def test_one_film_from_weights_alone(call, run, tmp_path):
    weights = tmp_path / "mine.safetensors"
    shutil.copy(run.folder / "best.safetensors", weights)
    film = get_testdata_file("RG1_UNCR.dcm")
    result = call("predict", film, "--checkpoint", weights, "--out", "one.csv")
    assert result.exit_code == 0, result.output
    assert "No thresholds; give the folder of a run" in result.stdout
    assert "Threshold" not in result.stdout
    assert read_predictions(tmp_path / "one.csv")["image"].tolist() == ["RG1_UNCR.dcm"]
    assert Preparation.of(load_checkpoint(weights)) == Preparation(32, 32)  # as the file says
    last = Preparation.of(load_checkpoint(run.folder / "last.ckpt"))
    assert last == Preparation(32, 32)
    call("predict", film, "--checkpoint", run.folder, "--out", "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_a_folder(call, run, folder, tmp_path):
    result = call("predict", folder, "--checkpoint", run.folder)
    assert result.exit_code == 0, result.output
    assert f"ready {MANY - 1} films in predictions.csv" in result.stdout
    said = f"{MANY - 1} films read, 1 rejected: see predictions-rejected.csv; 0 files ignored"
    assert said in result.stdout
    found = read_predictions(tmp_path / "predictions.csv")
    known = run.predictions
    shared = found[found["image"].isin(known["image"])]
    assert shared["image"].tolist() == known["image"].tolist()
    np.testing.assert_allclose(shared.iloc[:, 1:], known.iloc[:, 1:], rtol=1e-4, atol=1e-6)
    rejected = pd.read_csv(tmp_path / "predictions-rejected.csv")
    assert rejected["image"].tolist() == ["00002050_000.png"]
    assert "expected a PNG, a JPEG or a DICOM file" in rejected["reason"][0]
    assert not (tmp_path / "predictions.csv.part").exists()
    line = next(x for x in result.stdout.splitlines() if x.startswith("Atelectasis"))
    threshold = read_thresholds(run.folder / "thresholds.csv")[0]
    count = int((found["Atelectasis"] >= threshold).sum())
    assert line.split()[-1] == str(count)

    again = call("predict", folder, "--checkpoint", run.folder)
    assert again.exit_code == 1
    assert "Expected a new file, got predictions.csv" in again.stderr
    before = (tmp_path / "predictions.csv").read_bytes()
    assert call("predict", folder, "--checkpoint", run.folder, "--force").exit_code == 0
    assert (tmp_path / "predictions.csv").read_bytes() == before


def test_all_refused_is_no_success(call, run, tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.png").write_text("no film")
    (tmp_path / "films" / "list.txt").write_text("one.png")
    result = call("predict", "films", "--checkpoint", run.folder)
    assert result.exit_code == 1
    assert "0 films read, 1 rejected: see predictions-rejected.csv; 1 files" in result.stdout
    assert "1 text (list.txt)" in result.stdout
    assert "found none among 1. The reasons are in predictions-rejected.csv" in result.stderr


def test_an_archive_of_one_film_and_a_film_without_a_suffix(call, run, folder, tmp_path):
    shutil.copy(folder / "00002001_000.png", tmp_path / "IM0001")
    with tarfile.open(tmp_path / "one.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "IM0001", "IM0001")
    result = call("predict", "one.tar.gz", "--checkpoint", run.folder)
    assert result.exit_code == 0, result.output
    assert call("predict", "IM0001", "--checkpoint", run.folder).exit_code == 0
    known = run.predictions.iloc[:1, 1:]
    found = read_predictions(tmp_path / "predictions.csv").iloc[:, 1:]
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-6)


DEADLY = """
import os, sys
from pathlib import Path
from chexlib.data import find_radiographs, sources
from chexlib.models import CheXNet, load_checkpoint, save_checkpoint
from chexlib.inference import predict_files

read = sources.open_radiograph

def deadly(data, *, name):
    if name.endswith("00002003_000.png"):
        os._exit(11)  # as a decoder's crash ends it
    return read(data, name=name)

sources.open_radiograph = deadly  # here, and where this script is imported to help
if __name__ == "__main__":
    run, folder, out = map(Path, sys.argv[1:])
    print(*predict_files(load_checkpoint(run), find_radiographs(folder), out))
"""


def test_a_film_that_ends_its_reader_costs_that_film_alone(run, folder, tmp_path):
    (tmp_path / "predict.py").write_text(DEADLY)
    model = load_checkpoint(run.folder)
    predict_files(model, find_radiographs(folder), tmp_path / "whole.csv")
    command = [sys.executable, "predict.py", run.folder, folder, "out.csv"]
    ended = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600
    )
    assert ended.stdout.split() == [str(MANY - 2), "2"], ended.stderr[-2000:]
    rejected = pd.read_csv(tmp_path / "out-rejected.csv").set_index("image")
    assert "one that ends its reader" in rejected.loc["00002003_000.png", "reason"]
    whole, found = (read_predictions(tmp_path / f"{n}.csv") for n in ("whole", "out"))
    whole = whole[whole["image"] != "00002003_000.png"].reset_index(drop=True)
    assert found["image"].tolist() == whole["image"].tolist()
    np.testing.assert_allclose(found.iloc[:, 1:], whole.iloc[:, 1:], rtol=1e-4, atol=1e-6)


def test_a_list(call, run, folder, tmp_path):
    names = ["00002003_000.png", "00002001_001.png"]
    pd.DataFrame({"path": [folder / name for name in names]}).to_csv("list.csv", index=False)
    result = call("predict", "list.csv", "--checkpoint", run.folder, "--out", "new/out.csv")
    assert result.exit_code == 0, result.output
    assert read_predictions(tmp_path / "new" / "out.csv")["image"].tolist() == names


OWN = ("Rib fracture", "Mass", "Effusion")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Weights of another family for findings of their own, and a PACS-like tree of films."""
    path = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    model = CheXNet(arch="resnet18", findings=OWN)
    said = {"recipe": {"cache_size": 64, "size": 64, "fit": "pad"}}
    save_checkpoint(model, path / "own.safetensors", metadata=said)
    film = pydicom.dcmread(get_testdata_file("RG1_UNCR.dcm"))
    for k, name in enumerate(("p1", "p2")):
        (path / "pacs" / name).mkdir(parents=True)
        film.PatientID, film.StudyInstanceUID = f"=P{k}x", f"1.2.3.{k}"
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = f"1.2.4.{k}"
        film.save_as(path / "pacs" / name / "IM0001")
    grey = film.pixel_array[:, ::2] / film.pixel_array.max() * 255
    cv2.imwrite(str(path / "pacs" / "plain.png"), grey.astype(np.uint8))
    return path


def test_a_network_of_other_findings(call, own, tmp_path):
    (tmp_path / "t.csv").write_text("finding,threshold\nRib fracture,0.5\nMass,0\n")
    result = call("predict", own / "pacs", "--checkpoint", own / "own.safetensors")
    assert result.exit_code == 0, result.output
    assert "nothing of a header" in result.stdout
    plain = pd.read_csv(tmp_path / "predictions.csv")
    assert list(plain.columns) == ["Image Index", *OWN]
    assert plain["Image Index"].tolist() == ["p1/IM0001", "p2/IM0001", "plain.png"]
    options = ["--checkpoint", own / "own.safetensors", "--thresholds", tmp_path / "t.csv"]
    result = call("predict", own / "pacs", *options, "--identify", "--out", "deep/er/who.csv")
    assert result.exit_code == 0, result.output
    assert "it is as identifying as the films" in result.stdout
    counted = {line.split()[0]: line.split()[-1] for line in result.stdout.splitlines() if line}
    assert counted["Mass"] == "3"
    found = pd.read_csv(tmp_path / "deep" / "er" / "who.csv", keep_default_na=False)
    assert list(found.columns) == ["Image Index", *IDENTIFY, *OWN]
    assert found["Path"].tolist() == ["p1/IM0001", "p2/IM0001", "plain.png"]
    assert found["SOPInstanceUID"].tolist() == ["1.2.4.0", "1.2.4.1", ""]
    assert found["StudyInstanceUID"].tolist() == ["1.2.3.0", "1.2.3.1", ""]
    assert found["PatientID"].tolist() == ["'=P0x", "'=P1x", ""]
    read = read_predictions(tmp_path / "deep" / "er" / "who.csv", findings=OWN)
    pd.testing.assert_frame_equal(read[list(OWN)], plain[list(OWN)])
    # One film alone says the same of itself.
    one = [own / "pacs" / "p1" / "IM0001", *options, "--identify", "--out", "one.csv"]
    result = call("predict", *one)
    assert result.exit_code == 0, result.output
    assert "Rib fracture" in result.stdout
    alone = pd.read_csv(tmp_path / "one.csv")
    assert alone["SOPInstanceUID"].tolist() == ["1.2.4.0"]
    np.testing.assert_allclose(alone[list(OWN)], plain[list(OWN)][:1], atol=1e-6)


def test_names_for_outputs_that_have_none(call, own, tmp_path):
    state = load_checkpoint(own / "own.safetensors").network.state_dict()
    torch.save(state, tmp_path / "foreign.pth")
    film, named = own / "pacs" / "plain.png", ["--findings", "Rib fracture,Mass,effusion"]
    refused = call("predict", film, "--checkpoint", "foreign.pth")
    assert refused.exit_code == 1
    assert "Expected" in refused.stderr
    result = call("predict", film, "--checkpoint", "foreign.pth", *named, "--out", "f.csv")
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(tmp_path / "f.csv").columns[1:]) == list(OWN)


def test_batches_and_workers_change_no_probability(run, folder, tmp_path):
    source, model = find_radiographs(folder), load_checkpoint(run.folder)
    options = ({}, {"batch_size": 32}, {"batch_size": 3, "workers": 1})
    for k, option in enumerate(options):
        assert predict_files(model, source, tmp_path / f"{k}.csv", **option) == (MANY - 1, 1)
    tables = [read_predictions(tmp_path / f"{k}.csv") for k in range(3)]
    for table in tables[1:]:
        assert table["image"].tolist() == tables[0]["image"].tolist()
        np.testing.assert_allclose(table.iloc[:, 1:], tables[0].iloc[:, 1:], rtol=2e-5, atol=1e-6)


def test_films_at_once_keep_within_what_memory_is_used_again():
    def at_once(size, device="cpu"):
        return Preparation(256, size).films_at_once(torch.device(device))

    assert [at_once(size) for size in (64, 112, 224, 320, 512, 1024)] == [32, 32, 8, 3, 1, 1]
    assert at_once(1024, "cuda") == 32


class Seen(torch.nn.Module):
    """A network that notes how many images it was given together."""

    findings = FINDINGS

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return images.new_zeros(len(images), 14)


@pytest.mark.parametrize(("ten_crop", "seen"), [(False, [8, 8, 4]), (True, [10] * 20)])
def test_films_go_through_the_network_a_few_at_a_time(ten_crop, seen):
    way, model = Preparation(32, 32, ten_crop), Seen()
    batcher = way.batcher(np.zeros((20, 32, 32), np.uint8))
    assert way.logits(model, batcher, np.arange(20), images_at_once=8).shape == (20, 14)
    assert model.seen == seen


class Stopped(BaseException):
    pass


def test_stopped_anywhere_it_goes_on_to_the_same_file(run, folder, tmp_path):
    source, model = find_radiographs(folder), load_checkpoint(run.folder)
    predict_files(model, source, tmp_path / "whole.csv")
    whole = (tmp_path / "whole.csv").read_bytes()
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"

    def stop_at(number):
        def told(done, total, bad):
            assert total == MANY
            if done >= number:
                raise Stopped

        return told

    for number in (0, 1, 33, 65):
        with pytest.raises(Stopped):
            predict_files(model, source, out, progress=stop_at(number))
        assert not out.exists()
    lines = part.read_bytes()
    rng = np.random.default_rng(1)
    for end in [len(lines), len(lines) - 1, 30, 65, 66, *rng.integers(66, len(lines), 6)]:
        part.write_bytes(lines[:end])  # what a kill may leave
        if end < 64:  # not even the mark is whole
            with pytest.raises(ValueError, match="of these films and this network"):
                predict_files(model, source, out)
            continue
        assert predict_files(model, source, out) == (MANY - 1, 1)
        assert out.read_bytes() == whole
        out.unlink()


def test_a_damaged_or_forged_part_is_read_again(run, folder, tmp_path):
    source, model = find_radiographs(folder), load_checkpoint(run.folder)
    predict_files(model, source, tmp_path / "whole.csv")
    whole = (tmp_path / "whole.csv").read_bytes()
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"

    def stop(done, *_):
        if done >= 33:
            raise Stopped

    with pytest.raises(Stopped):
        predict_files(model, source, out, progress=stop)
    lines = part.read_bytes()
    first = lines.index(b"\n") + 1

    def forged(*task):
        """Add a line with the right sum."""
        text = task[0] if isinstance(task[0], str) else json.dumps(task)
        line = f"{zlib.crc32(text.encode()):08x} {text}\n"
        return lines[:first] + line.encode() + lines[first:]

    scores = ["0.5"] * 14
    parts = [
        forged([-1, scores]),
        forged([MANY, scores]),
        forged([0, ["2"] * 14]),
        forged([0, ["nan"] * 14]),
        forged([0, ["high"] * 14]),
        forged([0, scores[:13]]),
        forged(["9", scores]),
        forged([0, scores], ["one", scores]),
        forged([0, scores, 1]),
        forged(f'[[{"9" * 5000}, ["0.5"]]]'),
        forged("[" * 100_000),
        lines[:first] + b"-\n" + lines[first:],
        lines + b"\0" * 300,
    ]
    for place in np.random.default_rng(2).integers(first, len(lines), 12).tolist():
        parts.append(bytearray(lines))
        parts[-1][place] ^= 1
    for content in parts:
        part.write_bytes(content)
        assert predict_files(model, source, out) == (MANY - 1, 1)
        assert out.read_bytes() == whole
        out.unlink()


def test_a_film_that_changed_meanwhile_is_not_taken_from_the_part(run, folder, tmp_path):
    films = tmp_path / "films"
    shutil.copytree(folder, films)
    model, out = load_checkpoint(run.folder), tmp_path / "out.csv"

    def stop(done, *_):
        if done >= 33:
            raise Stopped

    with pytest.raises(Stopped):
        predict_files(model, find_radiographs(films), out, progress=stop)
    first = films / find_radiographs(films).names[0]
    first.write_bytes((films / find_radiographs(films).names[1]).read_bytes())
    with pytest.raises(ValueError, match="films that changed since. Remove it"):
        predict_files(model, find_radiographs(films), out)


def test_parts_of_another_network_are_refused(run, folder, tmp_path):
    source = find_radiographs(folder)
    model, ten_crop = load_checkpoint(run.folder), Preparation(32, 32, ten_crop=True)

    def stop(done, *_):
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        predict_files(model, source, tmp_path / "out.csv", progress=stop)
    with pytest.raises(ValueError, match=r"Expected .*out\.csv\.part to be of these films"):
        predict_files(model, source, tmp_path / "out.csv", preparation=ten_crop)
    ten = predict_files(model, source, tmp_path / "ten.csv", preparation=ten_crop)
    assert ten == (MANY - 1, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.png"], "radiographs at nothing.png"),
        (["film.png", "--device", "abacus"], "a device of this machine"),
        (
            ["film.png", "--rule", "gut"],
            "a rule among ['youden', 'max_f1', 'sensitivity_0.90'] of ",
        ),
        (["film.png", "--thresholds", "no.csv"], "a file of thresholds at no.csv"),
        (["bad.png"], "bad.png"),
    ],
)
def test_it_fails_in_one_line(call, run, folder, tmp_path, words, message):
    shutil.copy(folder / "00002001_000.png", tmp_path / "film.png")
    (tmp_path / "bad.png").write_text("no film")
    result = call("predict", *words, "--checkpoint", run.folder)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    missing = call("predict", "film.png", "--checkpoint", tmp_path)
    assert "Expected the folder of a finished run" in missing.stderr


# ---- thresholds


def test_thresholds_are_chosen_and_read_back(tmp_path):
    val = films("val", 200)
    val.labels[:, 13] = False  # no film has it
    scores = np.random.default_rng(0).random((200, 14)) * 0.5 + 0.5 * val.labels
    table = choose_thresholds(val.labels, scores)
    assert list(table.columns) == ["rule", "finding", "threshold"]
    table.to_csv(tmp_path / "t.csv", index=False)
    for name in RULES:
        found = read_thresholds(tmp_path / "t.csv", rule=name)
        assert np.isnan(found[13])
        assert ((found[:13] > 0) & (found[:13] < 1)).all()
        called = scores >= found
        if name == "sensitivity_0.90":
            for k in range(13):
                assert called[val.labels[:, k], k].mean() >= 0.9
        assert found[0] == pytest.approx(choose(val.labels[:, 0], scores[:, 0], RULES[name]))


def test_thresholds_of_findings_that_are_not_known_on_every_film(tmp_path):
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.5).astype(float)
    scores = rng.random((60, 3))
    labels[::2, 1], labels[:, 2] = np.nan, np.nan
    found = choose_thresholds(labels, scores, findings=OWN)
    assert found["finding"].unique().tolist() == list(OWN)
    known = choose(labels[1::2, 1] == 1, scores[1::2, 1], RULES["youden"])
    found.to_csv(tmp_path / "t.csv", index=False)
    read = read_thresholds(tmp_path / "t.csv", findings=OWN[::-1])
    assert read[1] == pytest.approx(known)
    assert np.isnan(read[0])
    with pytest.raises(ValueError, match="Expected findings of .'Edema'. in the column"):
        read_thresholds(tmp_path / "t.csv", findings=["Edema"])


def test_thresholds_of_a_report(tmp_path):
    rows = [["youden", "Mass", 0.2], ["youden", "No_Finding", 0.5], ["youden", "Hernia", np.inf]]
    frame = pd.DataFrame(rows, columns=["rule", "finding", "threshold"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = read_thresholds(tmp_path / "t.csv")
    assert dict(zip(FINDINGS, found, strict=True))["Mass"] == 0.2
    assert found[13] == np.inf
    assert np.isnan(found).sum() == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a CSV of thresholds"),
        ("finding,value\nMass,1\n", "column 'threshold'"),
        ("finding,threshold\nMass,0.1\nmass,0.2\n", "one threshold .* row 3"),
        ("finding,threshold\nMass,-1\n", "from 0 up .* row 2"),
        ("finding,threshold\nMass,low\n", "from 0 up .*'low'"),
        ("finding,threshold\nUnknown,0.1\n", "findings of .* in the column"),
    ],
)
def test_thresholds_that_are_none(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        read_thresholds(tmp_path / "t.csv")


def test_nothing_is_written_over_what_is_there_or_is_read(call, run, folder, tmp_path):
    paths = [folder / "00002001_000.png", folder / "00002002_000.png"]
    pd.DataFrame({"path": paths}).to_csv(tmp_path / "list.csv", index=False)
    listed = (tmp_path / "list.csv").read_bytes()
    command = ("predict", "list.csv", "--checkpoint", run.folder)
    for out in ("list.csv", "./list.csv"):
        refused = call(*command, "--out", out, "--force")
        assert "Expected another file than those that are read, got" in refused.output
    (tmp_path / "new-rejected.csv").write_text("mine")
    refused = call(*command, "--out", "new.csv")
    assert "Expected a new file, got new-rejected.csv, which is there" in refused.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["list.csv", "new-rejected.csv"]
    assert (tmp_path / "list.csv").read_bytes() == listed
    assert (tmp_path / "new-rejected.csv").read_text() == "mine"
    (tmp_path / "new-rejected.csv").unlink()
    # Of a job that was stopped as it ended, the list is its own.
    model, source = load_checkpoint(run.folder), find_radiographs(tmp_path / "list.csv")

    def stop(done, total, _bad):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(model, source, tmp_path / "new.csv", progress=stop)
    (tmp_path / "new-rejected.csv").write_text("image,source,reason\n")
    assert call(*command, "--out", "new.csv").exit_code == 0

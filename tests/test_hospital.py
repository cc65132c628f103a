"""A hospital that comes with a folder of films, a CSV of its own, and nothing else.

The films are simulated and lie as a PACS exports them. What is run is what README.md says under
"Your own films", command by command.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from film_forge import dataset, written
from PIL import Image
from pydicom.uid import generate_uid

from chexlib.data.phantom import films_of, population, render

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.search(
    r"^## Your own films$.*?^```sh\n(.*?)^```",
    (ROOT / "README.md").read_text(),
    re.DOTALL | re.MULTILINE,
)[1]
COMMANDS = [
    line.strip()
    for line in re.sub(r"\\\n\s*", "", SECTION).splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]
NAMES = {"Effusion": "pleural fluid", "Cardiomegaly": "Cardiomegaly", "Mass": "lump"}
FINDINGS = ["Effusion", "Cardiomegaly", "lump"]  # an alias of NIH's is NIH's finding


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """40 films of 30 patients and labels of three findings; commands run in this folder."""
    folder = tmp_path_factory.mktemp("hospital")
    people = population(60, seed=3, prevalence="enriched", max_films=2)
    people = people.iloc[:40].reset_index(drop=True)
    codes, rows = people["patient"].factorize()[0], []
    for k, (film, row) in enumerate(zip(films_of(people), people.itertuples(), strict=True)):
        patient = f"{17 + (codes[k] - codes[3]) % 1000:07d}"  # the README's film is the fourth
        pixels = np.asarray(render(film, size=160).image)
        if pixels.dtype != np.uint8:
            pixels = (255 * pixels.clip(0, 1)).astype(np.uint8)
        place = folder / "films" / patient / f"study{k}"
        place.mkdir(parents=True)
        if k % 2:
            values = 4095 - (pixels.astype(np.uint16) << 4)
            header = dataset(values, PhotometricInterpretation="MONOCHROME1", PatientID=patient)
            header.SOPInstanceUID, header.StudyInstanceUID = generate_uid(), generate_uid()
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            (place / "IM0001").write_bytes(written(header))
            name = f"{patient}/study{k}/IM0001"
        else:
            Image.fromarray(pixels).save(place / "film.png")
            name = f"{patient}/study{k}/film.png"
        values = {own: int(getattr(row, nih)) for nih, own in NAMES.items()}
        rows.append({"path": name, "patient": patient, "site": "north" if k % 3 else "south"})
        rows[-1] |= {"age": "" if k == 5 else row.age, "sex": row.sex} | values
    (folder / "films" / "DICOMDIR.txt").write_text("no film")
    table = pd.DataFrame(rows).astype("string")
    table.loc[7, "lump"] = ""  # nobody looked
    table.to_csv(folder / "labels.csv", index=False, sep=";", encoding="utf-8-sig")
    return folder


def run(command, folder):
    """Run a line of the README as it stands there; ``chexlib`` is this checkout's."""
    program, *words = shlex.split(command, comments=True)
    assert program == "chexlib", command
    out = subprocess.run(
        [sys.executable, "-m", "chexlib", *words],
        check=False,
        cwd=folder,
        env=os.environ | {"CHEXLIB_CACHE": str(folder / "cache"), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert not out.returncode, f"{command}\n{out.stdout}\n{out.stderr}"
    return out.stdout


@pytest.fixture(scope="module")
def done(hospital):
    """What each line printed, by its command."""
    return {shlex.split(line)[1]: run(line, hospital) for line in COMMANDS}


def test_every_command_of_the_readme_ran(done):
    wanted = {"cache", "train", "predict", "evaluate", "explain", "export"}
    assert wanted <= set(done)


def test_its_findings_are_those_of_its_file(done, hospital):
    scores = pd.read_csv(hospital / "predictions.csv", dtype={"Image Index": str})
    assert len(scores) == 40
    assert set(FINDINGS) <= set(scores.columns)
    assert scores[FINDINGS].apply(lambda s: s.between(0, 1)).all(axis=None)
    assert "Hernia" not in scores


def test_its_report_has_its_sites(done, hospital):
    [page] = hospital.glob("*report/*.html")
    groups = pd.read_csv(next(page.parent.glob("subgroups.csv")))
    assert {"north", "south"} <= set(groups["group"])
    assert set(groups["finding"]) <= set(FINDINGS)
    for own in FINDINGS:
        assert own.lower() in page.read_text(encoding="utf-8").lower()


def test_what_was_exported_says_the_same(done, hospital):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(hospital / "model.onnx"))
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["findings"]) == FINDINGS


def test_the_run_is_read_back_and_resumes(done, hospital):
    from chexlib.training import open_run

    [folder] = [path.parent for path in hospital.glob("runs/*/metrics.json")]
    assert set(open_run(folder).model().findings) == set(FINDINGS)
    line = next(line for line in COMMANDS if shlex.split(line)[1] == "train")
    before = (folder / "best.safetensors").read_bytes()
    run(line, hospital)
    assert (folder / "best.safetensors").read_bytes() == before

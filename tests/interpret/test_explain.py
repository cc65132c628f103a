"""One film explained, in figures, JSON and DICOM; and the table for those with NIH's films."""

import copy
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
import typer
from highdicom.sr import srread
from PIL import Image
from typer.testing import CliRunner

from chexlib.cli.explain import explain
from chexlib.cli.localize import localize
from chexlib.data import data_home, load_boxes, package_file
from chexlib.findings import FINDINGS
from chexlib.interpret import cell_centres, explain_film, secondary_capture
from chexlib.models import CheXNet, save_checkpoint

RNG = np.random.default_rng(0)
FILM = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (9, 8), dtype=np.uint8)).resize((160, 180), 3)
)
app = typer.Typer()
app.command()(explain)
app.command()(localize)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(small, path, metadata={"recipe": {"size": 96}})
    return path


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.png"
    Image.fromarray(FILM).save(path)
    return path


class TestExplainFilm:
    def test_probabilities_maps_and_places(self, small):
        found = explain_film(small, FILM, ["Mass", "Edema"], size=96)
        assert found.findings == ("Mass", "Edema")
        assert found.heat.shape == (2, 180, 160)
        mean = found.maps.values.mean(axis=(1, 2)) + small.classifier.bias[[4, 9]].detach().numpy()
        np.testing.assert_allclose(mean, [found.logits[n] for n in found.findings], atol=1e-4)
        for k, name in enumerate(found.findings):
            row, column = np.unravel_index(found.maps.values[k].argmax(), (3, 3))
            x, y = found.peaks[name]
            assert (x, y) == pytest.approx(
                (cell_centres(3)[column] * 160 / 96, cell_centres(3)[row] * 180 / 96)
            )
            heat = found.heat[k]  # the film is hottest there, too
            assert heat[int(y), int(x)] >= heat.max() - 0.05 * np.ptp(heat)
            for x, y, width, height in found.boxes[name]:
                assert 0 <= x < x + width <= 160
                assert 0 <= y < y + height <= 180

    def test_the_most_probable_by_a_method_of_pixels(self, small):
        options = {"window": 32, "stride": 32, "size": 64}
        found = explain_film(small, FILM, 2, method="occlusion", **options)
        order = sorted(FINDINGS, key=lambda name: -found.probabilities[name])
        assert list(found.findings) == order[:2]
        assert found.heat.shape == (2, 180, 160)

    def test_nothing_for_the_finding_is_no_box(self, small):
        other = copy.deepcopy(small)
        other.classifier.weight.data[4] = -small.classifier.weight.data[4].abs()
        assert len(explain_film(other, FILM, "Mass", size=64, cut="wang").boxes["Mass"]) == 0

    @pytest.mark.parametrize(
        ("film", "options", "message"),
        [
            (FILM.astype(float), {}, "Expected a film as uint8"),
            (FILM[None], {}, "Expected a film as uint8"),
            (FILM, {"size": 16}, "size in pixels from 29"),
            (FILM, {"findings": 0}, "a number of findings from 1 up"),
        ],
    )
    def test_refused(self, small, film, options, message):
        with pytest.raises(ValueError, match=message):
            explain_film(small, film, **options)


def test_a_padded_film_has_its_map_and_not_that_of_the_bars(small, monkeypatch):
    film = np.random.default_rng(3).integers(0, 256, (90, 201), dtype=np.uint8)
    square = np.pad(film, ((55, 56), (0, 0)))
    recipe = {"size": 96, "cache_size": 96}
    monkeypatch.setattr(small, "provenance", {"metadata": {"recipe": json.dumps(recipe)}})
    whole = explain_film(small, square, 14)
    recipe["fit"] = "pad"
    monkeypatch.setattr(small, "provenance", {"metadata": {"recipe": json.dumps(recipe)}})
    found = explain_film(small, film, 14)
    assert found.logits == whole.logits
    np.testing.assert_array_equal(found.heat, whole.heat[:, 55:145])
    for name, (x, y) in found.peaks.items():
        assert 0 <= x < 201
        assert 0 <= y < 90
        assert found.heat[found.findings.index(name), int(y), int(x)] > found.heat.min()
        for left, top, width, height in found.boxes[name]:
            assert min(left, top) >= 0
            assert left + width <= 201
            assert top + height <= 90


class TestSecondaryCapture:
    PICTURE = RNG.integers(0, 256, (33, 41, 3), dtype=np.uint8)
    SOURCE = package_file("data_store", "data", "RG1_UNCR.dcm")

    def made(self, source=None, **options):
        given_as = {"title": "cam Mass", "derivation": "how", "source": source} | options
        return pydicom.dcmread(io.BytesIO(secondary_capture(self.PICTURE, **given_as)))

    def test_patient_and_study_are_the_sources(self):
        source = pydicom.dcmread(self.SOURCE, stop_before_pixels=True)
        made = self.made(source)
        np.testing.assert_array_equal(made.pixel_array, self.PICTURE)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "StudyID"):
            assert made[keyword].value == source[keyword].value
        assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
        assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert list(made.ImageType) == ["DERIVED", "SECONDARY"]
        assert "NOT FOR CLINICAL USE" in made.SeriesDescription
        assert "OtherPatientIDs" not in made

    def test_names_in_other_scripts_survive(self):
        source = pydicom.Dataset()
        source.SpecificCharacterSet = "ISO_IR 192"
        source.PatientName, source.StudyInstanceUID = "王^小明", "1.2.3"
        assert str(self.made(source).PatientName) == "王^小明"

    def test_of_the_film_only_what_is_listed_is_copied(self):
        source, copied = pydicom.Dataset(), set()
        for tag in pydicom.datadict.DicomDictionary:  # every text of the standard
            vr = pydicom.datadict.dictionary_VR(tag)
            if vr in ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"):
                source.add_new(tag, vr, "SECRET")
        source.StudyInstanceUID = "1.2.3"
        made = self.made(source)
        for element in made.iterall():
            if "SECRET" in str(element.value):
                copied.add(element.keyword)
        assert copied == {
            "StudyID", "AccessionNumber", "PatientName", "PatientID", "PatientSex",
            "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod",
        }  # fmt: skip
        assert made.ReferringPhysicianName == ""

    @pytest.mark.parametrize("vr", ["SQ", "OB", "UT"])
    def test_what_is_nested_or_of_another_type_is_not_copied(self, vr):
        inner = pydicom.Dataset()
        inner.PatientComments = "SECRET"
        value = {"SQ": [inner], "OB": b"SECRET", "UT": "SECRET"}[vr]
        keywords = [
            "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID",
            "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
            "PatientIdentityRemoved", "DeidentificationMethod", "SpecificCharacterSet",
            "SOPClassUID", "SOPInstanceUID", "ReferringPhysicianName",
        ]  # fmt: skip
        for keyword in keywords:
            source = pydicom.Dataset()
            source.add_new(pydicom.datadict.tag_for_keyword(keyword), vr, value)
            data = secondary_capture(self.PICTURE, title="", derivation="", source=source)
            assert b"SECRET" not in data, keyword
            assert pydicom.dcmread(io.BytesIO(data)).StudyInstanceUID.is_valid

    @pytest.mark.parametrize("uid", ["", "no UID", "1.02.3", "1." + "2" * 70, None])
    def test_a_study_without_a_uid_gets_one(self, uid):
        source = pydicom.Dataset()
        source.add_new("StudyInstanceUID", "UI", uid)
        one, two = (self.made(source, series_uid="1.2.3", number=n) for n in (1, 2))
        assert one.StudyInstanceUID.is_valid
        assert one.StudyInstanceUID == two.StudyInstanceUID  # one series is of one study
        assert self.made(source, series_uid="1.2.4").StudyInstanceUID != one.StudyInstanceUID

    def test_what_is_unknown_is_flagged(self):
        made = self.made()
        assert made.BurnedInAnnotation == "YES"
        assert made.PatientID == ""
        source = pydicom.Dataset()
        source.BurnedInAnnotation, source.LossyImageCompression = "NO", "01"
        made = self.made(source)
        assert (made.BurnedInAnnotation, made.LossyImageCompression) == ("NO", "01")

    def test_long_texts_fit_and_other_pictures_are_refused(self):
        made = self.made(title="x" * 100, derivation="y" * 2000)
        assert len(made.SeriesDescription) <= 64
        assert made.SeriesDescription.endswith("NOT FOR CLINICAL USE")
        assert len(made.DerivationDescription) <= 1024
        with pytest.raises(ValueError, match="Expected a picture as uint8"):
            secondary_capture(self.PICTURE[..., 0], title="", derivation="")


@pytest.fixture
def mocked(monkeypatch):
    monkeypatch.setattr("chexlib.cli.explain.find_spec", lambda name: None)


class TestCommand:
    def test_png_in_figures_and_json_out(self, png, checkpoint, tmp_path):
        out = tmp_path / "out"
        result = run("explain", png, "--checkpoint", checkpoint, "--out", out, "--finding", "mass")
        assert result.exit_code == 0, result.output
        assert "Not for clinical use" in result.output
        assert sorted(p.name for p in out.iterdir()) == ["film-Mass-cam.png", "film.json"]
        said = json.loads((out / "film.json").read_text())
        assert said["notice"] == "Not for clinical use."
        # As the checkpoint was trained.
        prepared = {"cache_size": 256, "size": 96, "ten_crop": False, "fit": "squash"}
        assert said["preparation"] == prepared
        assert set(said["probabilities"]) == set(FINDINGS)
        mass = said["findings"]["Mass"]
        assert mass["map"]["cells"] == [3, 3]
        assert mass["probability"] == said["probabilities"]["Mass"]
        assert said["checkpoint"]["sha256"]
        assert Image.open(out / "film-Mass-cam.png").format == "PNG"
        (out / "film-Mass-cam.png").write_text("mine")
        arguments = ("explain", png, "--checkpoint", checkpoint, "--out", out, "--finding", "mass")
        for name in ("film.json", "film-Mass-cam.png"):
            assert f"Expected a new file, got {out / name}" in run(*arguments).output
            (out / "film.json").unlink(missing_ok=True)
        assert [p.read_bytes() for p in out.iterdir()] == [b"mine"]
        assert run(*arguments, "--force").exit_code == 0
        assert Image.open(out / "film-Mass-cam.png").format == "PNG"

    def test_a_real_dicom_in_and_secondary_captures_out(self, checkpoint, tmp_path):
        source = package_file("data_store", "data", "RG1_UNCR.dcm")
        options = ["--out", tmp_path, "--dicom", "--size", 64, "--finding", "Mass"]
        result = run("explain", source, "--checkpoint", checkpoint, *options)
        assert result.exit_code == 0, result.output
        made = pydicom.dcmread(tmp_path / "RG1_UNCR-Mass-cam.dcm")
        film = pydicom.dcmread(source, stop_before_pixels=True)
        assert made.StudyInstanceUID == film.StudyInstanceUID
        assert made.pixel_array.shape == (1955, 1841, 3)
        assert made.pixel_array.std() > 10
        said = json.loads((tmp_path / "RG1_UNCR.json").read_text())
        assert said["report"] == "RG1_UNCR-report.dcm"
        report = srread(tmp_path / said["report"])
        assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
        assert "NOT FOR CLINICAL USE" in report.SeriesDescription
        assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
        groups = report.content.get_image_measurement_groups()
        assert len(groups) == 14
        for group in groups:
            name = group.tracking_identifier
            (value,) = group.get_measurements()
            assert value.value == pytest.approx(said["probabilities"][name], abs=1e-6)
            assert value.name.meaning == "Probability"
            (image,) = group.source_images
            assert image.referenced_sop_instance_uid == film.SOPInstanceUID
        text = "\n".join(str(element.value) for element in report.iterall())
        assert "small.safetensors, SHA-256" in text
        # No more of patient and study than the capture carries, and the film's series.
        mine = {e.keyword: str(e.value) for e in report.iterall() if not e.tag.is_private}
        assert not any(e.tag.is_private for e in report.iterall())
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID"):
            assert mine[keyword] == str(made[keyword].value)
        assert mine["ReferringPhysicianName"] == ""
        carried = {str(e.value) for e in made.iterall()} | {film.SeriesInstanceUID, ""}
        for element in film:
            value = str(element.value)
            if element.VR in ("PN", "LO", "SH", "DA", "TM", "UI", "LT", "ST") and len(value) > 3:
                assert value in carried or value not in text, element.keyword

    def test_without_highdicom_captures_are_made_and_it_is_said(self, checkpoint, tmp_path, mocked):
        source = package_file("data_store", "data", "RG1_UNCR.dcm")
        options = ["--out", tmp_path, "--dicom", "--size", 64, "--finding", "Mass"]
        result = run("explain", source, "--checkpoint", checkpoint, *options)
        assert result.exit_code == 0, result.output
        assert "No structured reports: they need pip install 'chexlib[export]'" in result.output
        assert not (tmp_path / "RG1_UNCR-report.dcm").exists()
        assert (tmp_path / "RG1_UNCR-Mass-cam.dcm").exists()

    def test_a_folder_of_films(self, png, tmp_path):
        torch.manual_seed(0)
        model = CheXNet(arch="resnet18", findings=["Nodule/Mass", "Nodule_Mass", "ILD"])
        save_checkpoint(model, tmp_path / "own.safetensors", metadata={"recipe": {"size": 64}})
        films = tmp_path / "films"
        for name in ("p1/a.png", "p2/a.png", "b.png"):
            (films / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(png, films / name)
        (films / "bad.png").write_text("no film")
        (films / "notes.txt").write_text("of somebody")
        arguments = ["explain", films, "--checkpoint", tmp_path / "own.safetensors"]
        arguments += ["--out", tmp_path / "new" / "out"]
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        out = tmp_path / "new" / "out"
        assert "3 films read, 1 rejected" in result.output
        assert "1 text (notes.txt)" in result.output
        assert pd.read_csv(out / "rejected.csv")["image"].tolist() == ["bad.png"]
        said = [json.loads(path.read_text()) for path in sorted(out.rglob("*.json"))]
        assert [one["image"]["file"] for one in said] == ["b.png", "p1/a.png", "p2/a.png"]
        assert said[0]["probabilities"] == said[1]["probabilities"]
        assert set(said[0]["probabilities"]) == set(model.findings)
        assert len(list((out / "p1" / "a.png").glob("*.png"))) == 3  # of all findings, apart
        assert "Expected a new file" in run(*arguments).output
        refused = run(*arguments, "--force", "--finding", "Mass")
        assert "Nodule/Mass" in refused.output
        assert refused.exit_code == 1
        shutil.rmtree(out)
        options = ["--finding", "ILD", "--dicom"]
        result = run(*arguments, *options)
        assert result.exit_code == 0, result.output
        made = sorted(path.name for path in (out / "b.png").iterdir())
        assert made == ["b-ILD-cam.dcm", "b-ILD-cam.png", "b.json"]  # no report of what is no DICOM

    @pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
    def test_killed_it_goes_on_with_the_films_that_are_left(self, png, checkpoint, tmp_path):
        films, out, whole = (tmp_path / name for name in ("films", "out", "whole"))
        films.mkdir()
        for k in range(8):
            Image.fromarray(np.roll(FILM, 9 * k, axis=1)).save(films / f"{k}.png")
        (films / "3.png").write_text("no film")
        words = ["explain", films, "--checkpoint", checkpoint, "--out"]
        assert run(*words, whole).exit_code == 0
        command = [sys.executable, "-m", "chexlib", *map(str, words), str(out)]
        once = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(list(out.rglob("*.json"))) < 4:
            assert once.poll() is None
            time.sleep(0.01)
        once.send_signal(signal.SIGKILL)
        once.wait()
        part, made = out / "explained.part", sorted(out.rglob("*.json"))
        assert part.is_file()
        assert 4 <= len(made) < 7
        assert not (out / "rejected.csv").exists()
        before = {path: path.read_bytes() for path in made[:3]}
        other = run(*words, out, "--finding", "Mass")
        assert other.exit_code == 1
        assert f"Expected {part} to be of these films and this network" in other.output
        (out / "7.png").mkdir()
        (out / "7.png" / "7-Mass-cam.png").write_text("left by the kill")
        result = run(*words, out)
        assert result.exit_code == 0, result.output
        assert "7 films read, 1 rejected" in result.output
        assert {path: path.read_bytes() for path in before} == before
        assert not part.exists()

        def told(folder):
            for path in sorted(folder.rglob("*.json")):
                record = json.loads(path.read_text())
                del record["made"]
                yield path.relative_to(folder), record

        assert dict(told(out)) == dict(told(whole))
        assert (out / "rejected.csv").read_text() == (whole / "rejected.csv").read_text()
        assert "Expected a new file" in run(*words, out).output

    def test_what_fails_at_its_first_film_leaves_no_part(self, png, checkpoint, tmp_path):
        films, out = tmp_path / "films", tmp_path / "out"
        films.mkdir()
        shutil.copy(png, films / "a.png")
        words = ["explain", films, "--checkpoint", checkpoint, "--out", out]
        assert run(*words, "--cut", "low").exit_code == 1
        assert list(out.iterdir()) == []
        assert run(*words).exit_code == 0

    def test_the_three_most_probable_of_a_png_with_dicom(self, png, checkpoint, tmp_path):
        result = run("explain", png, "--checkpoint", checkpoint, "--out", tmp_path, "--dicom")
        assert result.exit_code == 0, result.output
        made = [pydicom.dcmread(p) for p in tmp_path.glob("*.dcm")]
        assert len({m.SOPInstanceUID for m in made}) == 3
        assert len({m.SeriesInstanceUID for m in made}) == 1


class TestLocalize:
    def test_phantom(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "cache"))
        out = tmp_path / "out"
        options = ["--size", 32, "--patients", 5, "--resamples", 100, "--out", out]
        result = run("localize", "phantom", "--checkpoint", checkpoint, *options)
        assert result.exit_code == 0, result.output
        table = pd.read_csv(out / "localization.csv")
        assert table["source"].unique().tolist()[0] == "cam"
        assert {"random", "centre", "position", "moved", "other film"} < set(table["source"])
        cases = pd.read_csv(out / "cases.csv")
        assert len(cases) % 6 == 0
        about = json.loads((out / "about.json").read_text())
        assert about["cases"] == len(cases) // 6
        (out / "localization.csv").unlink()
        (out / "cases.csv").write_text("mine")
        refused = run("localize", "phantom", "--checkpoint", checkpoint, *options)
        assert "Expected a new file, got" in refused.output
        assert (out / "cases.csv").read_text() == "mine"

    def test_a_bad_film_costs_that_film_alone(self, png, checkpoint, tmp_path):
        films, out = tmp_path / "films", tmp_path / "out"
        films.mkdir()
        names = load_boxes()["image"].unique()[:3]
        for name in (*names[:2], "mine.png"):
            shutil.copy(png, films / name)
        (films / names[2]).write_text("no film")
        (films / "notes").write_text("of somebody")
        options = ["--size", 32, "--resamples", 100, "--out", out]
        result = run("localize", films, "--checkpoint", checkpoint, *options)
        assert result.exit_code == 0, result.output
        said = f"2 films read, 1 rejected: see {out / 'rejected.csv'}; 2 files ignored"
        assert said in result.output
        assert "1 text (notes), 1 without boxes (mine.png)" in result.output
        assert pd.read_csv(out / "rejected.csv")["image"].tolist() == [names[2]]
        for name in names[:2]:
            (films / name).unlink()
        result = run("localize", films, "--checkpoint", checkpoint, *options, "--force")
        assert result.exit_code == 1
        assert "Expected a film that can be read, got 1: " in result.output

    @pytest.mark.real_data("nih_sample/images")
    def test_the_boxed_films_of_nih(self, checkpoint, tmp_path):
        # The path from files to the table; the weights are random, so its values mean nothing.
        source = data_home() / "nih_sample" / "images"
        options = ["--size", 96, "--resamples", 100, "--out", tmp_path]
        result = run("localize", source, "--checkpoint", checkpoint, *options)
        assert result.exit_code == 0, result.output
        assert "8 of 880 films with boxes, 8 cases" in result.output
        table = pd.read_csv(tmp_path / "localization.csv")
        cam = table[(table["source"] == "cam") & (table["metric"] == "hit")].set_index("group")
        assert cam.loc["Nodule", "n_cases"] == 3
        assert cam.loc["Cardiomegaly", "n_patients"] == 3
        assert np.isnan(cam.loc["Pneumonia", "low"])  # one patient has no interval
        cases = pd.read_csv(tmp_path / "cases.csv")
        area = cases[cases["source"] == "cam"].set_index("image")["area"]
        assert area["00008386_000.png"] == pytest.approx(58.51 * 47.68 / 1024**2, rel=0.1)


@pytest.mark.parametrize(
    ("command", "source", "options", "message"),
    [
        ("explain", "film.png", ["--finding", "Maas"], "Did you mean 'Mass'"),
        ("explain", "film.png", ["--method", "lime"], "Expected a method among"),
        ("explain", "film.png", ["--cut", "x"], "Expected a cut"),
        ("explain", "nothing.png", [], "nothing.png"),
        ("explain", "film.png", ["--checkpoint", "no.safetensors"], "safetensors"),
        ("localize", "", [], "found none among 1 films"),
        ("localize", "", ["--patients", 3], "phantom only"),
        ("localize", "phantom", ["--method", "lime"], "Expected a method among"),
    ],
)
def test_errors_are_one_line(command, source, options, message, png, checkpoint, tmp_path):
    given, out = (source if source == "phantom" else png.parent / source), tmp_path / "out"
    result = run(command, given, "--checkpoint", checkpoint, "--out", out, *options)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not out.exists()

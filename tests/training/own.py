"""A hospital's films: phantoms as PNG and DICOM in a tree of sites and patients, and its labels."""

import io

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from chexlib.data.phantom import films_of, population, render

FINDINGS = ("Effusion", "Rib fracture", "device, any")
# A network and a size with which a run takes seconds.
SMALL = ("--set", "size=32", "--set", "cache_size=32", "--set", "growth_rate=1",
         "--set", "batch_size=8", "--set", "channels_last=false")  # fmt: skip


def dicom(pixels, patient):
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    film.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient])
    film.PatientName, film.PatientID = f"Film^{patient}", patient
    film.Modality, film.BodyPartExamined, film.ViewPosition = "DX", "CHEST", "PA"
    film.PhotometricInterpretation, film.SamplesPerPixel = "MONOCHROME2", 1
    film.Rows, film.Columns = pixels.shape
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation = 7, 0
    film.PixelData = pixels.tobytes()
    film["PixelData"].VR = "OB"
    out = io.BytesIO()
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def hospital(folder, patients=24):
    """Write films and labels; return the path of the labels, and of the films' folder."""
    images = folder / "films"
    rng = np.random.default_rng(3)
    frame = population(patients, first=5, seed=2, prevalence="enriched")
    rows = []
    seen = {}
    for row, film in zip(frame.itertuples(), films_of(frame), strict=True):
        pixels = render(film, size=64).image
        site = "abc"[row.patient % 3]
        seen[row.patient] = seen.get(row.patient, 0) + 1
        name = f"{site}/P{row.patient:03d}/IM{seen[row.patient]:04d}"  # the same in each folder
        broken = bool(rng.random() < 0.4)
        if broken:
            pixels[10:30, 10:30] = 255
        name += ".dcm" if site == "a" else ".png"
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        if site == "a":
            (images / name).write_bytes(dicom(pixels, f"P{row.patient:03d}"))
        else:
            Image.fromarray(pixels).save(images / name)
        labels = [int(row.Effusion), int(broken), int(rng.random() < 0.5)]
        unknown = rng.random(3) < [0, 0.3, 0.2]
        values = ["" if u else y for y, u in zip(labels, unknown, strict=True)]
        age = "" if rng.random() < 0.2 else row.age
        rows.append([name, f"P{row.patient:03d}", age, row.sex, site, *values])
    columns = ["path", "patient", "age", "sex", "site", *FINDINGS]
    path = folder / "labels.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path, images

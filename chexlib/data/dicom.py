"""DICOM files of one projection radiograph, as the person who reads films would see them."""

from __future__ import annotations

import io
import warnings

import numpy as np

from chexlib.data.radiographs import Radiograph, RadiographError, _size_checked

__all__ = ["read_dicom"]

PROJECTION = {"CR", "DX", "RG", "DR", "XC", "OT", "RF"}
CHEST = ("CHEST", "THORAX", "LUNG", "RIB", "TORAX", "PORT")
LATERAL = {"LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO"}


def read_dicom(data: bytes, name: str) -> Radiograph:
    """Read a DICOM radiograph from the bytes of its file.

    Stored values pass the modality LUT or rescale, then the VOI LUT or the first window; where
    neither is given, the range between the 0.5th and the 99.5th percentile is shown, since
    detectors leave a few extreme values. MONOCHROME1 and an INVERSE presentation shape are turned,
    so that dense is bright. The image is mirrored or turned where Patient Orientation says that it
    does not lie as a frontal film is read, the patient's left to the right (DICOM PS3.3 C.7.6.1).

    Raises
    ------
    RadiographError
        If it is no frontal chest radiograph of one frame, or cannot be decoded.
    """
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are checked here, one by one
        try:
            header = pydicom.dcmread(io.BytesIO(data))
            _refuse_others(header, name)
            values = header.pixel_array
        except RadiographError:
            raise
        except Exception as error:
            detail = " ".join(str(error).split())[:160] or type(error).__name__
            raise RadiographError(
                name,
                "a DICOM file that can be decoded",
                f"one that cannot ({detail})",
                "Copy it again; if it is whole, export it uncompressed.",
            ) from None
        grey = _displayed(header, values, name)
    return Radiograph(
        np.ascontiguousarray(_oriented(header, grey, name)),
        spacing=_spacing(header),
        view=_view(header),
        format="DICOM",
    )


def _text(header: object, keyword: str) -> str:
    value = getattr(header, keyword, "")
    return str(value if value is not None else "").strip().upper()


def _refuse_others(header: object, name: str) -> None:
    """Refuse what is no single frontal chest radiograph, before its pixels are decoded."""
    if "PixelData" not in header:
        found = "a file without pixel data"
        if "EncapsulatedDocument" in header:
            found = "an encapsulated document"
        raise RadiographError(name, "an image", found, "Export the image, not its report.")
    modality = _text(header, "Modality")
    if modality and modality not in PROJECTION:
        expected = "a projection radiograph (CR, DX)"
        raise RadiographError(name, expected, f"modality {modality}", "Choose the chest film.")
    frames = getattr(header, "NumberOfFrames", 1) or 1
    if int(frames) != 1:
        raise RadiographError(name, "one frame", f"{frames} frames", "Export the one to read.")
    part = _text(header, "BodyPartExamined")
    if part and not any(word in part for word in CHEST):
        raise RadiographError(name, "a chest", f"body part {part}", "Choose the chest film.")
    view = _text(header, "ViewPosition")
    if view in LATERAL:
        found = f"view position {view}"
        raise RadiographError(name, "a frontal view (PA or AP)", found, "Choose the frontal film.")
    shape = _text(header, "PhotometricInterpretation")
    if not shape.startswith("MONOCHROME"):
        found = f"photometric interpretation {shape or 'missing'}"
        do = "It is a screenshot or photograph: export the film itself."
        raise RadiographError(name, "MONOCHROME1 or MONOCHROME2", found, do)
    rows, columns = int(header.Rows), int(header.Columns)
    _size_checked(columns, rows, name)


def _displayed(header: object, values: np.ndarray, name: str) -> np.ndarray:
    """Return stored values as 8-bit grey, dense bright."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if values.ndim != 2:
        found = f"an array of shape {values.shape}"
        raise RadiographError(name, "one grey image", found, "Export it as one grey frame.")
    windowed = "WindowWidth" in header or "VOILUTSequence" in header
    if "WindowWidth" in header:
        _check_window(header, name)
    try:
        shown = apply_modality_lut(values, header)
        shown = np.asarray(apply_voi_lut(shown, header) if windowed else shown, dtype=np.float64)
    except Exception as error:
        found = f"one that cannot be applied ({error})"
        raise RadiographError(name, "a usable window", found, "Remove or repair it.") from None
    if not np.isfinite(shown).all():
        found, do = "NaN or infinity after rescaling", "Repair slope and intercept."
        raise RadiographError(name, "finite grey values", found, do)
    if windowed:
        low, high = _displayed_range(header)
    else:
        part = slice(None, None, max(1, shown.size // 1_000_000))
        inside = shown.ravel()[part]
        # Padding outside the collimated field must not stretch the range.
        if "PixelPaddingValue" in header:
            kept = values.ravel()[part] != header.PixelPaddingValue
            inside = inside[kept] if kept.any() else inside
        low, high = np.percentile(inside, [0.5, 99.5])
    grey = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    inverse = _text(header, "PresentationLUTShape") == "INVERSE"
    if (_text(header, "PhotometricInterpretation") == "MONOCHROME1") or inverse:
        grey = 1 - grey
    return np.round(255 * grey).astype(np.uint8)


def _displayed_range(header: object) -> tuple[float, float]:
    """Return what the VOI table or the window make of black and of white."""
    from pydicom.pixels import apply_voi_lut

    if "VOILUTSequence" in header:
        return 0.0, 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
    low, high = apply_voi_lut(np.array([-1e12, 1e12]), header)
    return float(low), float(high)


def _check_window(header: object, name: str) -> None:
    for keyword, positive in (("WindowWidth", True), ("WindowCenter", False)):
        value = getattr(header, keyword, None)
        first = value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value
        try:
            number = float(first)
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number) or (positive and number <= 0):
            expected = f"a {keyword} that is a {'positive ' if positive else ''}number"
            raise RadiographError(name, expected, f"{value!r}", "Remove or repair the window.")


def _oriented(header: object, grey: np.ndarray, name: str) -> np.ndarray:
    """Turn the image so that its rows run to the patient's left and its columns to the feet."""
    value = getattr(header, "PatientOrientation", None)
    if not value or len(value) != 2 or not all(str(part) for part in value):
        return grey  # as it was stored: nothing says otherwise
    row, column = (str(part).upper()[0] for part in value)
    if row in "AP" or column in "AP":
        found = f"patient orientation {value[0]}\\{value[1]}, a lateral one"
        raise RadiographError(name, "a frontal film", found, "Choose the frontal film.")
    if row in "HF" and column in "LR":
        grey, row, column = grey.T, column, row
    if row not in "LR" or column not in "HF":
        found = f"patient orientation {value[0]}\\{value[1]}"
        raise RadiographError(name, "an orientation such as L\\F", found, "Repair it.")
    if row == "R":
        grey = grey[:, ::-1]
    return grey[::-1] if column == "H" else grey


def _spacing(header: object) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = getattr(header, keyword, None)
        try:
            row, column = (float(part) for part in value)
        except (TypeError, ValueError):
            continue
        if np.isfinite([row, column]).all() and min(row, column) > 0:
            return row, column
    return None  # absent, or zero, as in some files that were made anonymous


def _view(header: object) -> str | None:
    view = _text(header, "ViewPosition")
    return view if view in ("PA", "AP") else None

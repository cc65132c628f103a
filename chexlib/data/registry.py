"""Every file that ``chexlib fetch`` can bring, with its address, hash, licence and citation.

An address is pinned to a commit wherever its host allows it, and a file without a known hash is
never accepted on trust: its entry says so, and :func:`chexlib.data.fetch.fetch` refuses it until
the caller names a hash.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chexlib.data.convert import rsna_matches_to_csv

__all__ = ["REGISTRY", "Entry", "RemoteFile", "entry"]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download.

    Attributes
    ----------
    path : str
        Where it stands in the end, relative to the data folder. For an archive, where a copy that
        the user downloaded by other means is looked for.
    url : str
        Its address.
    hash : str or None
        ``"sha256:…"`` of what is downloaded, or ``"md5:…"`` where only that is published.
    size : int or None
        Bytes of what is downloaded, where known.
    most : int
        Bytes beyond which it is not taken, where the size is not known.
    convert : callable, optional
        ``convert(downloaded, finished)`` writes the finished file from the downloaded one.
    converted_hash : str, optional
        Hash of the finished file, where it is converted.
    unpack_to : str, optional
        For an archive: the folder, relative to the data folder, that its files go to.
    """

    path: str
    url: str
    hash: str | None
    size: int | None
    most: int = 1 << 30
    convert: Callable[[Path, Path], None] | None = None
    converted_hash: str | None = None
    unpack_to: str | None = None

    @property
    def finished_hash(self) -> str | None:
        """Hash of the file that stands at ``path`` in the end."""
        return self.converted_hash if self.convert else self.hash


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What ``chexlib fetch NAME`` brings: one or more files of one source."""

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str
    homepage: str
    note: str = ""
    about_bytes: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes to download in all, or None where a part of it is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_GITHUB = "https://raw.githubusercontent.com"
_JRZECH = f"{_GITHUB}/jrzech/reproduce-chexnet/a011a9ab108cb03a533aeab52dc934b02a823ac8"
_TXRV = f"{_GITHUB}/mlmed/torchxrayvision/f4087a0b0d0cdc6a5877fb5456965b6d29adb1e5"
_TXRV_RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1"
_AZURE = (
    f"{_GITHUB}/Azure/AzureChestXRay/2e1a6dde1b701f259a6299166a7dd6fecda81164"
    "/AzureChestXRay_AMLWB/Code/src/finding_lungs"
)
_SPLIT = f"{_GITHUB}/dattran2346/chestX-ray-14/da4868e5a0a6800599656d034ed9c9abd9631927/csv"
_ZOOGZOG = f"{_GITHUB}/zoogzog/chexnet/bbe30b5e0d2941491a2c5a095cb572dca1d27158"

_NIH_LICENCE = "NIH: free use with attribution"
_WANG = (
    "Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks, CVPR 2017, "
    "arXiv:1705.02315. The images are provided by the NIH Clinical Center."
)
_ZECH = "Zech, reproduce-chexnet, 2018, retrained 2022"
_TXRV_CITATION = "Cohen et al., TorchXRayVision: A library of chest X-ray datasets and models, 2022"
_NIH_HOME = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
_NO_HASH = (
    "Its author published no hash and none could be confirmed, so it is accepted only against a "
    "hash that you give (--hash)."
)
_PICKLE = "A pickle: open it with torch.load(..., weights_only=True) only."

# Twelve archives in NIH's order: Box's name of the file, and the MD5 that NIH publishes.
_NIH_ARCHIVES = (
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", "fe8ed0a6961412fddcbb3603c11b3698"),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp", "2301d03bde4c246388bad3876965d574"),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", "1861f3cd0ef7734df8104f2b0309023b"),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", "456b53a8b351afd92a35bc41444c58c8"),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", "1075121ea20a137b87f290d6a4a5965e"),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", "b61f34cec3aa69f295fbb593cbd9d443"),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", "442a3caa61ae9b64e61c561294d1e183"),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", "09ec81c4c31e32858ad8cf965c494b74"),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", "499aefc67207a5a97692424cf5dbeed5"),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", "dc9fda1757c2de0032b63347a7d2895c"),
)

_ENTRIES = (
    Entry(
        name="predictions",
        title="Predictions of a public CheXNet reproduction for 22,433 test films, and its AUROCs",
        files=(
            RemoteFile(
                path="reference_predictions/preds.csv",
                url=f"{_JRZECH}/pretrained/preds.csv",
                hash="sha256:303332d593f56dc3c8191f2a903f09043c93f7205179d03189f3eaaf6247ad40",
                size=4_188_340,
            ),
            RemoteFile(
                path="reference_predictions/aucs.csv",
                url=f"{_JRZECH}/pretrained/aucs.csv",
                hash="sha256:281cd22d37290a1a799ea79d311007d6f45bfc324dc9fabddbc1ae3e057cf337",
                size=421,
            ),
        ),
        licence="BSD-3-Clause",
        citation=_ZECH,
        homepage="https://github.com/jrzech/reproduce-chexnet",
    ),
    Entry(
        name="rsna",
        title="Which NIH film each of the 26,684 films of RSNA's 2018 challenge is",
        files=(
            RemoteFile(
                path="rsna/rsna_to_nih.csv",
                url=f"{_TXRV}/scripts/CrossReferenceWithNIH/rsnamatches.pkl",
                hash="sha256:ccebc095618e21039047bcc07f65cb5213572fed4de28b603112bdcf8ad7e7e6",
                size=None,
                convert=rsna_matches_to_csv,
                converted_hash=(
                    "sha256:790d40e187457ce31adea2b87fe74a3a8eb8eeb667c475f7a1163275b0bdfea1"
                ),
            ),
        ),
        licence="Apache-2.0",
        citation=_TXRV_CITATION,
        homepage="https://github.com/mlmed/torchxrayvision",
        note=(
            "Published as a pickle. It is read with an unpickler that admits numpy scalars only, "
            "written as CSV, and both are checked against their hashes. pixel_mse is the "
            "publisher's figure: its script (cxrmatch.py) subtracts and squares 8-bit arrays, "
            "which wrap at 256, so it tells a match from a mismatch but is no mean squared error."
        ),
    ),
    Entry(
        name="azure",
        title="Films that Azure's team left out: 56 not PA/AP, 18 rotated, 1,094 of lower quality",
        files=(
            RemoteFile(
                path="azure_exclusions/blacklist_non_PA_AP_view.csv",
                url=f"{_AZURE}/blacklist_non_PA_AP_view.csv",
                hash="sha256:e6f9ab1b8b6546625a5a8dbb6218f2b7afe63f703553edd23de239830871d5c9",
                size=952,
            ),
            RemoteFile(
                path="azure_exclusions/blacklist_rotated_images.csv",
                url=f"{_AZURE}/blacklist_rotated_images.csv",
                hash="sha256:a21836fb6ee8d359bb574b7cc648c1e99e851d9a3422ea387d1465c9e69a01e7",
                size=306,
            ),
            RemoteFile(
                path="azure_exclusions/blacklist_other_images_with_lower_quality.csv",
                url=f"{_AZURE}/blacklist_other_images_with_lower_quality.csv",
                hash="sha256:12d114109f1819540f74c66e9667a258b0861d7a5d94666194dc0b30953ca885",
                size=18_598,
            ),
        ),
        licence="MIT",
        citation="Microsoft, AzureChestXRay, 2018",
        homepage="https://github.com/Azure/AzureChestXRay",
    ),
    Entry(
        name="split",
        title="NIH's official split: 86,524 films to train and validate, 25,596 to test",
        files=(
            RemoteFile(
                path="official_split/train_val_list.txt",
                url=f"{_SPLIT}/nih_train_val_list.csv.origin",
                hash="sha256:61fbe896321c1c1c8b75f3e4f3a08e4fef6486d95ef8a667c31d4d60dca6cb81",
                size=1_470_907,
            ),
            RemoteFile(
                path="official_split/test_list.txt",
                url=f"{_SPLIT}/nih_test_list.csv.origin",
                hash="sha256:38ca5ef7f756092946f57c1a59faca882ed589a1ab1f72590b45dc06c6d5e1cc",
                size=435_131,
            ),
        ),
        licence=_NIH_LICENCE,
        citation=_WANG,
        homepage=_NIH_HOME,
        note="NIH's files, from a public copy of them (dattran2346/chestX-ray-14).",
    ),
    Entry(
        name="images",
        title="The 112,120 films of ChestX-ray14, 1024 x 1024 PNG, in 12 archives",
        files=tuple(
            RemoteFile(
                path=f"archives/images_{number:03d}.tar.gz",
                url=f"https://nihcc.box.com/shared/static/{name}.gz",
                hash=f"md5:{md5}",
                size=None,
                most=8 << 30,
                unpack_to="images",
            )
            for number, (name, md5) in enumerate(_NIH_ARCHIVES, start=1)
        ),
        licence=_NIH_LICENCE,
        citation=_WANG,
        homepage=_NIH_HOME,
        note=(
            "Each archive is unpacked into images/ and then removed. An archive that you already "
            "have is used, and kept, if you put it at archives/images_001.tar.gz and so on."
        ),
        about_bytes=42_000_000_000,
    ),
    Entry(
        name="weights",
        title="zoogzog's DenseNet-121 checkpoint (m-25012018-123527)",
        files=(
            RemoteFile(
                path="weights/zoogzog/m-25012018-123527.pth.tar",
                url=f"{_ZOOGZOG}/models/m-25012018-123527.pth.tar",
                hash="sha256:656e239657a296e27cc2dd7bcfe706d2fcd0f8df061e33f3102bc08f45e8f223",
                size=84_175_617,
            ),
        ),
        licence="none stated by its author",
        citation="zoogzog, chexnet, 2018",
        homepage="https://github.com/zoogzog/chexnet",
        note=(
            "Hash and size are those of the Git LFS record in a public copy of the repository "
            f"(Sanaya27/chexnet at 240b572b), not of the author's own. {_PICKLE}"
        ),
    ),
    Entry(
        name="weights-torchxrayvision",
        title="torchxrayvision's DenseNet-121 trained on ChestX-ray14 (densenet121-res224-nih)",
        files=(
            RemoteFile(
                path=(
                    "weights/torchxrayvision/"
                    "nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
                ),
                url=(
                    f"{_TXRV_RELEASE}/nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
                ),
                hash=None,
                size=None,
            ),
        ),
        licence="Apache-2.0",
        citation=_TXRV_CITATION,
        homepage="https://github.com/mlmed/torchxrayvision",
        note=f"{_NO_HASH} {_PICKLE}",
    ),
    Entry(
        name="weights-jrzech",
        title="The checkpoint behind the reference predictions (DenseNet-121, retrained 2022)",
        files=(
            RemoteFile(
                path="weights/jrzech/checkpoint",
                url=f"{_JRZECH}/pretrained/checkpoint",
                hash=None,
                size=None,
            ),
        ),
        licence="BSD-3-Clause",
        citation=_ZECH,
        homepage="https://github.com/jrzech/reproduce-chexnet",
        note=f"{_NO_HASH} {_PICKLE}",
    ),
    Entry(
        name="weights-arnoweng",
        title="arnoweng's DenseNet-121 checkpoint (model.pth.tar)",
        files=(
            RemoteFile(
                path="weights/arnoweng/model.pth.tar",
                url="https://github.com/arnoweng/CheXNet/raw/master/model.pth.tar",
                hash=None,
                size=None,
            ),
        ),
        licence="none stated by its author",
        citation="Weng, Zhuang, Tian and Liu, CheXNet for Classification and Localization, 2017",
        homepage="https://github.com/arnoweng/CheXNet",
        note=f"{_NO_HASH} Not pinned to a commit. {_PICKLE}",
    ),
)

REGISTRY: dict[str, Entry] = {item.name: item for item in _ENTRIES}


def entry(name: str) -> Entry:
    """Return the entry of that name.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest one.

    Examples
    --------
    >>> entry("split").size
    1906038
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name.lower(), REGISTRY, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Expected one of {', '.join(REGISTRY)}, got {name!r}.{hint}")

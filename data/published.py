"""AUROCs and localisation as published: who, on which films, how sure, and where it stands.

Certainty: A, read in the primary text or computed from released files; B, quoted by another source.
"""

from __future__ import annotations

import pandas as pd

from chexlib.findings import FINDINGS

MEAN = "mean"

# (source, split, certainty, citation key, fourteen values in CheXNet's order, mean as published)
TABLES = (
    (
        *("Wang 2017, ResNet-50", "official", "A", "wang2017"),
        ".7003 .8100 .7585 .6614 .6933 .6687 .6580 .7993 .7032 .8052 .8330 .7859 .6835 .8717",
        0.745,
    ),
    (
        *("Wang, as quoted by CheXNet", "not stated", "A", "rajpurkar2017"),
        ".716 .807 .784 .609 .706 .671 .633 .806 .708 .835 .815 .769 .708 .767",
        0.738,
    ),
    (
        *("Yao 2017, as quoted by CheXNet", "not stated", "B", "yao2017"),
        ".772 .904 .859 .695 .792 .717 .713 .841 .788 .882 .829 .767 .765 .914",
        0.803,
    ),
    (
        *("CheXNet 2017", "own random", "A", "rajpurkar2017"),
        ".8094 .9248 .8638 .7345 .8676 .7802 .7680 .8887 .7901 .8878 .9371 .8047 .8062 .9164",
        0.841,
    ),
    (
        *("arnoweng", "shared random", "A", "arnoweng"),
        ".8294 .9165 .8870 .7143 .8597 .7873 .7745 .8726 .8142 .8932 .9254 .8304 .7831 .9104",
        0.843,
    ),
    (
        *("zoogzog", "shared random", "A", "zoogzog"),
        ".8321 .9107 .8860 .7145 .8653 .8037 .7655 .8857 .8157 .9017 .9422 .8523 .7948 .9416",
        0.851,
    ),
    (
        *("jrzech 2022", "shared random", "A", "zech_reproduce"),
        ".8180 .9090 .8827 .7156 .8377 .7756 .7617 .8776 .8002 .8945 .9316 .8251 .7889 .9175",
        0.838,
    ),
    (
        *("Azure README, as printed", "own random", "A", "azure_chestxray"),
        ".828543 .891449 .817697 .907302 .895815 .907841 .817601 .881838 .721818 .868002 "
        ".787202 .826822 .793416 .889089",
        0.845,
    ),
    (
        *("Azure Keras notebook", "own random", "A", "azure_chestxray"),
        ".823191 .933519 .883184 .744561 .859510 .783997 .801597 .830550 .813993 .896173 "
        ".849184 .882463 1.000000 .916395",
        None,
    ),
)

# Later work: mean AUROC only. Without a citation key: known from other papers' tables alone.
MEANS = (
    ("Baltruschat 2019", "official", "B", "baltruschat2019", 0.806),
    ("Guendel 2018", "official", "B", "guendel2018", 0.807),
    ("Guendel 2018", "own random", "B", "guendel2018", 0.841),
    ("SwinCheX 2022", "official", "B", "", 0.810),
    ("Xiao, DenseNet-121", "official", "B", "", 0.812),
    ("Liu 2022", "official", "B", "", 0.818),
    ("Goel, DenseNet-121", "official", "B", "", 0.820),
    ("Goel, ViT-B", "official", "B", "", 0.834),
    ("XProtoNet", "official", "B", "", 0.822),
    ("EVA-X-S", "official", "B", "", 0.833),
)


def published() -> pd.DataFrame:
    """Return one row a figure: ``source split finding value certainty citation``.

    A table printed in a wrong order is given as printed: its values stand beside the names that its
    authors printed beside them.
    """
    rows = []
    for source, split, certainty, citation, values, mean in TABLES:
        pairs = list(zip(FINDINGS, values.split(), strict=True))
        pairs += [(MEAN, mean)] if mean is not None else []
        rows += [(source, split, name, float(v), certainty, citation) for name, v in pairs]
    rows += [(source, split, MEAN, v, sure, key) for source, split, sure, key, v in MEANS]
    columns = ["source", "split", "finding", "value", "certainty", "citation"]
    return pd.DataFrame(rows, columns=columns)


# Tables 4 and 7 of Wang et al., ChestX-ray8, arXiv:1705.02315 v5.
EIGHT = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
ACCURACY = {
    "IoBB > 0.1": (0.728, 0.993, 0.712, 0.789, 0.435, 0.165, 0.750, 0.459),
    "IoBB > 0.25": (0.550, 0.979, 0.542, 0.577, 0.282, 0.051, 0.558, 0.347),
    "IoBB > 0.5": (0.283, 0.877, 0.333, 0.423, 0.141, 0.013, 0.383, 0.184),
    "IoU > 0.1": (0.689, 0.938, 0.660, 0.707, 0.400, 0.139, 0.633, 0.378),
    "IoU > 0.3": (0.244, 0.459, 0.301, 0.276, 0.153, 0.038, 0.167, 0.133),
    "IoU > 0.5": (0.050, 0.178, 0.111, 0.065, 0.012, 0.013, 0.033, 0.031),
}


def localization() -> pd.DataFrame:
    """Return localisation accuracies of ChestX-ray8's network on the boxes of one radiologist.

    The network for 14 labels is in another table of the same paper (Table 19), which is not here.
    Accuracy is all that is returned: the paper prints false positives beside it, and a map that
    draws many boxes passes the accuracy alone. IoBB is the intersection over the detected box.
    """
    wide = pd.DataFrame(ACCURACY, index=pd.Index(EIGHT, name="finding"))
    return wide.melt(var_name="metric", value_name="estimate", ignore_index=False).reset_index()

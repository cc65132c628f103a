"""Metrics: how well labels or scores agree with a reference, and how sure that is.

Everything here takes and gives NumPy arrays and knows nothing of files or networks. Every figure
comes with an interval; where films share a patient, patients are resampled.

>>> from chexlib.metrics import wilson
>>> wilson(43, 50)
Estimate(k=43, n=50, estimate=0.86, low=0.738..., high=0.930..., method='Wilson')
"""

from chexlib.metrics.agreement import (
    TwoByTwo,
    assess,
    kappa,
    likelihood_ratio,
    npv,
    ppv,
    ppv_at_prevalence,
    sensitivity,
    share,
    specificity,
    two_by_two,
)
from chexlib.metrics.calibration import (
    any_of,
    brier,
    brier_parts,
    calibration_error,
    calibration_slope,
    expected_films,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    no_finding,
    reliability,
    shift_prevalence,
    undo_class_weights,
)
from chexlib.metrics.comparison import (
    compare_labels,
    compare_scores,
    compare_with_reader,
    delong,
    holm,
)
from chexlib.metrics.inputs import OneClassWarning, UndefinedWarning, from_counts
from chexlib.metrics.label_noise import (
    expected_persistence,
    film_pairs,
    persistence,
    shuffled_persistence,
    simulate_chronic,
)
from chexlib.metrics.ranking import (
    auroc,
    auroc_standard_error,
    average_precision,
    counts_by_threshold,
    precision_recall,
    roc,
)
from chexlib.metrics.readers import (
    dawid_skene,
    krippendorff_alpha,
    panel_agreement,
    reader_agreement,
)
from chexlib.metrics.resampling import Bootstrap, Estimate, Resamples, resampled, wilson
from chexlib.metrics.subgroups import age_band, by_subgroup
from chexlib.metrics.thresholds import (
    OperatingPoint,
    at_sensitivity,
    at_specificity,
    choose,
    decision_curve,
    max_f1,
    min_cost,
    net_benefit,
    operating_point,
    operating_points,
    per_films,
    threshold_sweep,
    youden,
)

"""What ``chexlib evaluate`` writes: one model's predictions as tables and a page of figures."""

from chexlib.report.evaluation import evaluate
from chexlib.report.page import write_report

__all__ = ["evaluate", "write_report"]

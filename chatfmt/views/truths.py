"""The names of columns that hold the ground truth of an answer, the most telling first."""

from __future__ import annotations

TRUTHS = ("ground_truth", "final_answer", "answer")
"""The columns that hold a ground truth whatever else a row has."""
KEPT_TRUTHS = (*TRUTHS, "solution", "label", "target")
"""The columns that hold one if they are kept."""

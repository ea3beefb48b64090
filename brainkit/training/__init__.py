"""Training: the one trainer of every deep part, and the losses."""

from brainkit.training.losses import matched_contrast, variance_matched_l1
from brainkit.training.trainer import Report, Schedule, Step, run_folder, train

__all__ = [
    "Report",
    "Schedule",
    "Step",
    "matched_contrast",
    "run_folder",
    "train",
    "variance_matched_l1",
]

"""Training: the one trainer of every deep part, and the losses."""

from brainkit.training.contrastive import info_nce
from brainkit.training.losses import variance_matched_l1
from brainkit.training.memory import TrainingMemory, training_memory
from brainkit.training.trainer import Report, Schedule, Step, run_folder, train

__all__ = [
    "Report",
    "Schedule",
    "Step",
    "TrainingMemory",
    "info_nce",
    "run_folder",
    "train",
    "training_memory",
    "variance_matched_l1",
]

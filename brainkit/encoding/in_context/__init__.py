"""In-context encoding: a network reads a new subject's voxels from a few images."""

from brainkit.encoding.in_context.checkpoint import Origin, load_network, save_network
from brainkit.encoding.in_context.estimator import InContextEncoder
from brainkit.encoding.in_context.module import (
    Architecture,
    HyperWeights,
    InContextNetwork,
    hyper_weights,
)
from brainkit.encoding.in_context.tasks import (
    Subject,
    SubjectVoxels,
    SyntheticVoxels,
    Tasks,
    TuningVoxels,
)
from brainkit.encoding.in_context.trainable import Stage, published_stages, train_stage
from brainkit.training.set_networks import check_excluded

__all__ = [
    "Architecture",
    "HyperWeights",
    "InContextEncoder",
    "InContextNetwork",
    "Origin",
    "Stage",
    "Subject",
    "SubjectVoxels",
    "SyntheticVoxels",
    "Tasks",
    "TuningVoxels",
    "check_excluded",
    "hyper_weights",
    "load_network",
    "published_stages",
    "save_network",
    "train_stage",
]

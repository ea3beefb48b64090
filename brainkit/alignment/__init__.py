"""Alignment: each person's space ⇄ a space that people share.

| name | common stimuli | way back | shared space |
|---|---|---|---|
| `Identity` | no | yes | the units as they stand; as many in everyone |
| `OwnUnits` | no | yes | everyone's own units; a decoder that tells people apart aligns them |
| `PCA` | no | yes | each person's leading components, which do not correspond |
| `Pooled` | no | no | means of stretches of units in a stated order |
| `Resample` | no | no | parcels of a label map, or a template's voxels |
| `Coordinates` | no | no | soft parcels from the positions of units |
| `ByFeatures` | no | yes | components of the stimuli's features, by encoders |
| `RidgeToReference` | yes | the reference's | the units of one person |
| `Procrustes` | yes | yes | rotations onto the common mean, whole or by parcels |
| `SharedResponse` | yes | yes | a few dimensions that responses have in common |
"""

from brainkit.alignment.aligner import Aligner
from brainkit.alignment.anatomical import Coordinates, Pooled, Resample
from brainkit.alignment.by_features import ByFeatures
from brainkit.alignment.functional import (
    PCA,
    Identity,
    OwnUnits,
    Procrustes,
    RidgeToReference,
    SharedResponse,
)
from brainkit.arrays.registry import Registry

ALIGNERS = Registry(
    "aligner",
    "aligner",
    {
        "identity": Identity,
        "own-units": OwnUnits,
        "pca": PCA,
        "pooled": Pooled,
        "resample": Resample,
        "coordinates": Coordinates,
        "by-features": ByFeatures,
        "ridge-to-reference": RidgeToReference,
        "procrustes": Procrustes,
        "shared-response": SharedResponse,
    },
    has=("fit", "transform", "add_subject", "needs_common_stimuli", "invertible"),
)

__all__ = [
    "ALIGNERS",
    "PCA",
    "Aligner",
    "ByFeatures",
    "Coordinates",
    "Identity",
    "OwnUnits",
    "Pooled",
    "Procrustes",
    "Resample",
    "RidgeToReference",
    "SharedResponse",
]

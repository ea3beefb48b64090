"""Features: from stimuli to numbers."""

from brainkit.features.backbones.backbone import Backbone, open_backbone
from brainkit.features.backbones.torch_module import TorchModel
from brainkit.features.delay_transformer import Delays
from brainkit.features.design import Design
from brainkit.features.energy import OrientedEnergy, oriented_energy
from brainkit.features.extraction import extract
from brainkit.features.feature_spaces import (
    FeatureStack,
    Precomputed,
    PrincipalSpace,
    Remembered,
    SideBySide,
    SingleSpace,
    as_features,
    read_for,
)
from brainkit.features.model_layer import CaptionLayer, ModelLayer
from brainkit.features.pixels import PixelPCA
from brainkit.features.reduction import FeaturePCA, SparseProjection
from brainkit.features.spec import Spec, parse_spec
from brainkit.features.store import FeatureStore

__all__ = [
    "Backbone",
    "CaptionLayer",
    "Delays",
    "Design",
    "FeaturePCA",
    "FeatureStack",
    "FeatureStore",
    "ModelLayer",
    "OrientedEnergy",
    "PixelPCA",
    "Precomputed",
    "PrincipalSpace",
    "Remembered",
    "SideBySide",
    "SingleSpace",
    "SparseProjection",
    "Spec",
    "TorchModel",
    "as_features",
    "extract",
    "open_backbone",
    "oriented_energy",
    "parse_spec",
    "read_for",
]

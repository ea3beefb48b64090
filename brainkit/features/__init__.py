"""Features: from stimuli to numbers."""

from brainkit.features.backbones.base import Backbone
from brainkit.features.backbones.module import TorchModel
from brainkit.features.backbones.registry import open_backbone
from brainkit.features.captions import CaptionLayer
from brainkit.features.delays import Delays
from brainkit.features.design import Design
from brainkit.features.energy import OrientedEnergy, oriented_energy
from brainkit.features.extraction import extract
from brainkit.features.layer import ModelLayer
from brainkit.features.memory import Remembered
from brainkit.features.pixels import PixelPCA
from brainkit.features.precomputed import Precomputed, as_features
from brainkit.features.principal import FeaturePCA
from brainkit.features.projection import SparseProjection
from brainkit.features.reading import SideBySide, read_for
from brainkit.features.spec import Spec, parse_spec
from brainkit.features.stack import FeatureStack, PrincipalSpace, SingleSpace
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

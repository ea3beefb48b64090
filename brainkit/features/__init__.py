"""Features: from stimuli to numbers."""

from brainkit.features.energy import OrientedEnergy, oriented_energy
from brainkit.features.memory import Remembered
from brainkit.features.pixels import PixelPCA
from brainkit.features.stack import FeatureStack, PrincipalSpace, SingleSpace

__all__ = [
    "FeatureStack",
    "OrientedEnergy",
    "PixelPCA",
    "PrincipalSpace",
    "Remembered",
    "SingleSpace",
    "oriented_energy",
]

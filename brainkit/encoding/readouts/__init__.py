"""Readouts: from frozen feature maps to each target, with an account of where it looks."""

from brainkit.encoding.readouts.fields import (
    FieldFit,
    Fields,
    feature_weighted_rf,
    field_grid,
    gaussian_fields,
)
from brainkit.encoding.readouts.semantic import SemanticReadout
from brainkit.encoding.readouts.spatial_readouts import (
    FactorizedReadout,
    GaussianReadout,
    LinearReadout,
)
from brainkit.encoding.readouts.weighted_rf import FeatureWeightedRF

__all__ = [
    "FactorizedReadout",
    "FeatureWeightedRF",
    "FieldFit",
    "Fields",
    "GaussianReadout",
    "LinearReadout",
    "SemanticReadout",
    "feature_weighted_rf",
    "field_grid",
    "gaussian_fields",
]

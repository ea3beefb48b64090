"""Readouts: from frozen feature maps to each target, with an account of where it looks."""

from brainkit.encoding.readouts.factorized import FactorizedReadout
from brainkit.encoding.readouts.field_search import FieldFit, feature_weighted_rf
from brainkit.encoding.readouts.fields import Fields, field_grid, gaussian_fields
from brainkit.encoding.readouts.gaussian import GaussianReadout
from brainkit.encoding.readouts.linear import LinearReadout
from brainkit.encoding.readouts.semantic import SemanticReadout
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

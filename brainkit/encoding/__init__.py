"""Encoding: estimators from features to responses, and how they are judged.

Encoders that are trained by gradient descent are loaded when they are first used, and torch with
them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from brainkit.encoding.banded import BandedRidge
from brainkit.encoding.judging import EncodingProtocol, EncodingResult, assess_encoder
from brainkit.encoding.kernel import KernelRidge
from brainkit.encoding.reduced_rank import ReducedRankRidge
from brainkit.encoding.similarity import RSAProtocol, RSAResult, assess_rsa, layer_rdm
from brainkit.encoding.spaces import (
    SpaceComparison,
    compare_spaces,
    stimuli_in_use,
)
from brainkit.encoding.voxelwise_ridge import VoxelwiseRidge

if TYPE_CHECKING:
    from brainkit.encoding.in_context import InContextEncoder
    from brainkit.encoding.readouts import (
        FactorizedReadout,
        FeatureWeightedRF,
        GaussianReadout,
        LinearReadout,
        SemanticReadout,
    )
    from brainkit.encoding.routing import RoutingEncoder

__all__ = [
    "ENCODERS",
    "BandedRidge",
    "EncodingProtocol",
    "EncodingResult",
    "FactorizedReadout",
    "FeatureWeightedRF",
    "GaussianReadout",
    "InContextEncoder",
    "KernelRidge",
    "LinearReadout",
    "RSAProtocol",
    "RSAResult",
    "ReducedRankRidge",
    "RoutingEncoder",
    "SemanticReadout",
    "SpaceComparison",
    "VoxelwiseRidge",
    "assess_encoder",
    "assess_rsa",
    "compare_spaces",
    "layer_rdm",
    "stimuli_in_use",
]

# Estimators by the names that recipes have for them; those of `_DEEP` are not imported for it.
ENCODERS = {
    "voxelwise-ridge": "brainkit.encoding:VoxelwiseRidge",
    "banded-ridge": "brainkit.encoding:BandedRidge",
    "kernel-ridge": "brainkit.encoding:KernelRidge",
    "reduced-rank-ridge": "brainkit.encoding:ReducedRankRidge",
    "feature-weighted-rf": "brainkit.encoding:FeatureWeightedRF",
    "linear-readout": "brainkit.encoding:LinearReadout",
    "gaussian-readout": "brainkit.encoding:GaussianReadout",
    "factorized-readout": "brainkit.encoding:FactorizedReadout",
    "semantic-readout": "brainkit.encoding:SemanticReadout",
    "routing-encoder": "brainkit.encoding:RoutingEncoder",
    "in-context": "brainkit.encoding:InContextEncoder",
}
_DEEP = {
    "FactorizedReadout": "readouts",
    "FeatureWeightedRF": "readouts",
    "GaussianReadout": "readouts",
    "InContextEncoder": "in_context",
    "LinearReadout": "readouts",
    "RoutingEncoder": "routing",
    "SemanticReadout": "readouts",
}


def __getattr__(name: str) -> Any:
    """Load a deep encoder when it is first asked for."""
    if name in _DEEP:
        value = getattr(importlib.import_module(f"brainkit.encoding.{_DEEP[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'brainkit.encoding' has no attribute {name!r}")

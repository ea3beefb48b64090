"""From a recipe's names and settings to parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features import FeatureStack, OrientedEnergy, PixelPCA, Remembered, SingleSpace
from brainkit.recipes.schema import FeatureSpec, ModelSpec

FEATURES: Mapping[str, type] = {"oriented-energy": OrientedEnergy, "pixel-pca": PixelPCA}
STATELESS = ("oriented-energy",)
MODELS: Mapping[str, type] = {"voxelwise-ridge": VoxelwiseRidge, "ridge-decoder": RidgeDecoder}


def build_features(specs: Sequence[FeatureSpec]) -> Any:
    """Return the feature space, or the stack of several, that a recipe names."""
    spaces = [_space(spec) for spec in specs]
    if len(spaces) == 1:
        return spaces[0]
    unscaled = [spec.kind for spec in specs if spec.scale is None]
    if unscaled:
        raise InputError(
            f"Feature spaces side by side need a scale, 'feature' or 'space'; {listed(unscaled)} "
            "has none."
        )
    return FeatureStack(spaces)


def _space(spec: FeatureSpec) -> Any:
    part = _build(FEATURES, "feature space", spec.kind, spec.settings)
    if spec.kind in STATELESS:
        part = Remembered(part)
    return part if spec.scale is None else SingleSpace(part, scale=spec.scale)


def build_model(spec: ModelSpec) -> Any:
    """Return the estimator that a recipe names."""
    span = spec.alphas
    alphas = tuple(float(a) for a in np.geomspace(span.low, span.high, span.count))
    return _build(MODELS, "model", spec.kind, {"alphas": alphas, "cv": spec.cv, **spec.settings})


def _build(parts: Mapping[str, type], what: str, kind: str, settings: Mapping[str, Any]) -> Any:
    if kind not in parts:
        raise unknown_name(what, kind, sorted(parts))
    part = parts[kind]()
    known = part.get_params(deep=False)
    for name in settings:
        if name not in known:
            raise InputError(f"{kind} has no setting {name!r}; it has {listed(known)}.")
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return part.set_params(**values)

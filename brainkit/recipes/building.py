"""From a recipe's names and settings to parts."""

from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features import (
    FeatureStack,
    ModelLayer,
    OrientedEnergy,
    PixelPCA,
    PrincipalSpace,
    Remembered,
    SingleSpace,
)
from brainkit.recipes.schema import FeatureSpec, ModelSpec
from brainkit.reconstruction import EmbeddingDecoder

FEATURES: Mapping[str, type] = {
    "oriented-energy": OrientedEnergy,
    "pixel-pca": PixelPCA,
    "model-layer": ModelLayer,
}
STATELESS = ("oriented-energy", "model-layer")
MODELS: Mapping[str, type] = {
    "voxelwise-ridge": VoxelwiseRidge,
    "reduced-rank-ridge": ReducedRankRidge,
    "ridge-decoder": RidgeDecoder,
    "embedding-decoder": EmbeddingDecoder,
}
Known = dict[str, Remembered]


def build_features(
    specs: Sequence[FeatureSpec], components: int | None = None, known: Known | None = None
) -> Any:
    """Return the feature space, or the stack of several, that a recipe names.

    Parameters
    ----------
    specs : sequence of FeatureSpec
        The spaces.
    components : int, optional
        Keep that many principal components of all of them together.
    known : dict, optional
        Stateless spaces that were built before and remember what they computed; gains new ones.
    """
    spaces = [_space(spec, {} if known is None else known) for spec in specs]
    whole = spaces[0] if len(spaces) == 1 else _side_by_side(specs, spaces)
    return whole if components is None else PrincipalSpace(whole, components)


def _side_by_side(specs: Sequence[FeatureSpec], spaces: Sequence[Any]) -> FeatureStack:
    unscaled = [spec.kind for spec in specs if spec.scale is None]
    if unscaled:
        raise InputError(
            f"Feature spaces side by side need a scale, 'feature' or 'space'; {listed(unscaled)} "
            "has none."
        )
    return FeatureStack(spaces)


def _space(spec: FeatureSpec, known: Known) -> Any:
    part = _build(FEATURES, "feature space", spec.kind, spec.settings)
    if spec.kind in STATELESS:
        part = known.setdefault(repr(sorted(part.get_params().items())), Remembered(part))
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
    return part.set_params(**{n: _value(parts[kind], n, value) for n, value in settings.items()})


def _value(part: Any, name: str, value: Any) -> Any:
    """Return a setting as the type that the part takes: a file's `3` may stand for `3.0`."""
    try:
        checked = TypeAdapter(get_type_hints(part.__init__)[name]).validate_python(value)
    except ValidationError as error:
        faults = listed(dict.fromkeys(fault["msg"] for fault in error.errors()))
        raise InputError(f"The setting {name} cannot be {value!r}: {faults}.") from error
    return tuple(checked) if isinstance(checked, list) else checked

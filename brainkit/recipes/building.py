"""From a recipe's names and settings to parts."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError, listed, unknown_name
from brainkit.features import (
    CaptionLayer,
    FeatureStack,
    ModelLayer,
    OrientedEnergy,
    PixelPCA,
    PrincipalSpace,
    Remembered,
    SingleSpace,
)
from brainkit.features.wrapped_spaces import RememberedFits
from brainkit.recipes.schema import FeatureSpec, ModelSpec
from brainkit.reconstruction import EmbeddingDecoder

FEATURES: Mapping[str, type] = {
    "oriented-energy": OrientedEnergy,
    "pixel-pca": PixelPCA,
    "model-layer": ModelLayer,
    "caption-layer": CaptionLayer,
}
STATELESS = ("oriented-energy", "model-layer", "caption-layer")
# Deep encoders are named, not imported: most recipes do without them.
MODELS: Mapping[str, type | str] = {
    "voxelwise-ridge": VoxelwiseRidge,
    "banded-ridge": "brainkit.encoding.banded:BandedRidge",
    "kernel-ridge": KernelRidge,
    "reduced-rank-ridge": ReducedRankRidge,
    "feature-weighted-rf": "brainkit.encoding.readouts:FeatureWeightedRF",
    "linear-readout": "brainkit.encoding.readouts:LinearReadout",
    "gaussian-readout": "brainkit.encoding.readouts:GaussianReadout",
    "factorized-readout": "brainkit.encoding.readouts:FactorizedReadout",
    "semantic-readout": "brainkit.encoding.readouts:SemanticReadout",
    "routing-encoder": "brainkit.encoding.routing:RoutingEncoder",
    "in-context": "brainkit.encoding.in_context:InContextEncoder",
    "ridge-decoder": RidgeDecoder,
    "embedding-decoder": EmbeddingDecoder,
}
PIXEL_FITS = "fits of pixel components"
Known = dict[str, Remembered | RememberedFits]


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
        What was computed before: stateless spaces that remember their features, and fits of pixel
        components; gains new ones.
    """
    spaces = [_space(spec, known) for spec in specs]
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


def _space(spec: FeatureSpec, known: Known | None) -> Any:
    part = _build(FEATURES, "feature space", spec.kind, spec.settings)
    if spec.kind in STATELESS:
        memory = Remembered(part)
        name = f"{spec.kind} {sorted(part.get_params().items())!r}"
        part = memory if known is None else known.setdefault(name, memory)
    elif known is not None and isinstance(part, PixelPCA):
        part.remember(cast(RememberedFits, known.setdefault(PIXEL_FITS, RememberedFits())))
    return part if spec.scale is None else SingleSpace(part, scale=spec.scale)


def build_model(spec: ModelSpec) -> Any:
    """Return the estimator that a recipe names."""
    named: dict[str, Any] = {}
    if spec.alphas is not None:
        span = spec.alphas
        named["alphas"] = tuple(float(a) for a in np.geomspace(span.low, span.high, span.count))
    if spec.cv is not None:
        named["cv"] = spec.cv
    return _build(MODELS, "model", spec.kind, named | spec.settings)


def _build(
    parts: Mapping[str, type | str], what: str, kind: str, settings: Mapping[str, Any]
) -> Any:
    if kind not in parts:
        raise unknown_name(what, kind, sorted(parts))
    part = imported(parts[kind])
    made = part()
    known = made.get_params(deep=False)
    for name in settings:
        if name not in known:
            raise InputError(f"{kind} has no setting {name!r}; it has {listed(known)}.")
    return made.set_params(**{n: _value(part, n, value) for n, value in settings.items()})


def imported(part: type | str) -> Any:
    """Return a class that is given as itself, or as ``module:Class``."""
    if not isinstance(part, str):
        return part
    module, name = part.split(":")
    return getattr(import_module(module), name)


def _value(part: Any, name: str, value: Any) -> Any:
    """Return a setting as the type that the part takes: a file's `3` may stand for `3.0`."""
    # A parameter may be that of a base class, taken as a keyword.
    kinds = (
        get_type_hints(vars(kind)["__init__"]) for kind in part.__mro__ if "__init__" in vars(kind)
    )
    hint = next(hints[name] for hints in kinds if name in hints)
    try:
        checked = TypeAdapter(hint).validate_python(value)
    except PydanticSchemaGenerationError:  # an array, which the part itself checks
        return value
    except ValidationError as error:
        faults = listed(dict.fromkeys(fault["msg"] for fault in error.errors()))
        raise InputError(f"The setting {name} cannot be {value!r}: {faults}.") from error
    return tuple(checked) if isinstance(checked, list) else checked

"""The vocabulary of recipes: what the settings of every job are made of, and what they build.

A recipe is one YAML file under ``models/``. Its ``job`` says which job's schema it follows; the
schemas stand with the jobs (`brainkit.jobs`) and are made of the pieces here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from brainkit.arrays.registry import Registry
from brainkit.data.cards import Strict
from brainkit.decoding import DECODERS
from brainkit.encoding import ENCODERS
from brainkit.errors import InputError, listed
from brainkit.features import FeatureStack, PrincipalSpace, Remembered, SingleSpace
from brainkit.features.feature_spaces import RememberedFits
from brainkit.features.spec import parse_spec

FEATURES = Registry(
    "feature",
    "feature space",
    {
        "oriented-energy": "brainkit.features:OrientedEnergy",
        "pixel-pca": "brainkit.features:PixelPCA",
        "model-layer": "brainkit.features:ModelLayer",
        "caption-layer": "brainkit.features:CaptionLayer",
        "learned-latents": "brainkit.decoding:LearnedLatents",
    },
    has=("fit", "transform", "get_params", "set_params"),
)
MODELS = Registry(
    "model",
    "model",
    ENCODERS | DECODERS | {"embedding-decoder": "brainkit.reconstruction:EmbeddingDecoder"},
    has=("fit", "predict", "get_params", "set_params"),
)
PIXEL_FITS = "fits of pixel components and latents"
# Features of one person that several jobs share: spaces that remember, and fits of components.
Known = dict[str, Remembered | RememberedFits]


# ----------------------------------------------------------- places, absolute from any folder


def settled_model(text: str) -> str:
    """Return a specification of a model with its folder, or its file of weights, absolute."""
    try:
        spec = parse_spec(text)
    except InputError:
        return text  # told when it is opened
    name, file = spec.name, spec.file
    if spec.place == "folder":
        name = str(Path(name).expanduser().resolve())
    if (name, file) == (spec.name, None):
        return text
    return str(replace(spec, name=name, weights=str(file.resolve()) if file else spec.weights))


def settled_folder(name: str) -> str:
    """Return what names a folder or file that is there as an absolute path; all else as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name != "tiny" else name


def settled_store(name: str) -> str:
    """Return a store's folder, there or not, as an absolute path."""
    return name if name == "default" else str(Path(name).expanduser().resolve())


def settled_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a feature space with the model that they may name settled."""
    settle = {"model": settled_model, "store": settled_store}
    return {
        name: settle[name](value) if name in settle and isinstance(value, str) else value
        for name, value in settings.items()
    }


ModelName = Annotated[str, AfterValidator(settled_model)]
FolderName = Annotated[str, AfterValidator(settled_folder)]
StoreName = Annotated[str, AfterValidator(settled_store)]
SpaceSettings = Annotated[dict[str, Any], AfterValidator(settled_settings)]
Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]


# ------------------------------------------------------------------------------------- schemas


class Recipe(Strict):
    """What all recipes have; every job adds its own settings."""

    name: str
    job: str
    about: str


class Alphas(Strict):
    """Penalties on a logarithmic scale."""

    low: float = Field(gt=0, allow_inf_nan=False)
    high: float = Field(gt=0, allow_inf_nan=False)
    count: int = Field(ge=1, le=100)


class FeatureSpec(Strict):
    """A feature space and its scale among others (see `brainkit.features.SingleSpace`)."""

    kind: str
    scale: Literal["feature", "space"] | None = None
    settings: SpaceSettings = Field(default_factory=dict)


class ModelSpec(Strict):
    """An estimator, its penalties where it has any, and its other parameters."""

    kind: str
    alphas: Alphas | None = None
    cv: Annotated[int, Field(ge=2)] | Literal["loo", "gcv"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class FeatureRecipe(Recipe):
    """A recipe of features and one model."""

    features: list[FeatureSpec] = Field(min_length=1)
    components: int | None = Field(default=None, ge=1)
    model: ModelSpec

    def build(self, known: Known | None = None) -> tuple[Any, Any]:
        """Return the feature space and the estimator; see `build_features` for `known`."""
        return build_features(self.features, self.components, known), build_model(self.model)


def settings_of(protocol: type, **changed: Any) -> type[Strict]:
    """Return the schema of a recipe's ``protocol``: the parameters of a protocol's data class.

    Parameters
    ----------
    protocol : type
        A data class, such as `brainkit.encoding.EncodingProtocol`.
    **changed
        By parameter: the annotation that a file's value is checked by, where the data class allows
        what a file cannot hold, or more than the job takes.

    Returns
    -------
    type
        A strict pydantic model, whose `build` returns the protocol.
    """
    hints = {**get_type_hints(protocol), "split": str, **changed}
    values: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(protocol)
    }

    class Settings(Strict):
        def build(self) -> Any:
            """Return the protocol with these settings."""
            return protocol(**{name: getattr(self, name) for name in values})

    model: type[Strict] = create_model(
        f"{protocol.__name__}Settings", __base__=Settings, __doc__=protocol.__doc__, **values
    )
    return model


# ------------------------------------------------------------------------------ from specs to parts


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
    stack = spaces[0] if len(spaces) == 1 else _side_by_side(specs, spaces)
    return stack if components is None else PrincipalSpace(stack, components)


def _side_by_side(specs: Sequence[FeatureSpec], spaces: Sequence[Any]) -> FeatureStack:
    unscaled = [spec.kind for spec in specs if spec.scale is None]
    if unscaled:
        raise InputError(
            f"Feature spaces side by side need a scale, 'feature' or 'space'; {listed(unscaled)} "
            "has none."
        )
    return FeatureStack(spaces)


def _space(spec: FeatureSpec, known: Known | None) -> Any:
    part = build_part(FEATURES, spec.kind, spec.settings)
    if getattr(part, "stateless", False):
        memory = Remembered(part)
        name = f"{spec.kind} {sorted(part.get_params().items())!r}"
        part = memory if known is None else known.setdefault(name, memory)
    elif known is not None and hasattr(part, "remember"):
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
    return build_part(MODELS, spec.kind, named | spec.settings)


def build_part(parts: Mapping[str, Any], kind: str, settings: Mapping[str, Any]) -> Any:
    """Return an instance of a registered part with settings, each as the type that it takes."""
    part = parts[kind]
    built = part()
    known = built.get_params(deep=False)
    for name in settings:
        if name not in known:
            raise InputError(f"{kind} has no setting {name!r}; it has {listed(known)}.")
    return built.set_params(**{n: _value(part, n, value) for n, value in settings.items()})


def _value(part: Any, name: str, value: Any) -> Any:
    """Return a setting as the type that the part takes: a file's `3` may stand for `3.0`."""
    # A parameter may be that of a base class, taken as a keyword.
    kinds = (
        get_type_hints(vars(kind)["__init__"]) for kind in part.__mro__ if "__init__" in vars(kind)
    )
    hint = next((hints[name] for hints in kinds if name in hints), Any)
    try:
        checked = TypeAdapter(hint).validate_python(value)
    except PydanticSchemaGenerationError:  # an array, which the part itself checks
        return value
    except ValidationError as error:
        faults = listed(dict.fromkeys(fault["msg"] for fault in error.errors()))
        raise InputError(f"The setting {name} cannot be {value!r}: {faults}.") from error
    return tuple(checked) if isinstance(checked, list) else checked

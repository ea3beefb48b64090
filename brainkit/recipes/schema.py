"""The schema of recipes: one YAML file each, under ``models/``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from brainkit.data.cards import Strict
from brainkit.errors import listed
from brainkit.recipes.places import FolderName, ModelName, SpaceSettings, StoreName

JOBS = ("encode", "decode", "synthesize", "rsa")
RECONSTRUCT = "reconstruct"  # the recipes of decode that name an embedding
LAYERS = "layers"  # the recipes of encode that name layers of a network
SCHEMAS = (*JOBS, RECONSTRUCT, LAYERS)

Seed = Annotated[int, Field(ge=0)]
# "nsd", the name of the definition in `brainkit.evaluation`, is another name of "ncsnr".
Ceiling = Annotated[
    Literal["auto", "ncsnr", "split-half", "cross-subject", "cross-subject-all"],
    BeforeValidator(lambda name: "ncsnr" if name == "nsd" else name),
]


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


class Shared(Strict):
    """What all protocols say of the data."""

    split: str
    zscore: str | None = "session"
    unseen: Literal["session-unlabelled"] | None = None
    average_repeats: bool | Literal["test"] = True
    resample: str = "auto"


class EncodeSettings(Shared):
    """See `brainkit.encoding.EncodingProtocol`."""

    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    ceiling: Ceiling | None = "auto"
    permutations: int = Field(default=200, ge=0)
    shuffles: int = Field(default=3, ge=1)
    n_train: int | None = Field(default=None, ge=2)
    pattern_scores: bool = False


class DecodeSettings(Shared):
    """See `brainkit.decoding.DecodingProtocol`."""

    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    back: Literal["inverse", "bank"] = "inverse"
    roi: str | None = None


class RankSettings(Shared):
    """See `brainkit.synthesis.RankingProtocol`."""

    n: int = Field(default=10, ge=1)
    bank: Literal["unseen", "test"] = "unseen"
    bank_size: int | None = Field(default=None, ge=2)
    against: str | None = None
    seed: Seed = 0


class ReconstructSettings(Strict):
    """See `brainkit.reconstruction.ReconstructionProtocol`."""

    split: str
    n_images: int = Field(default=50, ge=2)
    n_train: int | None = Field(default=None, ge=2)
    seed: Seed = 0
    zscore: str | None = "session"
    unseen: Literal["session-unlabelled"] | None = None
    average_repeats: Literal[True, "test"] = True
    roi: str | None = None
    strength: float = Field(default=0.8, ge=0, le=1)
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    noise_level: int = Field(default=0, ge=0)
    identify_among: int = Field(default=50, ge=2)
    retrieve_among: int = Field(default=300, ge=2)
    max_new_tokens: int | None = Field(default=None, ge=1)
    num_beams: int = Field(default=1, ge=1)
    resample: str = "auto"


class RSASettings(Strict):
    """See `brainkit.encoding.RSAProtocol`."""

    dissimilarity: Literal["correlation", "cosine", "euclidean", "squared-euclidean"] = (
        "correlation"
    )
    comparison: Literal[
        "spearman",
        "rho-a",
        "kendall-tau-a",
        "pearson",
        "cosine",
        "whitened-pearson",
        "whitened-cosine",
    ] = "spearman"
    bootstraps: int = Field(default=1000, ge=2)
    permutations: int = Field(default=1000, ge=1)
    seed: Seed = 0


class BaseRecipe(Strict):
    """What all recipes have."""

    name: str
    about: str
    features: list[FeatureSpec] = Field(min_length=1)
    components: int | None = Field(default=None, ge=1)
    model: ModelSpec


class EncodeRecipe(BaseRecipe):
    """Features → responses."""

    job: Literal["encode"]
    protocol: EncodeSettings


class LayersSettings(Shared):
    """See `brainkit.encoding.compare_spaces`."""

    n_train: int | None = Field(default=None, ge=2)
    seed: Seed = 0


class LayersRecipe(Strict):
    """Layers of a network, each → responses, compared by region."""

    name: str
    about: str
    job: Literal["encode"]
    network: ModelName = Field(description="As for brainkit.features.extract, without layers.")
    layers: list[str] = Field(min_length=1, description="From the earliest to the latest.")
    energy: bool = Field(default=True, description="Compare oriented energy too.")
    components: int = Field(default=1000, ge=1, description="Features of each layer.")
    model: ModelSpec
    protocol: LayersSettings


class DecodeRecipe(BaseRecipe):
    """Responses → features → images."""

    job: Literal["decode"]
    protocol: DecodeSettings


class GeneratorSpec(Strict):
    """A frozen generator; see `brainkit.generators.Generator.from_pretrained`."""

    name: FolderName = Field(description="tiny, a local folder or an id on the hub.")
    adapter: FolderName | None = None
    adapter_scale: float = Field(default=1.0, allow_inf_nan=False)
    device: str = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    latents: ModelSpec | None = Field(
        default=None,
        description="Decoder of the autoencoder's latents, from which drawing then starts.",
    )


class CaptionerSpec(Strict):
    """A frozen captioner; see `brainkit.generators.Captioner.from_pretrained`."""

    name: FolderName = Field(description="tiny, a local folder or an id on the hub.")
    device: str = "auto"


class ReconstructRecipe(Strict):
    """Responses → embeddings → images and sentences."""

    name: str
    about: str
    job: Literal["decode"]
    embedding: ModelName = Field(description="As for brainkit.features.extract.")
    model: ModelSpec
    generator: GeneratorSpec | None = None
    captioner: CaptionerSpec | None = None
    judges: dict[str, ModelName] = Field(
        default_factory=dict,
        description="Held-out networks that judge the images; names as for extract.",
    )
    store: StoreName | None = Field(default=None, description="Folder where embeddings are kept.")
    protocol: ReconstructSettings

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.generator is not None and not self.judges:
            raise ValueError("images that a generator makes need at least one held-out judge")
        return self


class SynthesizeRecipe(BaseRecipe):
    """Stimuli that should drive a region, and the judge of them."""

    job: Literal["synthesize"]
    judge_features: list[FeatureSpec] = Field(min_length=1)
    judge_model: ModelSpec
    protocol: RankSettings


class RSARecipe(Strict):
    """Layers of a model against dissimilarities of people."""

    name: str
    about: str
    job: Literal["rsa"]
    model: ModelName = Field(description="As for brainkit.features.extract, without layers.")
    layers: dict[str, str] = Field(
        default_factory=dict,
        description="The model's layers in order, by the names that the report gives them.",
    )
    tokens: Literal["all", "patch", "class"] = "all"
    pool: Literal["mean", "max", "class", "last", "flatten"] | None = "flatten"
    batch_size: int = Field(default=16, ge=1)
    protocol: RSASettings


Recipe = (
    EncodeRecipe | LayersRecipe | DecodeRecipe | ReconstructRecipe | SynthesizeRecipe | RSARecipe
)


def _schema(content: Any) -> str | None:
    """Return which schema a recipe follows: its job's, of which encode and decode have two."""
    if not isinstance(content, Mapping) or not isinstance(content.get("job"), str):
        return None
    if content["job"] == "decode" and "embedding" in content:
        return RECONSTRUCT
    if content["job"] == "encode" and "network" in content:
        return LAYERS
    return str(content["job"])


ADAPTER: TypeAdapter[Recipe] = TypeAdapter(
    Annotated[
        Annotated[EncodeRecipe, Tag("encode")]
        | Annotated[LayersRecipe, Tag(LAYERS)]
        | Annotated[DecodeRecipe, Tag("decode")]
        | Annotated[ReconstructRecipe, Tag(RECONSTRUCT)]
        | Annotated[SynthesizeRecipe, Tag("synthesize")]
        | Annotated[RSARecipe, Tag("rsa")],
        Discriminator(
            _schema,
            custom_error_type="unknown_job",
            custom_error_message=f"job must be one of {listed(JOBS)}",
        ),
    ]
)

# Names of all settings that a protocol has, as ``--set protocol.NAME=VALUE`` changes them.
PROTOCOL_SETTINGS = frozenset(
    name
    for settings in (
        EncodeSettings, LayersSettings, DecodeSettings, ReconstructSettings, RankSettings,
        RSASettings,
    )
    for name in settings.model_fields
)  # fmt: skip

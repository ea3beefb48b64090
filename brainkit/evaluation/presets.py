"""Frozen ways to score reconstructions, captions and retrieval, as published systems do.

A name such as *SSIM* or *AlexNet(2)* says little: the same images give .36 or .43 by how they are
resized, which library version computes, and which layer is meant. A `Preset` is data that says all
of it: sizes and filters, networks, weights and layers, the side that is fixed, how ties count, what
the gallery holds, and whether high or low is good. It never changes; its hash is in every entry of
``metrics.json`` and in manifests, and scores of two presets are never put side by side
(`brainkit.evaluation.preset_scores.comparison`).

Networks are functions that the caller gives: this room loads none.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.caption_scores import CAPTION_SETTINGS, CaptionMetric
from brainkit.evaluation.identification import (
    IDENTIFICATION_METRICS,
    IdentificationDirection,
    RetrievalDirection,
    Ties,
)
from brainkit.evaluation.image_scores import SSIM_SETTINGS, SsimVariant

if TYPE_CHECKING:
    from brainkit.evaluation.preset_scores import Network, PresetScores

Direction = Literal["higher", "lower"]

# -- what a preset is ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resize:
    """How images are brought to a square.

    Attributes
    ----------
    side : int
        Pixels; what is not square is squashed, and nothing is cut off.
    filter : {"bilinear", "bicubic"}
    antialias : bool
        Whether the filter widens where it makes images smaller. Tensors were resized without until
        torchvision 0.17, images of Pillow always with.
    pixels : {"float", "uint8"}
        Whether a tensor of numbers is resized, or an 8-bit image by Pillow, whose result is rounded
        to whole numbers.
    """

    side: int
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False
    pixels: Literal["float", "uint8"] = "float"

    def __post_init__(self) -> None:
        if self.pixels == "uint8" and not self.antialias:
            raise InputError("Pillow resizes with antialiasing alone: give antialias=True.")


@dataclass(frozen=True)
class Judge:
    """A network that looks at images, and where one listens to it.

    Attributes
    ----------
    network, weights : str
        Architecture and name of the weights, such as ``"alexnet"``, ``"IMAGENET1K_V1"``.
    layer : str
        Name of the submodule whose output is taken, flattened; empty for the network's own choice.
    resize : Resize
    mean, std : (float, float, float)
        What is taken from red, green and blue in [0, 1], and what they are divided by.
    """

    network: str
    weights: str
    layer: str
    resize: Resize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Network and layer, as they stand in the brackets of a metric's id."""
        return f"{self.network}_{self.layer}" if self.layer else self.network


@dataclass(frozen=True)
class ImageScore:
    """A score of reconstructions.

    Attributes
    ----------
    kind : {"pixel_correlation", "ssim", "identification", "correlation_distance"}
    column : str
        What published tables call it.
    better : {"higher", "lower"}
    resize : Resize, optional
        For scores of pixels.
    variant : str, optional
        Of SSIM, see `brainkit.evaluation.ssim`; of grey images in [0, 1].
    judge : Judge, optional
        For scores of features.
    direction : str, optional
        Of identification: the side that is fixed. Features are compared by Pearson correlation.
    ties : {"failure", "half"}
        What a tie counts in identification.
    """

    kind: Literal["pixel_correlation", "ssim", "identification", "correlation_distance"]
    column: str
    better: Direction = "higher"
    resize: Resize | None = None
    variant: SsimVariant | None = None
    judge: Judge | None = None
    direction: IdentificationDirection | None = None
    ties: Ties = "failure"

    @property
    def name(self) -> str:
        """The metric's id but for the preset."""
        name: str = self.kind
        if self.variant is not None:
            name = f"{name}_{self.variant}"
        if self.direction is not None:
            name = IDENTIFICATION_METRICS[self.direction]
        return name if self.judge is None else f"{name}[{self.judge.name}]"


@dataclass(frozen=True)
class RetrievalScore:
    """A score of retrieval.

    Attributes
    ----------
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what.
    gallery : {"test-images", "class-centroids"}
        What is searched: the images of the test part (for ``"brain_from_image"``, what the brain
        gave for them), or means over other images of the test classes.
    column : str
        What published tables call it, which need not be the direction that it has.
    top : int, optional
        A query succeeds where the right item is among so many; None for the median rank.
    drawn, draws : int, optional
        Items of each gallery that is drawn without replacement, and how many are drawn; the whole
        gallery is searched where not given.
    similarity : {"cosine", "pearson"}
    ties : {"failure"}
        What is as similar as the right item counts against it.
    """

    direction: RetrievalDirection
    gallery: Literal["test-images", "class-centroids"]
    column: str
    top: int | None = 1
    drawn: int | None = None
    draws: int | None = None
    similarity: Literal["cosine", "pearson"] = "cosine"
    ties: Literal["failure"] = "failure"

    @property
    def name(self) -> str:
        """The metric's id but for the preset."""
        what = "median_rank" if self.top is None else f"top{self.top}"
        return f"retrieval_{self.direction}_{what}[{self.gallery}]"

    @property
    def better(self) -> Direction:
        """Whether higher or lower values are better."""
        return "lower" if self.top is None else "higher"


@dataclass(frozen=True)
class CaptionScore:
    """A score of captions, by its name in `brainkit.evaluation.CAPTION_METRICS`."""

    name: CaptionMetric
    column: str
    better: Direction = "higher"


@dataclass(frozen=True)
class Preset:
    """A frozen way to score; see the module.

    Attributes
    ----------
    id : str
        Name of the preset, with which the ids of its metrics begin.
    source : str
        The publication or code that it follows, and where it departs from it.
    n_test : int, optional
        Number of test images that it is defined on; any where not given.
    first_resize : Resize, optional
        What both sides are brought to before anything else.
    images : tuple of ImageScore
    retrieval : tuple of RetrievalScore
    captions : tuple of CaptionScore
    """

    id: str
    source: str
    n_test: int | None = None
    first_resize: Resize | None = None
    images: tuple[ImageScore, ...] = ()
    retrieval: tuple[RetrievalScore, ...] = ()
    captions: tuple[CaptionScore, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of all but `source`, with what the scores' names mean."""
        content = asdict(self) | {"ssim": SSIM_SETTINGS, "text": CAPTION_SETTINGS}
        del content["source"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Id and the beginning of the hash, as ``metrics.json`` and manifests state it."""
        return f"{self.id}@{self.hash[:12]}"

    @property
    def metrics(self) -> dict[str, ImageScore | RetrievalScore | CaptionScore]:
        """What it scores, by metric id."""
        every: list[ImageScore | RetrievalScore | CaptionScore]
        every = [*self.images, *self.retrieval, *self.captions]
        return {f"{self.id}_{one.name}": one for one in every}

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks that its scores of images need."""
        judges = (one.judge for one in self.images if one.judge is not None)
        return tuple(dict.fromkeys(judge.network for judge in judges))

    def score(
        self,
        images: ArrayLike,
        reconstructions: ArrayLike,
        networks: "Mapping[str, Network] | None" = None,
        **options: Any,
    ) -> "PresetScores":
        """Score reconstructions; see `brainkit.evaluation.preset_scores.score_images`."""
        from brainkit.evaluation.preset_scores import score_images

        return score_images(self, images, reconstructions, networks, **options)

    def score_retrieval(
        self, brain: ArrayLike, gallery: ArrayLike, gallery_name: str, **options: Any
    ) -> "PresetScores":
        """Score retrieval; see `brainkit.evaluation.preset_scores.score_retrieval`."""
        from brainkit.evaluation.preset_scores import score_retrieval

        return score_retrieval(self, brain, gallery, gallery_name, **options)

    def score_captions(
        self,
        captions: Mapping[str, str | None],
        references: Mapping[str, Sequence[str]],
        **options: Any,
    ) -> "PresetScores":
        """Score captions; see `brainkit.evaluation.preset_scores.score_all_captions`."""
        from brainkit.evaluation.preset_scores import score_all_captions

        return score_all_captions(self, captions, references, **options)

    def offers(self) -> str:
        """Say what it scores."""
        parts = {"images": self.images, "retrieval": self.retrieval, "captions": self.captions}
        return f"it scores {listed([name for name, scores in parts.items() if scores])}"

    def check_number(self, n: int, any_number: bool) -> None:
        """Refuse another number of test images than the preset is defined on."""
        if self.n_test is not None and n != self.n_test and not any_number:
            raise InputError(
                f"The preset {self.id} is defined on {self.n_test} test images; {n} were given. "
                "any_number=True scores them all the same, but such scores do not compare with "
                "published ones."
            )


# -- the presets -----------------------------------------------------------------------------------

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def _identified(column: str, judge: Judge) -> ImageScore:
    return ImageScore("identification", column, judge=judge, direction="image_given_reconstruction")


def _distance(column: str, judge: Judge) -> ImageScore:
    return ImageScore("correlation_distance", column, "lower", judge=judge)


def _pixels(variant: SsimVariant, resize: Resize) -> tuple[ImageScore, ...]:
    return (
        ImageScore("pixel_correlation", "PixCorr", resize=resize),
        ImageScore("ssim", "SSIM", resize=resize, variant=variant),
    )


def _judged(resize: Callable[[int], Resize], efficientnet: str) -> tuple[ImageScore, ...]:
    """Return the six scores of features; `resize` is given the size of the MedARC protocol."""

    def judge(network: str, weights: str, layer: str, side: int) -> Judge:
        scale = OPENAI if network == "clip_vit_l_14" else IMAGENET
        return Judge(network, weights, layer, resize(side), *scale)

    # The second and fifth convolutions, each after its ReLU; features.2 is the first pooling.
    return (
        _identified("AlexNet(2)", judge("alexnet", "IMAGENET1K_V1", "features.4", 256)),
        _identified("AlexNet(5)", judge("alexnet", "IMAGENET1K_V1", "features.11", 256)),
        _identified("Inception", judge("inception_v3", "IMAGENET1K_V1", "avgpool", 342)),
        _identified("CLIP", judge("clip_vit_l_14", "openai", "embedding", 224)),
        _distance("EffNet-B", judge("efficientnet_b1", efficientnet, "avgpool", 255)),
        _distance("SwAV", judge("swav_resnet50", "swav_800ep", "avgpool", 224)),
    )


def _drawn() -> tuple[RetrievalScore, ...]:
    """Return top-1 among 300 in both directions, under the columns that tables print them in.

    The published code looks for the brain of a given image where tables say *Image*, and the other
    way about.
    """
    return (
        RetrievalScore("image_from_brain", "test-images", "Brain", drawn=300, draws=30),
        RetrievalScore("brain_from_image", "test-images", "Image", drawn=300, draws=30),
    )


_MEDARC = (*_pixels("gaussian-2d", Resize(425)), *_judged(Resize, "IMAGENET1K_V2"))
_TINY = Resize(64, "bicubic", antialias=True, pixels="uint8")

_ALL = (
    Preset(
        "mindeye2",
        "Scotti et al. (2024), final_evaluations of MindEyeV2: 1,000 test images of 40 sessions.",
        n_test=1000,
        first_resize=Resize(256),
        images=_MEDARC,
        retrieval=_drawn(),
    ),
    Preset(
        "mindeye1",
        "Scotti et al. (2023), Reconstruction_Metrics of MindEye: 982 test images of 37 sessions. "
        "Galleries of 300 are drawn without replacement; the published ones were batches of a "
        "resampled file, in which an image may come twice.",
        n_test=982,
        first_resize=Resize(256),
        images=_MEDARC,
        retrieval=_drawn(),
    ),
    Preset(
        "braindiffuser",
        "Ozcelik and VanRullen (2023), eval_extract_features and evaluate_reconstruction of "
        "brain-diffuser, with scikit-image 0.17: SSIM along columns, all networks at 224 pixels, "
        "EfficientNet-B1's first weights.",
        n_test=982,
        images=(
            *_pixels("gaussian-columns", Resize(425, "bicubic", True, "uint8")),
            *_judged(lambda _: Resize(224, "bilinear", True, "uint8"), "IMAGENET1K_V1"),
        ),
    ),
    Preset(
        "brainhub",
        "Xia et al. (2024), BrainHub: captions of 982 test images against COCO's. METEOR is not "
        "its METEOR 1.5, which is a program in Java, and has another name.",
        n_test=982,
        captions=(
            CaptionScore("bleu_1", "BLEU-1"),
            CaptionScore("bleu_2", "BLEU-2"),
            CaptionScore("bleu_3", "BLEU-3"),
            CaptionScore("bleu_4", "BLEU-4"),
            CaptionScore("meteor_exact_stem", "METEOR (exact, stem)"),
            CaptionScore("rouge_l", "ROUGE-L"),
            CaptionScore("cider_d", "CIDEr"),
        ),
    ),
    Preset(
        "things_eeg2",
        "Gifford et al. (2022): 200 test images of 200 classes. Song et al. (2024) search the "
        "centroids of other images of the classes, Li et al. (2024) the test images themselves.",
        n_test=200,
        retrieval=tuple(
            RetrievalScore("image_from_brain", gallery, column, top)
            for gallery in ("test-images", "class-centroids")
            for top, column in ((1, "top-1"), (5, "top-5"), (None, "median rank"))
        ),
    ),
    Preset(
        "low_level",
        "PixCorr and SSIM as in mindeye2, of any number of images; needs no network.",
        first_resize=Resize(256),
        images=_pixels("gaussian-2d", Resize(425)),
    ),
    Preset(
        "tiny",
        "Pixels at 64 × 64, and the judges that come with brainkit; for the simulated world.",
        images=(
            *_pixels("gaussian-2d", _TINY),
            *(
                score(column, Judge(name, "tiny", "", _TINY, *_HALF))
                for name, column in (("judge-a", "judge A"), ("judge-b", "judge B"))
                for score in (_identified, _distance)
            ),
        ),
    ),
)
PRESETS: dict[str, Preset] = {preset.id: preset for preset in _ALL}


def get_preset(name: str) -> Preset:
    """Return a preset by its id.

    Raises
    ------
    UnknownNameError
        If there is none of that id.
    """
    if name not in PRESETS:
        raise unknown_name("metric preset", name, list(PRESETS))
    return PRESETS[name]

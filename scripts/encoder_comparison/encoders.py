"""The encoders that are compared: each from a subject and a number of images to predictions.

Routing reads the class token beside the patches and averages three trainings, so its rivals do so
too in rows of their own (`LIKE_ROUTING`): what is left of a lead there is not due to tokens or
averaging. Each of its own parts has a row as well: one training, patches alone, and a static twin.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_comparison.world import LAYER, N_TRAIN, Subject

Float = NDArray[np.float32]
Encoder = Callable[[Subject, int], tuple[Float, Any]]
POOLED = "pooled"
EARLY = "blocks.0"  # an early layer, whose tokens know best where things are
BANDS = ("energy", "blocks.0", "blocks.2", "embedding")
ALPHAS = np.logspace(-2, 3, 11)  # for feature spaces with a total training variance of 1
COMPONENTS = 500  # principal components of a band
N_SEEDS = 3  # trainings that the ensemble of routing averages
SUPPORT = (20, 400)  # numbers of images that the in-context encoder is asked to read


def scaled(subject: Subject, name: str, n: int) -> tuple[Float, Float]:
    """Return a flattened space, centred, of total variance 1 over the training images.

    ``pooled`` is the mean of the layer's patches.
    """
    values = np.asarray(subject.features[LAYER if name == POOLED else name], dtype=np.float32)
    flat = values.mean(axis=1) if name == POOLED else values.reshape(len(values), -1)
    train, test = flat[:n], flat[N_TRAIN:]
    mean = train.mean(axis=0)
    spread = np.sqrt(((train - mean) ** 2).sum() / n)
    return (train - mean) / spread, (test - mean) / spread


def components(train: Float, test: Float) -> tuple[Float, Float]:
    """Return the first principal components of the training images, where they are fewer."""
    from sklearn.decomposition import PCA

    if min(train.shape) <= COMPONENTS:
        return train, test
    pca = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(train)
    return pca.transform(train), pca.transform(test)


def ridge(*names: str) -> Encoder:
    """Return voxelwise ridge on one space, or on several side by side."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding import VoxelwiseRidge

        spaces = [scaled(subject, name, n) for name in names]
        train, test = (np.concatenate([s[side] for s in spaces], axis=1) for side in (0, 1))
        model = VoxelwiseRidge(alphas=ALPHAS * n, cv=5).fit(train, subject.train[:n])
        return model.predict(test), model

    return fit


def banded(*names: str) -> Encoder:
    """Return banded ridge over the principal components of several spaces."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding.banded import BandedRidge

        spaces = [components(*scaled(subject, name, n)) for name in names]
        train, test = (np.concatenate([s[side] for s in spaces], axis=1) for side in (0, 1))
        model = BandedRidge(bands=[s[0].shape[1] for s in spaces], alphas=ALPHAS * n, draws=20)
        model.fit(train, subject.train[:n])
        return model.predict(test), model

    return fit


def tokens(kind: str, layer: str = LAYER, **settings: Any) -> Encoder:
    """Return an encoder of one layer's patches."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding import readouts, routing

        values = subject.features[layer]
        given = dict(settings)
        if kind == "RoutingEncoder":
            given["regions"] = subject.units["roi"].tolist()
        part = getattr(routing if kind == "RoutingEncoder" else readouts, kind)
        model = part(progress=False, **given).fit(values[:n], subject.train[:n])
        return model.predict(values[N_TRAIN:]), model

    return fit


def routing(n_seeds: int = N_SEEDS, **settings: Any) -> Encoder:
    """Return routing over the class token beside the patches, trainings averaged."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding.routing import RoutingEncoder

        values = whole_tokens(subject)
        given = {"global_tokens": 1, "n_seeds": n_seeds, "progress": False, **settings}
        model = RoutingEncoder(subject.units["roi"].tolist(), **given)
        model.fit(values[:n], subject.train[:n])
        return model.predict(values[N_TRAIN:]), model

    return fit


def as_routing(kind: str, n_seeds: int = N_SEEDS) -> Encoder:
    """Return a readout that reads the class token too, trainings averaged, as routing does."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding import readouts

        values = patches_and_class(subject)
        part = getattr(readouts, kind)
        models = [
            part(seed=seed, progress=False).fit(values[:n], subject.train[:n])
            for seed in range(n_seeds)
        ]
        predicted = np.mean([model.predict(values[N_TRAIN:]) for model in models], axis=0)
        return predicted, models[0]

    return fit


def patches_and_class(subject: Subject) -> Float:
    """Return each patch's features with the class token's beside them, (image, patch, 2 feature).

    A readout's field sums to 1 over the patches, so that the class token's features, which are the
    same at all of them, go through it as they are.
    """
    patches = np.asarray(subject.features[LAYER])
    beside = np.asarray(subject.features["class"])[:, None].repeat(patches.shape[1], axis=1)
    return np.concatenate([patches, beside], axis=2)


def whole_tokens(subject: Subject) -> Float:
    """Return the layer's class token and patches, (image, 1 + patch, feature)."""
    first = np.asarray(subject.features["class"])[:, None]
    return np.concatenate([first, subject.features[LAYER]], axis=1)


def in_context(checkpoint: str = "tiny") -> Encoder:
    """Return the in-context encoder with a network: it reads the n images as its support."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding.in_context import InContextEncoder

        values = np.asarray(subject.features["embedding"])
        model = InContextEncoder(checkpoint).fit(values[:n], subject.train[:n])
        return model.predict(values[N_TRAIN:]), model

    return fit


ENCODERS: dict[str, Encoder] = {
    "ridge, oriented energy": ridge("energy"),
    "ridge, tokens": ridge(LAYER),
    "ridge, embedding": ridge("embedding"),
    "ridge, class and pooled patches": ridge("class", POOLED),
    "ridge, class and all patches": ridge("class", LAYER),
    "banded ridge": banded(*BANDS),
    "banded ridge, class and patches": banded("class", POOLED, LAYER),
    "feature-weighted RF": tokens("FeatureWeightedRF"),
    "feature-weighted RF, early": tokens("FeatureWeightedRF", EARLY, n_positions=15),
    "linear readout": tokens("LinearReadout"),
    "Gaussian readout": tokens("GaussianReadout"),
    "Gaussian readout, early": tokens("GaussianReadout", EARLY),
    "factorized readout": tokens("FactorizedReadout"),
    "semantic readout": tokens("SemanticReadout"),
    "routing, patches": tokens("RoutingEncoder"),
    "routing, static twin": tokens("RoutingEncoder", content=False),
    "linear readout, as routing": as_routing("LinearReadout"),
    "Gaussian readout, as routing": as_routing("GaussianReadout"),
    "factorized readout, as routing": as_routing("FactorizedReadout"),
    "semantic readout, as routing": as_routing("SemanticReadout"),
    "routing, static twin, as routing": routing(content=False),
    "routing, one training": routing(1),
    "routing": routing(),
    "in-context": in_context(),
    "in-context, published form": in_context("tiny-published"),
}
# Rivals that read the same tokens, and where they are trained, as often.
LIKE_ROUTING = (
    "ridge, class and pooled patches", "ridge, class and all patches",
    "banded ridge, class and patches", "linear readout, as routing",
    "Gaussian readout, as routing", "factorized readout, as routing",
    "semantic readout, as routing", "routing, static twin, as routing",
)  # fmt: skip


def add_network(name: str, checkpoint: str) -> str:
    """Add a row for another in-context network, and return its name.

    Such as one that learned from people of another version of the simulated brain
    (``train_in_context.py --brain``), so that simulator and person are not the same.
    """
    row = f"in-context, {name}"
    ENCODERS[row] = in_context(checkpoint)
    return row


def applies(name: str, n: int) -> bool:
    """Tell whether an encoder is asked for this number of training images."""
    return not name.startswith("in-context") or SUPPORT[0] <= n <= SUPPORT[1]

"""The encoders that are compared: each from a subject and a number of images to predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_comparison.world import LAYER, N_TRAIN, Subject

Float = NDArray[np.float32]
EARLY = "blocks.0"  # an early layer, whose tokens know best where things are
BANDS = ("energy", "blocks.0", "blocks.2", "embedding")
ALPHAS = np.logspace(-2, 3, 11)  # for feature spaces with a total training variance of 1
COMPONENTS = 500  # principal components of a band
N_SEEDS = 3  # trainings that the ensemble of routing averages
SUPPORT = (20, 400)  # numbers of images that the in-context encoder is asked to read


def scaled(subject: Subject, name: str, n: int) -> tuple[Float, Float]:
    """Return a flattened space, centred, of total variance 1 over the training images."""
    values = np.asarray(subject.features[name], dtype=np.float32)
    flat = values.reshape(len(values), -1)
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


def ridge(name: str) -> Callable[[Subject, int], tuple[Float, Any]]:
    """Return voxelwise ridge on one space."""

    def fit(subject: Subject, n: int) -> tuple[Float, Any]:
        from brainkit.encoding import VoxelwiseRidge

        train, test = scaled(subject, name, n)
        model = VoxelwiseRidge(alphas=ALPHAS * n, cv=5).fit(train, subject.train[:n])
        return model.predict(test), model

    return fit


def banded(subject: Subject, n: int) -> tuple[Float, Any]:
    """Banded ridge over components of oriented energy, two layers and the embedding."""
    from brainkit.encoding.banded import BandedRidge

    spaces = [components(*scaled(subject, name, n)) for name in BANDS]
    train, test = (np.concatenate([s[side] for s in spaces], axis=1) for side in (0, 1))
    model = BandedRidge(bands=[s[0].shape[1] for s in spaces], alphas=ALPHAS * n, draws=20)
    model.fit(train, subject.train[:n])
    return model.predict(test), model


def tokens(
    kind: str, layer: str = LAYER, **settings: Any
) -> Callable[[Subject, int], tuple[Float, Any]]:
    """Return an encoder of one layer's tokens."""

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


def routing(subject: Subject, n: int) -> tuple[Float, Any]:
    """Routing over the class token beside the patches, several trainings averaged."""
    from brainkit.encoding.routing import RoutingEncoder

    values = whole_tokens(subject)
    regions = subject.units["roi"].tolist()
    model = RoutingEncoder(regions, global_tokens=1, n_seeds=N_SEEDS, progress=False)
    model.fit(values[:n], subject.train[:n])
    return model.predict(values[N_TRAIN:]), model


def whole_tokens(subject: Subject) -> Float:
    """Return the layer's class token and patches, (image, 1 + patch, feature)."""
    first = np.asarray(subject.features["class"])[:, None]
    return np.concatenate([first, subject.features[LAYER]], axis=1)


def in_context(subject: Subject, n: int) -> tuple[Float, Any]:
    """Read the n images as the support of the shipped in-context encoder."""
    from brainkit.encoding.in_context import InContextEncoder

    values = np.asarray(subject.features["embedding"])
    model = InContextEncoder("tiny").fit(values[:n], subject.train[:n])
    return model.predict(values[N_TRAIN:]), model


ENCODERS: dict[str, Callable[[Subject, int], tuple[Float, Any]]] = {
    "ridge, oriented energy": ridge("energy"),
    "ridge, tokens": ridge(LAYER),
    "ridge, embedding": ridge("embedding"),
    "banded ridge": banded,
    "feature-weighted RF": tokens("FeatureWeightedRF"),
    "feature-weighted RF, early": tokens("FeatureWeightedRF", EARLY, n_positions=15),
    "linear readout": tokens("LinearReadout"),
    "Gaussian readout": tokens("GaussianReadout"),
    "Gaussian readout, early": tokens("GaussianReadout", EARLY),
    "factorized readout": tokens("FactorizedReadout"),
    "semantic readout": tokens("SemanticReadout"),
    "routing, patches": tokens("RoutingEncoder"),
    "routing, static twin": tokens("RoutingEncoder", content=False),
    "routing": routing,
    "in-context": in_context,
}


def applies(name: str, n: int) -> bool:
    """Tell whether an encoder is asked for this number of training images."""
    return name != "in-context" or SUPPORT[0] <= n <= SUPPORT[1]

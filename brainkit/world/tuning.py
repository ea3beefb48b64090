"""What the tuning of simulated voxels has in common in every version of the brain."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.world.anatomy import REGIONS
from brainkit.world.painting import CATEGORIES
from brainkit.world.scenes import Content

FloatArray = npt.NDArray[np.float64]
Rows = tuple[npt.NDArray[Any], ...]
Voxels = npt.NDArray[np.intp] | slice

PREFERENCES: Final = {
    "floc-faces": "face",
    "floc-bodies": "body",
    "floc-places": "place",
    "floc-words": "word",
    "floc-food": "food",
}


class Senses(Protocol):
    """What reaches the brains of a population: the part of a version that all people share.

    Attributes
    ----------
    reference_common : float64 array (4000, n_common)
        The common channels of the reference set, standardised.
    """

    reference_common: FloatArray

    def sense(self, images: npt.NDArray[np.uint8], content: Content) -> Any:
        """Give what is known of a batch of scenes; the other methods take it as evidence."""

    def common(self, evidence: Any) -> FloatArray:
        """Give the common channels, (n_scenes, n_common)."""

    def draw_private(self, rng: np.random.Generator) -> Any:
        """Draw what one subject alone senses."""

    def private(self, private: Any, evidence: Any) -> FloatArray:
        """Give a subject's private channels before others' are taken out, (n_scenes, n_private)."""

    def reference_private(self, private: Any) -> FloatArray:
        """Give the same over the reference set, (4000, n_private)."""


class Tuning(Protocol):
    """What the voxels of one subject are tuned to."""

    @property
    def truth(self) -> pd.DataFrame:
        """One row a voxel, see `SimulatedBrain`."""

    @property
    def reference(self) -> Rows:
        """The rows of the reference set."""

    def rows(self, evidence: Any, common: FloatArray, private: FloatArray) -> Rows:
        """Keep what the drives need of a batch of scenes: arrays with a row a scene."""

    def shared_drive(self, rows: Rows, voxels: Voxels) -> FloatArray:
        """Give the drive that all subjects' tuning makes, unit variance over the reference set."""

    def own_drive(self, rows: Rows, voxels: Voxels) -> FloatArray:
        """Give the drive that the subject alone has, unit variance over the reference set."""


@dataclass(frozen=True, slots=True)
class Components:
    """Leading principal components of standardised channels, scaled to unit variance.

    Attributes
    ----------
    mean, sd : float array (n_channels,)
    project : float array (n_channels, n_components)
        Takes standardised channels to components.
    lift : float array (n_components, n_channels)
        Takes weights on standardised channels to weights on components.
    variance : float
        Fraction of the channels' variance that the components hold.
    """

    mean: FloatArray
    sd: FloatArray
    project: FloatArray
    lift: FloatArray
    variance: float

    @classmethod
    def fit(cls, channels: FloatArray, n_components: int) -> "Components":
        """Find the components of channels (n_scenes, n_channels)."""
        mean, sd = channels.mean(axis=0), channels.std(axis=0)
        scaled = (channels - mean) / sd
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        top, basis = values[::-1][:n_components], vectors[:, ::-1][:, :n_components]
        # An eigenvector's sign is arbitrary; its largest entry is made positive.
        basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(n_components)])
        share = float(top.sum() / values.sum())
        return cls(mean, sd, basis / np.sqrt(top), (basis * np.sqrt(top)).T, share)

    def transform(self, channels: npt.NDArray[np.floating]) -> FloatArray:
        """Give the components of channels."""
        return np.asarray(((channels - self.mean) / self.sd) @ self.project)


def gaussian_windows(
    centres: npt.ArrayLike, width: float, n_pixels: int
) -> npt.NDArray[np.float32]:
    """Give Gaussian windows along one axis of the image, each summing to one.

    Parameters
    ----------
    centres : array_like (n_windows,)
        Centres as fractions of the side.
    width : float
        Standard deviation as a fraction of the side.
    n_pixels : int
        Number of samples along the side.

    Returns
    -------
    windows : float32 array (n_windows, n_pixels)
    """
    places = (np.arange(n_pixels) + 0.5) / n_pixels
    distance = (places - np.asarray(centres, dtype=float)[:, None]) / width
    windows = np.exp(-0.5 * distance**2)
    return np.asarray(windows / windows.sum(axis=1, keepdims=True), dtype=np.float32)


def voxel_kinds(units: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Name each voxel's kind: ``early``, ``category``, ``mixed`` (unlabelled) or ``silent``."""
    files = units["roi"].map({name: region.file for name, region in REGIONS.items()})
    kinds = np.where(units["nsdgeneral"] == 1, "mixed", "silent")
    kinds = np.where(files == "prf-visualrois", "early", kinds)
    return np.where(files.isin(list(PREFERENCES)), "category", kinds).astype(np.str_)


def shares(kind: pd.Series) -> tuple[FloatArray, FloatArray]:
    """Give how much of each voxel's variance is early vision's, and how much content's."""
    early = kind.map({"early": 1.0, "mixed": 0.5}).fillna(0.0)
    content = kind.map({"category": 1.0, "mixed": 0.5}).fillna(0.0)
    return np.asarray(early, dtype=np.float64), np.asarray(content, dtype=np.float64)


def draw_places(
    units: pd.DataFrame, kind: npt.NDArray[np.str_], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw where voxels look.

    The right hemisphere sees the left half of the picture, ventral V1-V3 its upper part.
    Eccentricities are uniform, up to .47 of the side in early regions and .32 elsewhere.

    Returns
    -------
    eccentricity, x, y : float arrays (n_voxels,)
        Fractions of the side, from the centre and from the top left.
    """
    n = len(units)
    side = np.where(units["hemisphere"] == "rh", -1.0, 1.0)
    angle = np.pi * (rng.random(n) - 0.5)
    angle = np.where(units["roi"].isin(["V1v", "V2v", "V3v"]), np.abs(angle), angle)
    angle = np.where(units["roi"].isin(["V1d", "V2d", "V3d"]), -np.abs(angle), angle)
    reach = np.where(kind == "early", 0.45, 0.30)
    eccentricity = 0.02 + reach * rng.random(n)
    x = 0.5 + side * eccentricity * np.cos(angle)
    y = 0.5 - eccentricity * np.sin(angle)
    return np.asarray(eccentricity), np.asarray(x), np.asarray(y)


def draw_preferences(
    units: pd.DataFrame, kind: npt.NDArray[np.str_], rng: np.random.Generator
) -> FloatArray:
    """Draw weights on the categories, (n_voxels, 5): about 1 for a region's own, else .15 |ε|.

    Unlabelled voxels have .9 |ε| for all, early and silent ones none.
    """
    weights = 0.15 * np.abs(rng.standard_normal((len(units), len(CATEGORIES))))
    weights[kind == "mixed"] *= 6
    for name, region in REGIONS.items():
        if region.file in PREFERENCES:
            preferred = CATEGORIES.index(PREFERENCES[region.file])
            rows = np.flatnonzero(units["roi"] == name)
            weights[rows, preferred] = np.exp(0.2 * rng.standard_normal(len(rows)))
    weights[np.isin(kind, ["early", "silent"])] = 0
    return weights


def own_weights(
    truth: pd.DataFrame,
    layout: tuple[FloatArray, FloatArray],
    residual_sd: FloatArray,
    reach: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Weigh a subject's private channels: those of sight by pRF, those of content at random.

    Parameters
    ----------
    truth : DataFrame
        ``kind`` and the pRF of each voxel.
    layout : pair of float arrays (n_sights,)
        x and y of the windows of the private channels of sight, which come first, six places to a
        kind of filter.
    residual_sd : float array (n_private,)
        Standard deviation of each channel before it was scaled to one.
    reach : float
        Added in quadrature to the pRF's size.
    rng : numpy.random.Generator

    Returns
    -------
    sights, contents : float arrays (n_private, n_voxels)
    """
    x, y = layout
    prf = truth[["prf_x", "prf_y", "prf_size"]].fillna(1).to_numpy().T[:, :, None]
    width = np.hypot(prf[2], reach)
    place = np.exp(-0.5 * ((x - prf[0]) ** 2 + (y - prf[1]) ** 2) / width**2)
    n_filters = len(x) // 6
    liking = np.repeat(np.exp(0.7 * rng.standard_normal((len(truth), n_filters))), 6, axis=1)
    sights = np.zeros((len(residual_sd), len(truth)))
    sights[: len(x)] = (place * liking * residual_sd[: len(x)]).T
    contents = np.zeros_like(sights)
    random = rng.standard_normal((len(residual_sd) - len(x), len(truth)))
    contents[len(x) :] = random * residual_sd[len(x) :, None]
    sights[:, truth["kind"].isin(["silent", "category"]).to_numpy()] = 0
    contents[:, truth["kind"].isin(["silent", "early"]).to_numpy()] = 0
    return sights, contents


def unit_variance(weights: FloatArray, channels: FloatArray) -> FloatArray:
    """Scale weights so that their drive has unit variance over the reference set."""
    centred = channels - channels.mean(axis=0)
    covariance = centred.T @ centred / len(channels)
    variance = np.einsum("cv,cv->v", weights, covariance @ weights)
    sd = np.sqrt(np.maximum(variance, 0))
    return np.asarray(np.divide(weights, sd, out=np.zeros_like(weights), where=sd > 1e-12))

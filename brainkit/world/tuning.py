"""What each voxel of a simulated brain is tuned to, as weights on the population's channels."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.world import category, early
from brainkit.world.anatomy import REGIONS
from brainkit.world.objects import CATEGORIES
from brainkit.world.population import N_CONTENT, N_ENERGY, N_SURFACE, Population

FloatArray = npt.NDArray[np.float64]

PRF_SIZE: Final = {"V1": 0.05, "V2": 0.07, "V3": 0.095, "hV4": 0.15}
PRF_SLOPE: Final = 0.12
PREFERRED_FREQUENCY: Final = {"V1": 10.0, "V2": 8.0, "V3": 6.5, "hV4": 5.0}
ORIENTATION_SHARPNESS: Final = 1.5
FREQUENCY_WIDTH: Final = 0.7
PRIVATE_REACH: Final = 0.12
SURFACE_SHARE: Final = {"hV4": 0.4}
_PREFERENCES: Final = {
    "floc-faces": "face",
    "floc-bodies": "body",
    "floc-places": "place",
    "floc-words": "word",
    "floc-food": "food",
}
_TUNING_KEY: Final = 606


@dataclass(frozen=True, slots=True)
class Tuning:
    """One subject's tuning.

    Attributes
    ----------
    truth : DataFrame
        One row a voxel; see `SimulatedBrain`.
    shared : float array (86, n_voxels)
        Weights of the shared drive on the common channels; unit variance over the reference set.
    own : float array (34, n_voxels)
        Weights of the own drive on the private channels; likewise.
    """

    truth: pd.DataFrame
    shared: FloatArray
    own: FloatArray


def voxel_kinds(units: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Name each voxel's kind: ``early``, ``category``, ``mixed`` (unlabelled) or ``silent``."""
    files = units["roi"].map({name: region.file for name, region in REGIONS.items()})
    kinds = np.where(units["nsdgeneral"] == 1, "mixed", "silent")
    kinds = np.where(files == "prf-visualrois", "early", kinds)
    return np.where(files.isin(list(_PREFERENCES)), "category", kinds).astype(np.str_)


def draw_tuning(units: pd.DataFrame, population: Population, subject: int) -> Tuning:
    """Draw the tuning of a subject's voxels.

    Parameters
    ----------
    units : DataFrame
        The subject's voxels (`Anatomy.units`).
    population : Population
    subject : int
        1..8.
    """
    rng = np.random.default_rng([population.seed, _TUNING_KEY, subject])
    truth = _draw_truth(units, population.gate, rng)
    early_share = truth["kind"].map({"early": 1.0, "mixed": 0.5}).fillna(0.0).to_numpy()
    content_share = truth["kind"].map({"category": 1.0, "mixed": 0.5}).fillna(0.0).to_numpy()
    surface_share = truth["surface_share"].to_numpy()
    common, private = population.reference_common, population.reference_private(subject)
    energy, surface = _early_weights(truth, population, rng)
    content = _content_weights(truth, population)
    picture = np.sqrt(1 - surface_share) * _unit(energy, common) + np.sqrt(surface_share) * _unit(
        surface, common
    )
    shared = np.sqrt(early_share) * _unit(picture, common)
    shared += np.sqrt(content_share) * _unit(content, common)
    local, functions = _own_weights(truth, population, subject, rng)
    own = np.sqrt(early_share) * _unit(local, private)
    own += np.sqrt(content_share) * _unit(functions, private)
    return Tuning(truth, _unit(shared, common), _unit(own, private))


def _unit(weights: FloatArray, channels: FloatArray) -> FloatArray:
    """Scale weights so that their drive has unit variance over the reference set."""
    centred = channels - channels.mean(axis=0)
    covariance = centred.T @ centred / len(channels)
    variance = np.einsum("cv,cv->v", weights, covariance @ weights)
    sd = np.sqrt(np.maximum(variance, 0))
    return np.asarray(np.divide(weights, sd, out=np.zeros_like(weights), where=sd > 1e-12))


def _draw_truth(units: pd.DataFrame, gate: bool, rng: np.random.Generator) -> pd.DataFrame:
    n = len(units)
    kind = voxel_kinds(units)
    area = units["roi"].str.rstrip("vd").to_numpy()
    # The right hemisphere sees the left half of the picture; ventral V1-V3 see its upper part.
    side = np.where(units["hemisphere"] == "rh", -1.0, 1.0)
    angle = np.pi * (rng.random(n) - 0.5)
    angle = np.where(units["roi"].isin(["V1v", "V2v", "V3v"]), np.abs(angle), angle)
    angle = np.where(units["roi"].isin(["V1d", "V2d", "V3d"]), -np.abs(angle), angle)
    reach = np.where(kind == "early", 0.45, 0.30)
    eccentricity = 0.02 + reach * rng.random(n)
    base = pd.Series(area).map(PRF_SIZE).fillna(0.22).to_numpy()
    size = (base + PRF_SLOPE * eccentricity) * np.exp(0.1 * rng.standard_normal(n))
    favourite = pd.Series(area).map(PREFERRED_FREQUENCY).fillna(6.0).to_numpy()
    truth = pd.DataFrame({"roi": units["roi"].to_numpy(), "kind": kind})
    truth["prf_x"] = 0.5 + side * eccentricity * np.cos(angle)
    truth["prf_y"] = 0.5 - eccentricity * np.sin(angle)
    truth["prf_size"] = size
    truth["orientation"] = np.pi * rng.random(n)
    truth["frequency"] = favourite * np.exp(0.3 * rng.standard_normal(n))
    surface = pd.Series(area).map(SURFACE_SHARE).fillna(0.3).to_numpy()
    truth["surface_share"] = np.where(np.isin(kind, ["early", "mixed"]), surface, 0.0)
    strength = 0.55 + 0.35 * rng.random(n)
    truth["gate"] = np.where(kind == "category", strength if gate else 0.0, 0.0)
    weights = 0.15 * np.abs(rng.standard_normal((n, len(CATEGORIES))))
    weights[kind == "mixed"] *= 6
    for name, region in REGIONS.items():
        if region.file in _PREFERENCES:
            preferred = CATEGORIES.index(_PREFERENCES[region.file])
            rows = np.flatnonzero(units["roi"] == name)
            weights[rows, preferred] = np.exp(0.2 * rng.standard_normal(len(rows)))
    weights[np.isin(kind, ["early", "silent"])] = 0
    for number, name in enumerate(CATEGORIES):
        truth[f"weight_{name}"] = weights[:, number]
    blind = kind == "silent"
    truth.loc[blind, ["prf_x", "prf_y", "prf_size", "orientation", "frequency"]] = np.nan
    return truth


def _early_weights(
    truth: pd.DataFrame, population: Population, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Weigh energy and surface components by pRF, orientation, frequency and colour."""
    centres = early.lattice_centres()
    values = truth[["prf_x", "prf_y", "prf_size", "orientation", "frequency"]].fillna(1).to_numpy()
    x, y, size, orientation, frequency = values.T[:, :, None]
    across = np.exp(-0.5 * ((centres - x) / size) ** 2)
    down = np.exp(-0.5 * ((centres - y) / size) ** 2)
    place = (down[:, :, None] * across[:, None, :]).reshape(len(truth), -1)
    turn = np.cos(2 * (np.asarray(early.ORIENTATIONS) - orientation)) - 1
    octave = np.log(np.asarray(early.FREQUENCIES) / frequency) / FREQUENCY_WIDTH
    tuning = np.exp(ORIENTATION_SHARPNESS * turn)[:, :, None] * np.exp(-0.5 * octave**2)[:, None, :]
    tuning = tuning.reshape(len(truth), -1)
    tints = rng.standard_normal((len(truth), len(early.SURFACES)))
    hues = np.where((truth["roi"] == "hV4").to_numpy()[:, None], (0.6, 1.0, 1.0), (1.0, 0.6, 0.6))
    tints = tints * hues
    weights = np.zeros((2, N_ENERGY + N_SURFACE + N_CONTENT, len(truth)))
    weights[0, :N_ENERGY] = _lifted(population.energy.lift, tuning, place)
    weights[1, N_ENERGY : N_ENERGY + N_SURFACE] = _lifted(population.surface.lift, tints, place)
    silent = truth["kind"].isin(["silent", "category"]).to_numpy()
    weights[:, :, silent] = 0
    return weights[0], weights[1]


def _lifted(lift: FloatArray, tuning: FloatArray, place: FloatArray) -> FloatArray:
    """Take separable weights (type by place) to weights on components, (n_components, n_voxels)."""
    cube = lift.reshape(len(lift), tuning.shape[1], place.shape[1])
    by_place = np.tensordot(place, cube, axes=(1, 2))
    return np.asarray(np.einsum("vkt,vt->kv", by_place, tuning))


def _content_weights(truth: pd.DataFrame, population: Population) -> FloatArray:
    """Weigh content channels by category, place and gate."""
    wanted = truth[[f"weight_{name}" for name in CATEGORIES]].to_numpy()
    x, y, size = truth[["prf_x", "prf_y", "prf_size"]].fillna(1).to_numpy().T[:, :, None]
    centres = np.asarray(category.COVERAGE_CENTRES)
    across = np.exp(-0.5 * ((centres - x) / size) ** 2)
    down = np.exp(-0.5 * ((centres - y) / size) ** 2)
    place = (down[:, :, None] * across[:, None, :]).reshape(len(truth), -1)
    place /= place.sum(axis=1, keepdims=True)
    gate = truth["gate"].to_numpy()[:, None]
    where = np.concatenate([(1 - gate) * place, gate], axis=1)
    # The channels are standardised, so a weight on the raw channel is one times its deviation.
    raw = wanted[:, :, None] * where[:, None, :] * population.content_sd
    weights = np.zeros((N_ENERGY + N_SURFACE + N_CONTENT, len(truth)))
    weights[N_ENERGY + N_SURFACE :] = raw.reshape(len(truth), -1).T
    return weights


def _own_weights(
    truth: pd.DataFrame, population: Population, subject: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Weigh private energies by pRF, and private functions of content at random."""
    x, y, residual_sd = population.private_layout(subject)
    prf = truth[["prf_x", "prf_y", "prf_size"]].fillna(1).to_numpy().T[:, :, None]
    reach = np.hypot(prf[2], PRIVATE_REACH)
    place = np.exp(-0.5 * ((x - prf[0]) ** 2 + (y - prf[1]) ** 2) / reach**2)
    n_filters = len(x) // 6
    liking = np.repeat(np.exp(0.7 * rng.standard_normal((len(truth), n_filters))), 6, axis=1)
    local = np.zeros((len(residual_sd), len(truth)))
    local[: len(x)] = (place * liking * residual_sd[: len(x)]).T
    functions = np.zeros_like(local)
    random = rng.standard_normal((len(residual_sd) - len(x), len(truth)))
    functions[len(x) :] = random * residual_sd[len(x) :, None]
    local[:, truth["kind"].isin(["silent", "category"]).to_numpy()] = 0
    functions[:, truth["kind"].isin(["silent", "early"]).to_numpy()] = 0
    return local, functions

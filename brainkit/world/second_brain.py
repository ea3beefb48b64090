r"""The simulated brain, version 2: filters learned from photographs, and objects in conjunction.

Lengths are fractions of the picture's side where no unit is named; the picture is 8.4° wide, ε is
standard normal and fresh wherever it stands. Constants without a source are ours.

**Eye**: `brainkit.world.eye`, whose 32 pools T_m see 16 × 16 places.

**Early receptive fields** (`early_drive`). With C the two pools that a voxel likes (shares a and
1 - a, a uniform in .5 to .9) under its pRF, a Gaussian of σ = (base + slope · eccentricity)
exp(.1 ε), base .40, .50, .65, 1.0, 1.6° and slope .10, .15, .20, .30, .30 in V1, V2, V3, hV4 and
unlabelled voxels, and S the mean of all pools under a surround 3.5, 3.0, 2.7, 2.4, 2.4 times as
wide (times exp(.1 ε))::

    s = (C + b) / (S + d)

the divisive-normalisation pRF of Aqil, Knapen and Dumoulin (2021, PNAS 118:e2108713118), with b =
.3 and d = 1.0, .8, .7, .5, .6.

**Content** (`content_drive`). An object o of category c, size z, lightness l (mean of its colour),
at p, beside others, drives a voxel by a conjunction of what, how large, how light and where::

    t = exp(-ln²(z / z₀) / (2 · .35²)) · exp(-(l - l₀)² / (2 · .25²))
    e = weight_c · t · (G(p - p', σ) - .25 G(p - p', 2σ)) / .75
    h = (max(e - .1, 0) + min(e, 0)) · max(0, 1 + Σ_c' γ_cc')      c' the categories of the others
    s = Σ_o (1 - g + g A_o) h_o

with G a Gaussian of peak 1, so that a surround suppresses, z₀ log-uniform in .28 to .6, l₀ uniform
in .2 to .8, σ = (1.5 + .2 eccentricity)° exp(.1 ε), weights as in version 1, and γ of ``CONTEXT``.
A voxel **looks** for the category that it likes best, c*: the objects share attention by A_o ∝ z_o
exp(2 [c_o = c*]) (normalisation model of attention: Reynolds and Heeger, 2009, Neuron 61:168), and
an attention field of width .1 about the mean attended place q = Σ A_o p_o draws the pRF to it
(Klein, Harvey and Dumoulin, 2014, Neuron 84:227)::

    p' = p₀ + g σ² / (σ² + .1²) (q - p₀)

with g uniform in .6 to 1; g = 0 in the counter-world without the gate. Unlabelled voxels of
nsdgeneral are half early, half content; all other voxels are silent.

**Common channels**, 150 of them: the principal components of the drives of 400 voxels that nobody
has, drawn as everybody's are. **Private channels**, 34 a subject: 18 of sight, √(T_a(x) T_b(x + δ))
for three random pairs of pools and displacements of up to two places (round the frame), under
Gaussian windows (.10) at six places (a jittered 3 × 2 lattice); and 16 of content, random networks
of 24 rectified units on what an object is, its colour, place, size and background, summed over
objects. The **own drive** weighs them as in version 1.

**Response** to the drive d = √.6 s + √.4 o (see `SimulatedBrain`): x² / (x² + 4²) with x = max(d +
2, 0), the hyperbolic ratio of cortical cells (Naka and Rushton, 1966, J. Physiol. 185:536; Albrecht
and Hamilton, 1982, J. Neurophysiol. 48:217).

**Noise** of a trial, unit variance: √.30 white, √.45 smooth in space (white noise on the grid under
¼, ½, ¼ along each axis, so that neighbours share two thirds of it) and √.25 of eight factors that
all voxels share. It is autoregressive through a run, with φ = exp(-4 s/τ) from one measurement to
the next, τ = 3.5 s times the person's width of the haemodynamic response over 2.45 s; eight lags
are kept.
**Haemodynamics**: a gamma density with its peak at 5 s · exp(.12 ε) and a deviation of 2.45 s ·
exp(.15 ε); all amplitudes of a person are multiplied by exp(.2 ε) (people differ in both: Aguirre,
Zarahn and D'Esposito, 1998, NeuroImage 8:360; Handwerker, Ollinger and D'Esposito, 2004, NeuroImage
21:1639).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.fft
import scipy.ndimage

from brainkit.world.anatomy import Anatomy, build_anatomy
from brainkit.world.eye import LATTICE, N_POOLS, Eye
from brainkit.world.measurement import Measurement, draw_levels
from brainkit.world.painting import BACKGROUNDS, CATEGORIES
from brainkit.world.scenes import Content
from brainkit.world.tuning import (
    Components,
    Rows,
    Voxels,
    draw_places,
    draw_preferences,
    gaussian_windows,
    own_weights,
    shares,
    unit_variance,
    voxel_kinds,
)
from brainkit.world.workers import in_order

if TYPE_CHECKING:
    from brainkit.world.population import Population

Single = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]

DEGREES: Final = 8.4
_CALIBRATION: Final = 1000  # scenes of the reference set that fix the eye's units
_BATCH: Final = 250
# Early receptive fields: V1, V2, V3, hV4, unlabelled
AREAS: Final = ("V1", "V2", "V3", "hV4", "")
PRF_BASE: Final = (0.40, 0.50, 0.65, 1.0, 1.6)
PRF_SLOPE: Final = (0.10, 0.15, 0.20, 0.30, 0.30)
SURROUND: Final = (3.5, 3.0, 2.7, 2.4, 2.4)
ACTIVATION: Final = 0.3
NORMALISATION: Final = (1.0, 0.8, 0.7, 0.5, 0.6)
# Content
CONTENT_PRF: Final = (1.5, 0.2)
CONTENT_SURROUND: Final = (2.0, 0.25)
PREFERRED_SIZE: Final = (0.28, 0.6)
SIZE_WIDTH: Final = 0.35
PREFERRED_LIGHTNESS: Final = (0.2, 0.8)
LIGHTNESS_WIDTH: Final = 0.25
CONJUNCTION_THRESHOLD: Final = 0.1
SMALLEST: Final = 1e-9  # deviation of a drive
GATE: Final = (0.6, 1.0)
ATTENTION_GAIN: Final = 2.0
ATTENTION_WIDTH: Final = 0.1
# How an object of a category (rows) counts beside one of another: face, body, place, food, word.
CONTEXT: Final = np.array(
    [
        [0.0, 0.9, -0.6, 0.0, -0.7],
        [0.9, 0.0, 0.6, -0.6, 0.0],
        [-0.6, 0.6, 0.0, 0.0, 0.9],
        [0.6, -0.7, 0.0, 0.0, 0.9],
        [-0.7, 0.0, 0.9, 0.6, 0.0],
    ]
)
# Common and private channels
N_CANONICAL: Final = 400
CANONICAL_DENSITY: Final = 0.25
N_COMMON: Final = 150
N_PAIRS: Final = 3
N_FUNCTIONS: Final = 16
N_HIDDEN: Final = 24
WINDOW: Final = 0.10
PRIVATE_REACH: Final = 0.12
# Output, noise, haemodynamics
OUTPUT_SHIFT: Final = 2.0
OUTPUT_SEMISATURATION: Final = 4.0
WHITE, SMOOTH, FACTORS = 0.30, 0.45, 0.25
N_FACTORS: Final = 8
LAGS: Final = 8
TRIAL_SECONDS: Final = 4.0
NOISE_SECONDS: Final = 3.5
PEAK_SECONDS: Final = 5.0
WIDTH_SECONDS: Final = 2.45
_CANONICAL_KEY: Final = 1302
_NOISE_KEY: Final = 1505
_TRIAL_KEY: Final = 1506
_TUNING_KEY: Final = 1606


@dataclass(frozen=True, slots=True)
class Evidence:
    """What version 2 knows of scenes: the pools' maps (n, 32, 256), and the content."""

    maps: Single
    content: Content


def _place_weights(x: Double, y: Double, width: Double) -> Single:
    """Give Gaussians over the lattice, sums 1, (256, n_voxels)."""
    centres = (np.arange(LATTICE) + 0.5) / LATTICE
    across = np.exp(-0.5 * ((centres[:, None] - x) / width) ** 2)
    down = np.exp(-0.5 * ((centres[:, None] - y) / width) ** 2)
    across, down = across / across.sum(axis=0), down / down.sum(axis=0)
    return np.asarray((down[:, None] * across[None]).reshape(LATTICE**2, -1), dtype=np.float32)


def early_drive(maps: Single, truth: pd.DataFrame) -> Double:
    """Give the drive of voxels by their pRFs with divisive surrounds, before it is standardised.

    Parameters
    ----------
    maps : float32 array (n_scenes, 32, 256)
        What `Eye.look` gives.
    truth : DataFrame
        ``prf_x``, ``prf_y``, ``prf_size``, ``surround_size``, ``pool_1``, ``pool_2``,
        ``pool_share`` and ``normalisation``, a row a voxel.

    Returns
    -------
    drive : float64 array (n_scenes, n_voxels)
    """
    x, y = truth["prf_x"].to_numpy(), truth["prf_y"].to_numpy()
    field = _place_weights(x, y, truth["prf_size"].to_numpy())
    share = truth["pool_share"].to_numpy(dtype=np.float32)
    centre = np.zeros((len(maps), len(truth)), dtype=np.float32)
    for column, part in (("pool_1", share), ("pool_2", 1 - share)):
        liked = truth[column].to_numpy()
        for pool in np.unique(liked):
            voxels = liked == pool
            centre[:, voxels] += (maps[:, int(pool)] @ field[:, voxels]) * part[voxels]
    wide = _place_weights(x, y, truth["surround_size"].to_numpy())
    surround = maps.mean(axis=1) @ wide  # (n_scenes, n_voxels)
    return np.asarray((centre + ACTIVATION) / (surround + truth["normalisation"].to_numpy()))


def attention(content: Content) -> tuple[Double, Double, Double]:
    """Share attention among a scene's objects, for each category that can be looked for.

    Returns
    -------
    share : float64 array (n_scenes, 3, 5)
        A, by object and category looked for; sums 1 over objects.
    x, y : float64 arrays (n_scenes, 5)
        The mean attended place.
    """
    sought = content.category[:, :, None] == np.arange(len(CATEGORIES))
    priority = content.size[:, :, None] * np.exp(ATTENTION_GAIN * sought)
    priority = np.where(content.category[:, :, None] >= 0, priority, 0.0)
    share = priority / np.maximum(priority.sum(axis=1, keepdims=True), 1e-12)
    x, y = (np.einsum("noc,no->nc", share, place) for place in (content.x, content.y))
    return share, x, y


def context_factor(content: Content) -> Double:
    """Give what the other objects' categories do to each object's effect, (n_scenes, 3)."""
    present = content.category >= 0
    kind = (content.category[:, :, None] == np.arange(len(CATEGORIES))).astype(float)
    others = (kind.sum(axis=1, keepdims=True) - kind) > 0
    row = CONTEXT[np.maximum(content.category, 0)]
    return np.where(present, np.maximum(1 + (row * others).sum(axis=2), 0), 0.0)


def content_drive(content: Content, truth: pd.DataFrame) -> Double:
    """Give the drive of voxels by conjunctions of what, how large, how light and where.

    Parameters
    ----------
    content : Content
    truth : DataFrame
        ``prf_x``, ``prf_y``, ``prf_size``, ``preferred_size``, ``preferred_lightness``, ``gate``
        and ``weight_<category>``, a row a voxel.

    Returns
    -------
    drive : float64 array (n_scenes, n_voxels)
    """
    weights = truth[[f"weight_{name}" for name in CATEGORIES]].to_numpy()
    sought = weights.argmax(axis=1)
    share, attended_x, attended_y = attention(content)
    factor = context_factor(content)
    x, y, size, gate, liked_size, liked_lightness = (
        truth[name].to_numpy()
        for name in ("prf_x", "prf_y", "prf_size", "gate", "preferred_size", "preferred_lightness")
    )
    lightness = content.colour.mean(axis=2)
    pull = gate * size**2 / (size**2 + ATTENTION_WIDTH**2)
    centre_x = x + pull * (attended_x[:, sought] - x)  # (n_scenes, n_voxels)
    centre_y = y + pull * (attended_y[:, sought] - y)
    ratio, strength = CONTENT_SURROUND
    drive = np.zeros((len(content.category), len(truth)))
    for thing in range(content.category.shape[1]):
        rows = np.flatnonzero(content.category[:, thing] >= 0)
        away = (content.x[rows, thing, None] - centre_x[rows]) ** 2
        away += (content.y[rows, thing, None] - centre_y[rows]) ** 2
        # exp(-r²/2(2σ)²) is the fourth root of exp(-r²/2σ²)
        wide = np.exp(-away / (2 * (ratio * size) ** 2))
        field = (wide ** (ratio**2) - strength * wide) / (1 - strength)
        octave = np.log(content.size[rows, thing, None] / liked_size) / SIZE_WIDTH
        shade = (lightness[rows, thing, None] - liked_lightness) / LIGHTNESS_WIDTH
        effect = weights[:, content.category[rows, thing]].T * field
        effect *= np.exp(-0.5 * (octave**2 + shade**2))
        effect = np.maximum(effect - CONJUNCTION_THRESHOLD, 0) + np.minimum(effect, 0)
        competing = 1 - gate + gate * share[rows, thing][:, sought]
        drive[rows] += effect * competing * factor[rows, thing, None]
    return drive


@dataclass(frozen=True, slots=True)
class PrivateSenses:
    """What one subject of version 2 alone senses.

    Attributes
    ----------
    pairs : int array (3, 2)
        Pools.
    shift : int array (3, 2)
        Displacement of the second, rows and columns of the lattice.
    x, y : float array (3, 6)
        Centres of the windows.
    hidden : float array (18, 24)
        Weights of the units on an object's attributes and, last, on a constant.
    readout : float array (24, 16)
    """

    pairs: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    x: Double
    y: Double
    hidden: Double
    readout: Double

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Draw a subject's pairs of pools, and networks on content."""
        pairs = rng.permutation(N_POOLS)[: 2 * N_PAIRS].reshape(N_PAIRS, 2)
        shift = rng.integers(-2, 3, size=(N_PAIRS, 2))
        shift[(shift == 0).all(axis=1)] = (1, 1)
        row, column = np.meshgrid(np.arange(2), np.arange(3), indexing="ij")
        jitter = rng.uniform(0.2, 0.8, size=(2, N_PAIRS, 6))
        n_attributes = len(CATEGORIES) + 6 + len(BACKGROUNDS)
        hidden = rng.standard_normal((n_attributes + 1, N_HIDDEN))
        readout = rng.standard_normal((N_HIDDEN, N_FUNCTIONS))
        return cls(
            pairs, shift, (column.ravel() + jitter[0]) / 3, (row.ravel() + jitter[1]) / 2,
            hidden, readout,
        )  # fmt: skip

    def sights(self, maps: Single) -> Single:
        """Give the private channels of sight, pair by place, place fastest, (n_scenes, 18)."""
        square = maps.reshape(len(maps), N_POOLS, LATTICE, LATTICE)
        pooled = []
        for number, ((one, other), shift) in enumerate(zip(self.pairs, self.shift, strict=True)):
            moved = np.roll(square[:, other], tuple(-shift), axis=(1, 2))
            both = np.sqrt(square[:, one] * moved)
            across = gaussian_windows(self.x[number], WINDOW, LATTICE)
            down = gaussian_windows(self.y[number], WINDOW, LATTICE)
            windows = (down[:, :, None] * across[:, None, :]).reshape(len(down), -1)
            pooled.append(both.reshape(len(maps), -1) @ windows.T)
        return np.concatenate(pooled, axis=1)

    def functions(self, content: Content) -> Double:
        """Give the private functions of content, (n_scenes, 16)."""
        present = content.category >= 0
        kind = content.category[:, :, None] == np.arange(len(CATEGORIES))
        place = np.stack([content.x - 0.5, content.y - 0.5, content.size - 0.4], axis=2)
        ground = content.background[:, None] == np.arange(len(BACKGROUNDS))
        grounds = np.repeat(ground[:, None, :], content.category.shape[1], axis=1)
        constant = np.full((*content.category.shape, 1), 0.5)
        attributes = np.concatenate(
            [kind, 2 * (content.colour - 0.5), 3 * place, grounds, constant], axis=2
        )
        units = np.maximum(attributes @ self.hidden, 0)
        return np.asarray(np.einsum("noh,no,hf->nf", units, present, self.readout, optimize=True))


class SecondSenses:
    """The eye, and the common and private channels of version 2 (see `tuning.Senses`).

    Parameters
    ----------
    images : uint8 array (4000, 64, 64, 3)
        The reference set.
    content : Content
    gate : bool
        Whether voxels look for what they like.
    seed : int
        Seed of the subjects; it draws the canonical voxels.
    """

    def __init__(
        self, images: npt.NDArray[np.uint8], content: Content, *, gate: bool, seed: int
    ) -> None:
        self.eye = Eye(images[:_CALIBRATION])
        starts = range(0, len(images), _BATCH)
        looked = in_order(
            lambda k: self.eye.look(images[k : k + _BATCH]).astype(np.float16), starts
        )
        self._maps, self._content = np.concatenate(list(looked)), content
        units = build_anatomy(1, seed, CANONICAL_DENSITY).units
        rng = np.random.default_rng([seed, _CANONICAL_KEY])
        truth = draw_truth(units[voxel_kinds(units) != "silent"], gate, rng)
        chosen = np.sort(rng.permutation(len(truth))[:N_CANONICAL])
        self._canonical = VoxelDrives(truth.iloc[chosen].reset_index(drop=True))
        drives = self._canonical.fit(self.reference())
        self._components = Components.fit(drives.astype(np.float64), N_COMMON)
        self.reference_common = self._components.transform(drives)

    def reference(self) -> Iterator[Evidence]:
        """Go through the reference set in batches."""
        for start in range(0, len(self._maps), _BATCH):
            rows = np.s_[start : start + _BATCH]
            yield Evidence(self._maps[rows].astype(np.float32), _part(self._content, rows))

    def sense(self, images: npt.NDArray[np.uint8], content: Content) -> Evidence:
        """Look at pictures."""
        return Evidence(self.eye.look(images), content)

    def common(self, evidence: Evidence) -> Double:
        """Give the common channels, (n_scenes, 150)."""
        return self._components.transform(self._canonical.of(evidence))

    def draw_private(self, rng: np.random.Generator) -> PrivateSenses:
        """Draw what one subject alone senses."""
        return PrivateSenses.draw(rng)

    def private(self, private: PrivateSenses, evidence: Evidence) -> Double:
        """Give the private channels, (n_scenes, 34)."""
        sights = private.sights(evidence.maps)
        return np.concatenate([sights, private.functions(evidence.content)], axis=1)

    def reference_private(self, private: PrivateSenses) -> Double:
        """Give the same over the reference set."""
        return np.concatenate([self.private(private, part) for part in self.reference()])


def _part(content: Content, rows: slice) -> Content:
    return Content(**{name: getattr(content, name)[rows] for name in Content.__slots__})


class VoxelDrives:
    """The shared drives of some voxels, of unit variance over the reference set.

    Parameters
    ----------
    truth : DataFrame
        Voxels that are not silent, see `draw_truth`.
    """

    def __init__(self, truth: pd.DataFrame) -> None:
        self.truth = truth
        self._shares = shares(truth["kind"])
        self._seeing, self._reading = (np.flatnonzero(share > 0) for share in self._shares)
        self._seen, self._read = truth.iloc[self._seeing], truth.iloc[self._reading]
        self._scales: list[tuple[Double, Double]] = []  # of sight and of content
        self._mixed_scale = np.zeros(1), np.ones(1)

    def fit(self, reference: Iterator[Evidence]) -> Single:
        """Take means and deviations from the reference set, and return its drives."""
        raw = [self._raw(evidence) for evidence in reference]
        sight, content = (np.concatenate(part) for part in zip(*raw, strict=True))
        # A voxel whose likings are all weak may hear no content at all; its part is 0 then.
        self._scales = [
            (part.mean(axis=0), np.maximum(part.std(axis=0), SMALLEST)) for part in (sight, content)
        ]
        mixed = self._mixed(sight, content)
        mean, sd = self._mixed_scale = mixed.mean(axis=0), mixed.std(axis=0)
        return np.asarray((mixed - mean) / sd, dtype=np.float32)

    def of(self, evidence: Evidence) -> Single:
        """Give the drives of scenes, (n_scenes, n_voxels)."""
        mean, sd = self._mixed_scale
        return np.asarray((self._mixed(*self._raw(evidence)) - mean) / sd, dtype=np.float32)

    def _raw(self, evidence: Evidence) -> tuple[Double, Double]:
        sight = early_drive(evidence.maps, self._seen)
        return sight, content_drive(evidence.content, self._read)

    def _mixed(self, sight: Double, content: Double) -> Double:
        mixed = np.zeros((len(sight), len(self.truth)))
        for part, voxels, share, (mean, sd) in zip(
            (sight, content),
            (self._seeing, self._reading),
            self._shares,
            self._scales,
            strict=True,
        ):
            mixed[:, voxels] += np.sqrt(share[voxels]) * (part - mean) / sd
        return mixed


def draw_truth(units: pd.DataFrame, gate: bool, rng: np.random.Generator) -> pd.DataFrame:
    """Draw what voxels are tuned to, a row a voxel; silent ones have no pRF (NaN)."""
    n = len(units)
    kind = voxel_kinds(units)
    area = units["roi"].str.rstrip("vd").to_numpy()
    eccentricity, x, y = draw_places(units, kind, rng)
    number = pd.Series(area).map({name: k for k, name in enumerate(AREAS)}).fillna(4).to_numpy(int)
    base, slope, surround, normalisation = (
        np.asarray(values)[number] for values in (PRF_BASE, PRF_SLOPE, SURROUND, NORMALISATION)
    )
    reads = kind == "category"
    base, slope = np.where(reads, CONTENT_PRF[0], base), np.where(reads, CONTENT_PRF[1], slope)
    size = (base / DEGREES + slope * eccentricity) * np.exp(0.1 * rng.standard_normal(n))
    truth = pd.DataFrame({"roi": units["roi"].to_numpy(), "kind": kind})
    truth["prf_x"], truth["prf_y"], truth["prf_size"] = x, y, size
    surround = np.where(reads, CONTENT_SURROUND[0], surround * np.exp(0.1 * rng.standard_normal(n)))
    truth["surround_size"] = surround * size
    truth["normalisation"] = normalisation
    truth["pool_1"] = rng.integers(N_POOLS, size=n)
    truth["pool_2"] = (truth["pool_1"] + rng.integers(1, N_POOLS, size=n)) % N_POOLS
    truth["pool_share"] = rng.uniform(0.5, 0.9, size=n)
    low, high = np.log(PREFERRED_SIZE)
    truth["preferred_size"] = np.exp(rng.uniform(low, high, size=n))
    truth["preferred_lightness"] = rng.uniform(*PREFERRED_LIGHTNESS, size=n)
    strength = rng.uniform(*GATE, size=n)
    looks = np.isin(kind, ["category", "mixed"]) & gate
    truth["gate"] = np.where(looks, strength, 0.0)
    weights = draw_preferences(units, kind, rng)
    for column, name in enumerate(CATEGORIES):
        truth[f"weight_{name}"] = weights[:, column]
    places = ["prf_x", "prf_y", "prf_size", "surround_size"]
    truth.loc[kind == "silent", places] = np.nan
    return truth


@dataclass(frozen=True, slots=True)
class SecondTuning:
    """One subject's tuning (see `tuning.Tuning`).

    Attributes
    ----------
    truth : DataFrame
        One row a voxel: ``roi``, ``kind``, ``prf_x``, ``prf_y``, ``prf_size``, ``surround_size``,
        ``normalisation``, ``pool_1``, ``pool_2``, ``pool_share``, ``preferred_size``,
        ``preferred_lightness``, ``gate``, ``weight_<category>``.
    drives : VoxelDrives
        Drives of the voxels that are not silent.
    column : int array (n_voxels,)
        Column of `drives` that each voxel has; -1 for silent ones.
    private_weights : float array (34, n_voxels)
        Weights of the own drive on the private channels; unit variance over the reference set.
    reference : pair of arrays
        Shared drives and private channels of the reference set.
    """

    truth: pd.DataFrame
    drives: VoxelDrives
    column: npt.NDArray[np.intp]
    private_weights: Double
    reference: Rows

    @classmethod
    def draw(cls, units: pd.DataFrame, population: "Population", subject: int) -> Self:
        """Draw the tuning of a subject's voxels (`Anatomy.units`)."""
        rng = np.random.default_rng([population.seed, _TUNING_KEY, subject])
        truth = draw_truth(units, population.gate, rng)
        live = np.flatnonzero(truth["kind"] != "silent")
        column = np.full(len(truth), -1)
        column[live] = np.arange(len(live))
        drives = VoxelDrives(truth.iloc[live].reset_index(drop=True))
        reference = drives.fit(cast(SecondSenses, population.senses).reference())
        private = population.reference_private(subject)
        alone, residual_sd = population.private_part(subject)
        layout = alone.x.ravel(), alone.y.ravel()
        sights, functions = own_weights(truth, layout, residual_sd, PRIVATE_REACH, rng)
        early_share, content_share = shares(truth["kind"])
        private_weights = np.sqrt(early_share) * unit_variance(sights, private)
        private_weights += np.sqrt(content_share) * unit_variance(functions, private)
        return cls(
            truth, drives, column, unit_variance(private_weights, private), (reference, private)
        )

    def rows(self, evidence: Evidence, common: Double, private: Double) -> Rows:
        """Keep the shared drives, and the private channels."""
        return self.drives.of(evidence), private

    def shared_drive(self, rows: Rows, voxels: Voxels) -> Double:
        """Give the drive that all people's tuning makes."""
        columns = self.column[voxels]
        drive = rows[0][:, np.maximum(columns, 0)].astype(np.float64)
        drive[:, columns < 0] = 0
        return np.asarray(drive)

    def own_drive(self, rows: Rows, voxels: Voxels) -> Double:
        """Give the drive that the private channels make."""
        return np.asarray(rows[1] @ self.private_weights[:, voxels])  # (n_scenes, n_voxels)


@dataclass(frozen=True, slots=True)
class SecondMeasurement(Measurement):
    """How one subject's voxels are measured in version 2.

    Attributes
    ----------
    grid : tuple of int
        The brain's grid.
    places : int array (n_voxels,)
        Each voxel's place in it, as it lies in memory.
    reach : int array
        The places of voxels and their neighbours in a grid that is one wider on each side.
    loadings : float32 array (8, n_voxels)
        What the noise that all voxels share does to each, unit norm a voxel.
    peak, width : float
        Haemodynamic response in seconds: when it is largest, and its standard deviation.
    """

    grid: tuple[int, int, int]
    places: npt.NDArray[np.intp]
    reach: npt.NDArray[np.intp]
    loadings: Single
    peak: float
    width: float

    @classmethod
    def draw(cls, ceilings: Double, anatomy: Anatomy, subject: int, seed: int) -> Self:
        """Draw a subject's amplitudes (`noise.draw_levels`), haemodynamics and shared noise."""
        rng = np.random.default_rng([seed, _NOISE_KEY, subject])
        ncsnr, signal_sd, noise_sd, mean = draw_levels(rng, ceilings, subject)
        amplitude, peak, width = np.exp(np.array([0.2, 0.12, 0.15]) * rng.standard_normal(3))
        direction = 2 * rng.standard_normal((3, N_FACTORS))
        waves = np.cos(anatomy.places @ direction + 2 * np.pi * rng.random(N_FACTORS))
        loadings = (waves / np.linalg.norm(waves, axis=1, keepdims=True)).T
        inside = np.pad(anatomy.volume(np.ones(len(anatomy.units), bool)), 1)
        return cls(
            subject,
            seed,
            ncsnr,
            amplitude * signal_sd,
            amplitude * noise_sd,
            amplitude * mean,
            anatomy.shape,
            np.ravel_multi_index(tuple(anatomy.units[["i", "j", "k"]].to_numpy().T), anatomy.shape),
            np.flatnonzero(scipy.ndimage.binary_dilation(inside, np.ones((3, 3, 3), bool))),
            loadings.astype(np.float32),
            float(PEAK_SECONDS * peak),
            float(WIDTH_SECONDS * width),
        )

    @property
    def persistence(self) -> float:
        """The correlation φ of noise between neighbouring trials of a run."""
        return float(np.exp(-TRIAL_SECONDS / (NOISE_SECONDS * self.width / WIDTH_SECONDS)))

    def noise(self, trials: Sequence[int], runs: Sequence[int]) -> Iterator[Single]:
        """Give the noise of trials, correlated in space and within runs."""
        decay = self.persistence ** np.arange(LAGS + 1)
        decay = (decay / np.linalg.norm(decay)).astype(np.float32)
        recent: dict[tuple[int, int], Single] = {}
        for trial, run in zip(trials, runs, strict=True):
            # Innovations go by run and trial, so that a trial's noise does not depend on what else
            # is asked for; those before a run's first trial belong to that run alone.
            needed = [(run, trial - lag) for lag in range(LAGS + 1)]
            recent = {key: recent[key] for key in needed if key in recent}
            for key in needed:
                if key not in recent:
                    recent[key] = self._innovation(*key)
            total = decay[0] * recent[needed[0]]
            for weight, key in zip(decay[1:], needed[1:], strict=True):
                total += weight * recent[key]
            yield total

    def _innovation(self, run: int, trial: int) -> Single:
        rng = np.random.default_rng([self.seed, _TRIAL_KEY, self.subject, run, trial + LAGS])
        fresh = rng.standard_normal(len(self.mean), dtype=np.float32)
        fresh *= np.float32(np.sqrt(WHITE))
        # Beyond the brain too, so that its border is as noisy as its middle.
        field = np.zeros([side + 2 for side in self.grid], dtype=np.float32)
        field.put(self.reach, rng.standard_normal(len(self.reach), dtype=np.float32))
        for before, here, after in (
            (np.s_[:-2], np.s_[1:-1], np.s_[2:]),
            (np.s_[:, :-2], np.s_[:, 1:-1], np.s_[:, 2:]),
            (np.s_[:, :, :-2], np.s_[:, :, 1:-1], np.s_[:, :, 2:]),
        ):
            smooth = 2 * field[here]
            smooth += field[before]
            smooth += field[after]
            field = smooth
        fresh += np.float32(np.sqrt(SMOOTH) / 6**1.5) * field.take(self.places)
        fresh += np.float32(np.sqrt(FACTORS)) * (
            rng.standard_normal(N_FACTORS, dtype=np.float32) @ self.loadings
        )
        return fresh

    def haemodynamic_gains(self, seconds: Double) -> Double:
        """Give the gamma density of the person's peak and width, 1 at the peak."""
        scale = (np.sqrt(self.peak**2 + 4 * self.width**2) - self.peak) / 2
        ratio = np.maximum(seconds, 0) / self.peak
        return np.asarray((ratio * np.exp(1 - ratio)) ** (self.peak / scale))


def second_output(drive: Double) -> Double:
    """Give x² / (x² + 4²) with x = max(d + 2, 0)."""
    square = np.maximum(drive + OUTPUT_SHIFT, 0) ** 2
    return np.asarray(square / (square + OUTPUT_SEMISATURATION**2))

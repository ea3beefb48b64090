r"""The simulated brain, version 1: log-Gabor energy, and content that competes and is looked for.

**Early channels** (`common_channels`). Picture values are 0..1; luminance L = .299 R + .587 G +
.114 B. Six orientations (0, 30, … 150°) by three frequencies (3.5, 7, 14 cycles per image) of
one-sided log-Gabor filters (Field, 1987, J. Opt. Soc. Am. A 4:2379), radial ratio .6, angular
deviation .42 rad, defined in the Fourier domain, on the mean-free luminance under a sine-squared
taper of four pixels. Energy, the filter's squared amplitude, is divided by a constant plus the
local contrast energy, which by Parseval's theorem is the pool over all orientations and frequencies
(Heeger, 1992, Visual Neuroscience 9:181), and compressed: with a the filter's analytic output and
*pool* the variance of luminance under a Gaussian of .10 of the side::

    c = (|a|² / (.01 + pool))^.6

Energies, and the surfaces L, R - G and B - (R + G)/2, are averaged under Gaussian windows (.075 of
the side) on an 8 × 8 lattice. A subject's private filters: three orientations 60° apart from a
random start, 6 to 14 cycles per image (log-uniform), radial ratio .7, angular deviation .30 rad,
each under the same windows at six places, a 3 × 2 lattice jittered by up to .3 of its spacing.

**Content channels** are those of `content_channels` and `PrivateContent`. **Common channels**, 86
of them: the leading 20 principal components, over the reference set, of the 18 × 64 standardised
energies, the leading 16 of the 3 × 64 standardised surfaces, all of unit variance, and the 50
standardised content channels. **Private channels**, 34 a subject: 18 energies and 16 functions of
content.

**Shared drive** s: an early voxel weighs lattice points by its pRF, exp(-|p - p₀|²/2σ²), with σ =
(base + .12 eccentricity) exp(.1 ε), base .05, .07, .095, .15 in V1, V2, V3, hV4 and .22 in
unlabelled voxels; energies by exp(1.5 (cos 2(θ - θ₀) - 1)) exp(-ln²(f/f₀)/(2 · .7²)), f₀ = 10, 8,
6.5, 5 (6 unlabelled) times exp(.3 ε); surfaces by normal weights (1, .6, .6; in hV4 .6, 1, 1). Both
sums are projected on the common components; surfaces make .3 of the variance of the two, in hV4 .4.
A category voxel sums ``weight_c ((1 - g) Σ_j π_j covered_cj + g anywhere_c)`` with π its normalised
pRF over the nine places, g uniform in .55 to .90 (0 in the counter-world without the gate), its
weight exp(.2 ε) for its own category and .15 |ε| for others. Unlabelled voxels of nsdgeneral mix
both equally (weights .9 |ε|); all other voxels are silent.

**Own drive** o: an early voxel weighs its subject's private energies by exp(-|p - p₀|² / 2(σ² +
.12²)) times a liking exp(.7 ε) for each of the three filters; a category voxel weighs the private
functions of content by normal weights; both times the channel's residual deviation. Unlabelled
voxels mix both equally.

**Response** to the drive d = √.6 s + √.4 o (see `SimulatedBrain`): ln(1 + exp(d + 1)).

**Noise** of a trial: √.8 white and √.2 of eight factors that all voxels share, with loadings of
unit norm a voxel that are waves over the brain. Trials are independent. The haemodynamic response
is the same in all: a gamma density of shape 6 and scale 1 s.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.fft

from brainkit.world.anatomy import Anatomy
from brainkit.world.measurement import Measurement, draw_levels
from brainkit.world.painting import BACKGROUNDS, CATEGORIES
from brainkit.world.scenes import EYE_SIZE, Content, unit_range
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

BAND: Final = 32
ORIENTATIONS: Final = tuple(np.pi * k / 6 for k in range(6))
FREQUENCIES: Final = (3.5, 7.0, 14.0)
# Radial (ratio) and angular (radians) bandwidth of the common filters, and of the private ones.
COMMONBANDWIDTH: Final = (0.6, 0.42)
PRIVATEBANDWIDTH: Final = (0.7, 0.30)
SEMISATURATION: Final = 0.01
EXPONENT: Final = 0.6
POOL_WIDTH: Final = 0.10
LATTICE: Final = 8
WINDOW: Final = 0.075
TAPER: Final = 4
LUMINANCE: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
SURFACES: Final = ("luminance", "red-green", "blue-yellow")

SIZE_EXPONENT: Final = 0.5
SUPPRESSION: Final = 1.0
COVERAGE_CENTRES: Final = (0.2, 0.5, 0.8)
COVERAGE_WIDTH: Final = 0.2
N_PLACES: Final = len(COVERAGE_CENTRES) ** 2
N_PRIVATE: Final = 16

N_ENERGY: Final = 20
N_SURFACE: Final = 16
N_CONTENT: Final = len(CATEGORIES) * (N_PLACES + 1)
N_COMMON: Final = N_ENERGY + N_SURFACE + N_CONTENT
PRF_SIZE: Final = {"V1": 0.05, "V2": 0.07, "V3": 0.095, "hV4": 0.15}
PRF_SLOPE: Final = 0.12
PREFERRED_FREQUENCY: Final = {"V1": 10.0, "V2": 8.0, "V3": 6.5, "hV4": 5.0}
ORIENTATION_SHARPNESS: Final = 1.5
FREQUENCY_WIDTH: Final = 0.7
PRIVATE_REACH: Final = 0.12
SURFACE_SHARE: Final = {"hV4": 0.4}
SOFTPLUS_BIAS: Final = 1.0
SHARED_NOISE: Final = 0.2
N_FACTORS: Final = 8
_BATCH: Final = 250
_NOISE_KEY: Final = 505
_TRIAL_KEY: Final = 506
_TUNING_KEY: Final = 606


@dataclass(frozen=True, slots=True)
class Sight:
    """Pictures as the filters need them.

    Attributes
    ----------
    spectrum : complex64 array (n_scenes, 64, 64)
        Fourier transform of the tapered luminance.
    pool : float32 array (n_scenes, 32, 32)
        Local contrast energy.
    surfaces : float32 array (n_scenes, 3, 64, 64)
        Luminance, red-green and blue-yellow in 0..1 units.
    """

    spectrum: npt.NDArray[np.complex64]
    pool: Single
    surfaces: Single


def lattice_centres() -> npt.NDArray[np.float64]:
    """Give the centres of the lattice's windows along one axis, fractions of the side."""
    return (np.arange(LATTICE) + 0.5) / LATTICE


def look(images: npt.NDArray[np.uint8]) -> Sight:
    """Prepare pictures for filtering.

    Parameters
    ----------
    images : uint8 array (n_scenes, 64, 64, 3)

    Raises
    ------
    InputError
        If the pictures are not 64 × 64 RGB.
    """
    rgb = unit_range(images)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luminance = rgb @ LUMINANCE
    surfaces = np.stack([luminance, red - green, blue - (red + green) / 2], axis=1)
    ramp = np.minimum(np.arange(EYE_SIZE), np.arange(EYE_SIZE)[::-1]) + 0.5
    taper = np.sin(0.5 * np.pi * np.clip(ramp / TAPER, 0, 1)).astype(np.float32) ** 2
    centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)
    spectrum = scipy.fft.fft2(centred * taper[:, None] * taper)
    wide = gaussian_windows((np.arange(BAND) + 0.5) / BAND, POOL_WIDTH, EYE_SIZE)
    mean = wide @ centred @ wide.T
    square = wide @ (centred * centred) @ wide.T
    return Sight(spectrum, np.maximum(square - mean * mean, 0), surfaces)


def log_gabor(
    orientation: float, frequency: float, bandwidth: tuple[float, float] = COMMONBANDWIDTH
) -> Single:
    """Give a one-sided log-Gabor filter over the discrete spectrum.

    G(f, θ) = exp(-ln²(f / f₀) / (2 ln² κ)) · exp(-(θ - θ₀)² / (2 τ²))

    Parameters
    ----------
    orientation : float
        θ₀, the direction of the filter's wave vector, in radians.
    frequency : float
        f₀ in cycles per image.
    bandwidth : tuple of float
        κ, and τ in radians.

    Returns
    -------
    transfer : float32 array (64, 64)
    """
    axis = np.fft.fftfreq(EYE_SIZE, 1 / EYE_SIZE)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(u, v)
    radius[0, 0] = 1.0
    radial = np.exp(-(np.log(radius / frequency) ** 2) / (2 * np.log(bandwidth[0]) ** 2))
    turn = np.angle(np.exp(1j * (np.arctan2(v, u) - orientation)))
    transfer = radial * np.exp(-(turn**2) / (2 * bandwidth[1] ** 2))
    transfer[0, 0] = 0.0
    return np.asarray(transfer, dtype=np.float32)


def energy_map(
    sight: Sight,
    orientation: float,
    frequency: float,
    bandwidth: tuple[float, float] = COMMONBANDWIDTH,
) -> Single:
    """Give one filter's normalised, compressed energy everywhere.

    c = (|a|² / (σ² + pool))^.6 with a the band's analytic signal, σ² = .01

    Parameters
    ----------
    sight : Sight
    orientation, frequency, bandwidth
        See `log_gabor`.

    Returns
    -------
    energy : float32 array (n_scenes, 32, 32)

    Notes
    -----
    The modulus of a band does not change when the band is moved to zero frequency, so a box of 32
    frequencies about the filter's centre gives the envelope at half the picture's resolution.
    """
    offsets = np.arange(BAND) - BAND // 2
    rows = (offsets + round(frequency * np.sin(orientation))) % EYE_SIZE
    columns = (offsets + round(frequency * np.cos(orientation))) % EYE_SIZE
    box = np.ix_(rows, columns)
    transfer = log_gabor(orientation, frequency, bandwidth)[box] * np.float32(
        (BAND / EYE_SIZE) ** 2
    )
    band = scipy.fft.ifft2(sight.spectrum[:, box[0], box[1]] * transfer, overwrite_x=True)
    energy = band.real**2 + band.imag**2
    ratio = energy / (np.float32(SEMISATURATION) + sight.pool)
    return np.asarray(ratio ** np.float32(EXPONENT), dtype=np.float32)


def common_channels(sight: Sight) -> Single:
    """Give the channels that all subjects share.

    Parameters
    ----------
    sight : Sight

    Returns
    -------
    channels : float32 array (n_scenes, 21, 64)
        Type of channel (orientation slowest, then frequency; then the surfaces) by place on the
        8 × 8 lattice, rows first; each the mean under a Gaussian window of .075 of the side.
    """
    half = gaussian_windows(lattice_centres(), WINDOW, BAND)
    full = gaussian_windows(lattice_centres(), WINDOW, EYE_SIZE)
    pooled = [
        half @ energy_map(sight, orientation, frequency) @ half.T
        for orientation in ORIENTATIONS
        for frequency in FREQUENCIES
    ]
    pooled += [full @ sight.surfaces[:, kind] @ full.T for kind in range(len(SURFACES))]
    stacked = np.asarray(np.stack(pooled, axis=1), dtype=np.float32)
    return stacked.reshape(len(stacked), stacked.shape[1], -1)


@dataclass(frozen=True, slots=True)
class PrivateFilters:
    """The filters that one subject alone has.

    Attributes
    ----------
    orientation, frequency : float array (3,)
    x, y : float array (3, 6)
        Centres of the Gaussian windows, a jittered lattice of three by two for each filter.
    """

    orientation: npt.NDArray[np.float64]
    frequency: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "PrivateFilters":
        """Draw a subject's filters: a third of a half-turn apart, 6 to 14 cycles per image."""
        n_filters = 3
        orientation = np.pi * (rng.random() + np.arange(n_filters) / n_filters)
        frequency = 6.0 * (14.0 / 6.0) ** rng.random(n_filters)
        row, column = np.meshgrid(np.arange(2), np.arange(3), indexing="ij")
        jitter = rng.uniform(0.2, 0.8, size=(2, n_filters, 6))
        return cls(
            orientation,
            frequency,
            x=(column.ravel() + jitter[0]) / 3,
            y=(row.ravel() + jitter[1]) / 2,
        )

    def channels(self, sight: Sight) -> Single:
        """Give the private energies.

        Parameters
        ----------
        sight : Sight

        Returns
        -------
        channels : float32 array (n_scenes, 18)
            Filter by place, place fastest.
        """
        pooled = []
        for number, (orientation, frequency) in enumerate(
            zip(self.orientation, self.frequency, strict=True)
        ):
            energy = energy_map(sight, float(orientation), float(frequency), PRIVATEBANDWIDTH)
            across = gaussian_windows(self.x[number], WINDOW, BAND)
            down = gaussian_windows(self.y[number], WINDOW, BAND)
            windows = (down[:, :, None] * across[:, None, :]).reshape(len(down), -1)
            pooled.append(energy.reshape(len(energy), -1) @ windows.T)
        return np.concatenate(pooled, axis=1)


def content_channels(content: Content, gate: bool) -> Double:
    """Give the content channels that all subjects share.

    With object o of category c, size s, centre p, and S the summed size of the scene's objects of
    other categories than c::

        drive_o      = s^.5 / (1 + k S)            (k = 1 with the gate, 0 without)
        covered_c,j  = Σ_o drive_o · exp(-|p - μ_j|² / (2 · .2²))     μ on {.2, .5, .8}²
        anywhere_c   = Σ_o drive_o

    Parameters
    ----------
    content : Content
    gate : bool
        Whether content competes; the counter-world has no suppression.

    Returns
    -------
    channels : float64 array (n_scenes, 5, 10)
        Channels by category: nine places, rows first, then anywhere.
    """
    present = content.category >= 0
    by_category = content.category[:, :, None] == np.arange(len(CATEGORIES))
    size = np.where(present, content.size, 0.0)
    own_kind = np.einsum("no,noc->nc", size, by_category)
    same = np.take_along_axis(own_kind, np.maximum(content.category, 0), axis=1)
    others = size.sum(axis=1, keepdims=True) - same
    strength = SUPPRESSION if gate else 0.0
    drive = np.where(present, size**SIZE_EXPONENT / (1 + strength * others), 0.0)
    centres = np.asarray(COVERAGE_CENTRES)
    across = np.exp(-0.5 * ((content.x[:, :, None] - centres) / COVERAGE_WIDTH) ** 2)
    down = np.exp(-0.5 * ((content.y[:, :, None] - centres) / COVERAGE_WIDTH) ** 2)
    cover = (down[:, :, :, None] * across[:, :, None, :]).reshape(*drive.shape, N_PLACES)
    factors = np.concatenate([cover, np.ones((*drive.shape, 1))], axis=2)
    channels = np.einsum("no,noc,nof->ncf", drive, by_category, factors)
    return np.asarray(channels, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PrivateContent:
    """The functions of content that one subject alone has.

    φ_j(scene) = Σ_o cos(w_j · a_o + b_j)

    where a_o holds the object's category (one of five), colour (three), size, x, y (each times 3)
    and the scene's background (one of six): random Fourier features (Rahimi & Recht, 2007), sixteen
    of them, with w standard normal times .8.
    """

    frequency: Double
    phase: Double

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "PrivateContent":
        """Draw a subject's functions."""
        n_attributes = len(CATEGORIES) + 6 + len(BACKGROUNDS)
        frequency = 0.8 * rng.standard_normal((n_attributes, N_PRIVATE))
        return cls(frequency, 2 * np.pi * rng.random(N_PRIVATE))

    def channels(self, content: Content) -> Double:
        """Give the private functions of scenes.

        Parameters
        ----------
        content : Content

        Returns
        -------
        channels : float64 array (n_scenes, 16)
        """
        present = content.category >= 0
        kind = content.category[:, :, None] == np.arange(len(CATEGORIES))
        place = np.stack([content.x, content.y, content.size], axis=2)
        ground = content.background[:, None] == np.arange(len(BACKGROUNDS))
        grounds = np.repeat(ground[:, None, :], content.category.shape[1], axis=1)
        attributes = np.concatenate([kind, 3 * content.colour, 3 * place, grounds], axis=2)
        waves = np.cos(attributes @ self.frequency + self.phase)
        return np.asarray((waves * present[:, :, None]).sum(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What version 1 knows of scenes: the pictures as its filters need them, and the content."""

    sight: Sight
    content: Content


class FirstSenses:
    """The common and private channels of version 1 (see `tuning.Senses`).

    Parameters
    ----------
    images : uint8 array (4000, 64, 64, 3)
        The reference set.
    content : Content
    gate : bool
        Whether content competes (see `content_channels`).
    seed : int
        It is not used: nothing that all people share is drawn.
    """

    def __init__(
        self, images: npt.NDArray[np.uint8], content: Content, *, gate: bool, seed: int
    ) -> None:
        self.gate = gate
        self._images, self._content = images, content
        raw = self._over_images(common_channels)
        energy, surface = _split_types(raw)
        self.energy = Components.fit(energy, N_ENERGY)
        self.surface = Components.fit(surface, N_SURFACE)
        things = self._raw_content(content)
        self._content_mean, self._content_sd = things.mean(axis=0), things.std(axis=0)
        self.reference_common = self._join(raw, things)

    @property
    def content_sd(self) -> Double:
        """Standard deviation of each content channel over the reference set, (5, 10)."""
        return np.asarray(self._content_sd.reshape(len(CATEGORIES), -1))

    def sense(self, images: npt.NDArray[np.uint8], content: Content) -> Evidence:
        """Prepare pictures for filtering."""
        return Evidence(look(images), content)

    def common(self, evidence: Evidence) -> Double:
        """Give the common channels, (n_scenes, 86)."""
        return self._join(common_channels(evidence.sight), self._raw_content(evidence.content))

    def draw_private(self, rng: np.random.Generator) -> "PrivateSenses":
        """Draw a subject's filters and functions of content."""
        return PrivateSenses(PrivateFilters.draw(rng), PrivateContent.draw(rng))

    def private(self, private: "PrivateSenses", evidence: Evidence) -> Double:
        """Give the private channels, (n_scenes, 34)."""
        energies = private.filters.channels(evidence.sight)
        return np.concatenate([energies, private.functions.channels(evidence.content)], axis=1)

    def reference_private(self, private: "PrivateSenses") -> Double:
        """Give the same over the reference set."""
        energies = self._over_images(private.filters.channels)
        return np.concatenate([energies, private.functions.channels(self._content)], axis=1)

    def _over_images(self, measure: Callable[[Sight], Single]) -> Single:
        starts = range(0, len(self._images), _BATCH)
        parts = in_order(lambda k: measure(look(self._images[k : k + _BATCH])), starts)
        return np.concatenate(list(parts))

    def _raw_content(self, content: Content) -> Double:
        channels = content_channels(content, self.gate)
        return channels.reshape(len(channels), -1)

    def _join(self, raw: Single, things: Double) -> Double:
        energy, surface = _split_types(raw)
        content = (things - self._content_mean) / self._content_sd
        parts = [self.energy.transform(energy), self.surface.transform(surface), content]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True)
class PrivateSenses:
    """What one subject of version 1 alone senses."""

    filters: PrivateFilters
    functions: PrivateContent


def _split_types(raw: Single) -> tuple[Double, Double]:
    """Part the energies from the surfaces, places and types in one axis."""
    n_energies = raw.shape[1] - len(SURFACES)
    wide = raw.astype(np.float64)
    energy, surface = wide[:, :n_energies], wide[:, n_energies:]
    return energy.reshape(len(raw), -1), surface.reshape(len(raw), -1)


@dataclass(frozen=True, slots=True)
class FirstTuning:
    """One subject's tuning: weights on common and on private channels (see `tuning.Tuning`).

    Attributes
    ----------
    truth : DataFrame
        One row a voxel: ``roi``, ``kind``, ``prf_x``, ``prf_y``, ``prf_size``, ``orientation``
        (radians), ``frequency`` (cycles per image), ``surface_share``, ``gate``,
        ``weight_<category>``.
    shared : float array (86, n_voxels)
        Weights of the shared drive on the common channels; unit variance over the reference set.
    private_weights : float array (34, n_voxels)
        Weights of the own drive on the private channels; likewise.
    reference : pair of arrays
        Common and private channels of the reference set.
    """

    truth: pd.DataFrame
    shared: Double
    private_weights: Double
    reference: Rows

    @classmethod
    def draw(cls, units: pd.DataFrame, population: "Population", subject: int) -> Self:
        """Draw the tuning of a subject's voxels (`Anatomy.units`)."""
        rng = np.random.default_rng([population.seed, _TUNING_KEY, subject])
        truth = _draw_truth(units, population.gate, rng)
        early_share, content_share = shares(truth["kind"])
        surface_share = truth["surface_share"].to_numpy()
        common, private = population.reference_common, population.reference_private(subject)
        senses = cast(FirstSenses, population.senses)
        energy, surface = _early_weights(truth, senses, rng)
        content = _content_weights(truth, senses)
        picture = np.sqrt(1 - surface_share) * unit_variance(energy, common) + np.sqrt(
            surface_share
        ) * unit_variance(surface, common)
        shared = np.sqrt(early_share) * unit_variance(picture, common)
        shared += np.sqrt(content_share) * unit_variance(content, common)
        alone, residual_sd = population.private_part(subject)
        layout = alone.filters.x.ravel(), alone.filters.y.ravel()
        local, functions = own_weights(truth, layout, residual_sd, PRIVATE_REACH, rng)
        private_weights = np.sqrt(early_share) * unit_variance(local, private)
        private_weights += np.sqrt(content_share) * unit_variance(functions, private)
        return cls(
            truth,
            unit_variance(shared, common),
            unit_variance(private_weights, private),
            (common, private),
        )

    def rows(self, evidence: Evidence, common: Double, private: Double) -> Rows:
        """Keep both kinds of channels."""
        return common, private

    def shared_drive(self, rows: Rows, voxels: Voxels) -> Double:
        """Give the drive that the common channels make."""
        return np.asarray(rows[0] @ self.shared[:, voxels])  # (n_scenes, n_voxels)

    def own_drive(self, rows: Rows, voxels: Voxels) -> Double:
        """Give the drive that the private channels make."""
        return np.asarray(rows[1] @ self.private_weights[:, voxels])  # (n_scenes, n_voxels)


def _draw_truth(units: pd.DataFrame, gate: bool, rng: np.random.Generator) -> pd.DataFrame:
    n = len(units)
    kind = voxel_kinds(units)
    area = units["roi"].str.rstrip("vd").to_numpy()
    eccentricity, x, y = draw_places(units, kind, rng)
    base = pd.Series(area).map(PRF_SIZE).fillna(0.22).to_numpy()
    size = (base + PRF_SLOPE * eccentricity) * np.exp(0.1 * rng.standard_normal(n))
    favourite = pd.Series(area).map(PREFERRED_FREQUENCY).fillna(6.0).to_numpy()
    truth = pd.DataFrame({"roi": units["roi"].to_numpy(), "kind": kind})
    truth["prf_x"], truth["prf_y"], truth["prf_size"] = x, y, size
    truth["orientation"] = np.pi * rng.random(n)
    truth["frequency"] = favourite * np.exp(0.3 * rng.standard_normal(n))
    surface = pd.Series(area).map(SURFACE_SHARE).fillna(0.3).to_numpy()
    truth["surface_share"] = np.where(np.isin(kind, ["early", "mixed"]), surface, 0.0)
    strength = 0.55 + 0.35 * rng.random(n)
    truth["gate"] = np.where(kind == "category", strength if gate else 0.0, 0.0)
    weights = draw_preferences(units, kind, rng)
    for number, name in enumerate(CATEGORIES):
        truth[f"weight_{name}"] = weights[:, number]
    blind = kind == "silent"
    truth.loc[blind, ["prf_x", "prf_y", "prf_size", "orientation", "frequency"]] = np.nan
    return truth


def _early_weights(
    truth: pd.DataFrame, senses: FirstSenses, rng: np.random.Generator
) -> tuple[Double, Double]:
    """Weigh energy and surface components by pRF, orientation, frequency and colour."""
    centres = lattice_centres()
    values = truth[["prf_x", "prf_y", "prf_size", "orientation", "frequency"]].fillna(1).to_numpy()
    x, y, size, orientation, frequency = values.T[:, :, None]
    across = np.exp(-0.5 * ((centres - x) / size) ** 2)
    down = np.exp(-0.5 * ((centres - y) / size) ** 2)
    place = (down[:, :, None] * across[:, None, :]).reshape(len(truth), -1)
    turn = np.cos(2 * (np.asarray(ORIENTATIONS) - orientation)) - 1
    octave = np.log(np.asarray(FREQUENCIES) / frequency) / FREQUENCY_WIDTH
    tuning = np.exp(ORIENTATION_SHARPNESS * turn)[:, :, None] * np.exp(-0.5 * octave**2)[:, None, :]
    tuning = tuning.reshape(len(truth), -1)
    tints = rng.standard_normal((len(truth), len(SURFACES)))
    hues = np.where((truth["roi"] == "hV4").to_numpy()[:, None], (0.6, 1.0, 1.0), (1.0, 0.6, 0.6))
    tints = tints * hues
    weights = np.zeros((2, N_ENERGY + N_SURFACE + N_CONTENT, len(truth)))
    weights[0, :N_ENERGY] = _lifted(senses.energy.lift, tuning, place)
    weights[1, N_ENERGY : N_ENERGY + N_SURFACE] = _lifted(senses.surface.lift, tints, place)
    silent = truth["kind"].isin(["silent", "category"]).to_numpy()
    weights[:, :, silent] = 0
    return weights[0], weights[1]


def _lifted(lift: Double, tuning: Double, place: Double) -> Double:
    """Take separable weights (type by place) to weights on components, (n_components, n_voxels)."""
    cube = lift.reshape(len(lift), tuning.shape[1], place.shape[1])
    by_place = np.tensordot(place, cube, axes=(1, 2))
    return np.asarray(np.einsum("vkt,vt->kv", by_place, tuning))


def _content_weights(truth: pd.DataFrame, senses: FirstSenses) -> Double:
    """Weigh content channels by category, place and gate."""
    wanted = truth[[f"weight_{name}" for name in CATEGORIES]].to_numpy()
    x, y, size = truth[["prf_x", "prf_y", "prf_size"]].fillna(1).to_numpy().T[:, :, None]
    centres = np.asarray(COVERAGE_CENTRES)
    across = np.exp(-0.5 * ((centres - x) / size) ** 2)
    down = np.exp(-0.5 * ((centres - y) / size) ** 2)
    place = (down[:, :, None] * across[:, None, :]).reshape(len(truth), -1)
    place /= place.sum(axis=1, keepdims=True)
    gate = truth["gate"].to_numpy()[:, None]
    where = np.concatenate([(1 - gate) * place, gate], axis=1)
    # The channels are standardised, so a weight on the raw channel is one times its deviation.
    raw = wanted[:, :, None] * where[:, None, :] * senses.content_sd
    weights = np.zeros((N_ENERGY + N_SURFACE + N_CONTENT, len(truth)))
    weights[N_ENERGY + N_SURFACE :] = raw.reshape(len(truth), -1).T
    return weights


@dataclass(frozen=True, slots=True)
class FirstMeasurement(Measurement):
    """How one subject's voxels are measured in version 1.

    Attributes
    ----------
    loadings : float32 array (8, n_voxels)
        What the shared noise does to each voxel, unit norm a voxel:
        cos(2 w_f · place + φ_f), scaled over the eight factors.
    """

    loadings: Single

    @classmethod
    def draw(cls, ceilings: Double, anatomy: Anatomy, subject: int, seed: int) -> Self:
        """Draw a subject's amplitudes (`noise.draw_levels`) and shared noise."""
        rng = np.random.default_rng([seed, _NOISE_KEY, subject])
        levels = draw_levels(rng, ceilings, subject)
        direction = 2 * rng.standard_normal((3, N_FACTORS))
        waves = np.cos(anatomy.places @ direction + 2 * np.pi * rng.random(N_FACTORS))
        loadings = (waves / np.linalg.norm(waves, axis=1, keepdims=True)).T
        return cls(subject, seed, *levels, loadings.astype(np.float32))

    def noise(self, trials: Sequence[int], runs: Sequence[int]) -> Iterator[Single]:
        """Give the noise of trials, √.8 private and √.2 shared, in units of `noise_sd`."""
        for trial in trials:
            rng = np.random.default_rng([self.seed, _TRIAL_KEY, self.subject, trial])
            factors = rng.standard_normal(N_FACTORS, dtype=np.float32)
            private = rng.standard_normal(len(self.mean), dtype=np.float32)
            private *= np.float32(np.sqrt(1 - SHARED_NOISE))
            private += np.float32(np.sqrt(SHARED_NOISE)) * (factors @ self.loadings)
            yield private

    def haemodynamic_gains(self, seconds: Double) -> Double:
        """Give the response at times after the image, the largest 1; its peak is at 5 s."""
        response = seconds**5 * np.exp(-seconds)
        return np.asarray(response / response.max())


def first_output(drive: Double) -> Double:
    """Give ln(1 + exp(d + 1))."""
    return np.asarray(np.logaddexp(0, drive + SOFTPLUS_BIAS))

"""How well a simulated brain can be measured: ceilings, noise, sessions that drift.

Ceilings follow the medians published for the Natural Scenes Dataset (Allen et al., 2022).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Medians of subject 1's ceiling for three repeats, as fractions; V3 lies between V2 and hV4.
REGION_CEILINGS: Final = {"V1": 0.48, "V2": 0.402, "V3": 0.34, "hV4": 0.274}
CATEGORY_CEILING: Final = 0.242
UNLABELLED_CEILING: Final = 0.089
# Median ncsnr of the eight subjects' nsdgeneral; the first is the yardstick.
SUBJECT_NCSNR: Final = (0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323)
NCSNR_SPREAD: Final = 0.30
TOTAL_SD: Final = 2.8
OFFSET_SPREAD: Final = 0.15
GAIN_SPREAD: Final = 0.08
# Percent signal change is stored as int16 times 300.
SCALE: Final = 300
LIMIT: Final = 32767 / SCALE
_SESSION_KEY: Final = 507


def ceiling_from_ncsnr(ncsnr: npt.ArrayLike, n_repeats: float = 3) -> FloatArray:
    """Give the explainable fraction of variance of a mean over repeats.

    NC(n) = ncsnr² / (ncsnr² + 1/n)

    Parameters
    ----------
    ncsnr : array_like
        Ratio of the signal's to the noise's standard deviation.
    n_repeats : float, default=3
    """
    power = np.asarray(ncsnr, dtype=float) ** 2
    return np.asarray(power / (power + 1 / n_repeats))


def ncsnr_from_ceiling(ceiling: npt.ArrayLike, n_repeats: float = 3) -> FloatArray:
    """Invert `ceiling_from_ncsnr`."""
    fraction = np.asarray(ceiling, dtype=float)
    return np.asarray(np.sqrt(fraction / (n_repeats * (1 - fraction))))


def region_ceiling(roi: str) -> float:
    """Give the median ceiling for three repeats of a labelled region of subject 1."""
    return REGION_CEILINGS.get(roi.rstrip("vd"), REGION_CEILINGS.get(roi, CATEGORY_CEILING))


def draw_levels(
    rng: np.random.Generator, ceilings: FloatArray, subject: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw how strong signal and noise of a subject's voxels are.

    With m the median ncsnr of a voxel's kind and h the subject's ratio::

        ncsnr     = m h exp(.30 ε)
        total_sd  = 2.8 exp(.25 ε)
        signal_sd = total_sd ncsnr / √(1 + ncsnr²),  noise_sd = total_sd / √(1 + ncsnr²)
        mean      = 1.8 exp(.3 ε) where ncsnr > 0, else .3 ε

    Parameters
    ----------
    rng : numpy.random.Generator
    ceilings : float array (n_voxels,)
        Median ceiling, three repeats, of each voxel's kind in subject 1; 0 for none.
    subject : int
        1..8.

    Returns
    -------
    ncsnr, signal_sd, noise_sd, mean : float arrays (n_voxels,)
    """
    n = len(ceilings)
    ratio = SUBJECT_NCSNR[subject - 1] / SUBJECT_NCSNR[0]
    spread = np.exp(NCSNR_SPREAD * rng.standard_normal(n))
    ncsnr = ncsnr_from_ceiling(ceilings) * ratio * spread
    total = TOTAL_SD * np.exp(0.25 * rng.standard_normal(n))
    noise_sd = total / np.sqrt(1 + ncsnr**2)
    normal = rng.standard_normal(n)
    mean = np.where(ncsnr > 0, 1.8 * np.exp(0.3 * normal), 0.3 * normal)
    return ncsnr, noise_sd * ncsnr, noise_sd, mean


@dataclass(frozen=True, slots=True)
class Measurement(ABC):
    """How one subject's voxels are measured; versions differ in noise and haemodynamics.

    Attributes
    ----------
    subject, seed : int
    ncsnr, signal_sd, noise_sd, mean : float array (n_voxels,)
        Signal over noise; standard deviations and mean level in percent signal change.
    """

    subject: int
    seed: int
    ncsnr: FloatArray
    signal_sd: FloatArray
    noise_sd: FloatArray
    mean: FloatArray

    @abstractmethod
    def noise(
        self, trials: Sequence[int], runs: Sequence[int]
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Give the noise of each trial (n_voxels,), unit variance, in units of `noise_sd`.

        Parameters
        ----------
        trials : sequence of int
            The trials' numbers in the experiment.
        runs : sequence of int
            The run of each trial.
        """

    @abstractmethod
    def haemodynamic_gains(self, seconds: FloatArray) -> FloatArray:
        """Give the size of the response at times after the image began, as a share of the peak."""

    def drift(self, session: int) -> tuple[FloatArray, FloatArray]:
        """Give a session's gain and offset of each voxel.

        gain = exp(.08 ε), offset = .15 √(signal_sd² + noise_sd²) ε
        """
        rng = np.random.default_rng([self.seed, _SESSION_KEY, self.subject, session])
        gain = np.exp(GAIN_SPREAD * rng.standard_normal(len(self.mean)))
        total = np.hypot(self.signal_sd, self.noise_sd)
        return gain, OFFSET_SPREAD * total * rng.standard_normal(len(self.mean))

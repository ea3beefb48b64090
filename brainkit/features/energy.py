r"""Oriented energy: a pyramid of Gabor wavelets in quadrature, as complex cells see an image.

The wavelets are those of Kay, Naselaris, Prenger and Gallant (2008, Nature 452:352): octaves of
spatial frequency f (cycles an image), eight orientations θ, and at each frequency a lattice of
f × f positions u. With the isotropic Gaussian envelope :math:`G_f` of standard deviation
:math:`\sigma_f` (in images), cut at the image's frame,

.. math::

    a_{f\theta}(u) = \frac{4}{\sum_x G_f(x-u)} \sum_x G_f(x-u)\,\bigl(I(x) - \bar I_f(u)\bigr)\,
        e^{2\pi i f\,(x-u)\cdot(\cos\theta,\,\sin\theta)}, \qquad
    \sigma_f = \frac{\sqrt{2\ln 2}}{2\pi f}\,\frac{2^b+1}{2^b-1}

where :math:`\bar I_f(u)` is the mean of the image under the envelope, so that no wavelet answers
a constant image, and b the bandwidth: full width at half height of the amplitude spectrum, one
octave (:math:`\sigma_f = 0.562/f`). The modulus of the pair is the output of a complex cell
(Adelson and Bergen, 1985, J. Opt. Soc. Am. A 2:284) and is in units of contrast: 1 for the
optimal grating that runs from black to white. Divisive normalisation (Heeger, 1992, Visual
Neuroscience 9:181) is that of Kay, Winawer, Rokem, Mezer and Wandell (2013, PLoS Comput. Biol.
9:e1003079), by the mean over the K orientations at the same place, with their constants r = 1
and s = 0.5:

.. math::

    z_{f\theta}(u) = \frac{|a_{f\theta}(u)|^r}
        {s^r + \bigl(\frac{1}{K}\sum_{\theta'} |a_{f\theta'}(u)|\bigr)^r}

Without it (``semisaturation=None``) the features are the contrast amplitudes of the 2008 model
(r = 1), to a scale for each frequency, and without its one feature of mean luminance. That model
saw 128 pixels and 20° up to 32 cycles, four pixels a cycle: ``side=128`` with frequencies up to
32 is the whole of it. The default of 64 pixels keeps the four pixels a cycle and ends at 16
cycles, which on the 8.4° of the Natural Scenes Dataset is 1.9 cycles a degree, where the 2008
model ends at 1.6.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.arrays.devices import pick_batch
from brainkit.arrays.progress import track
from brainkit.data.rgb import image_array, warn_of_dark
from brainkit.errors import InputError
from brainkit.features.pixels import as_float, channels, check_format, resample_square

Float = NDArray[np.float32]
LARGEST_BATCH = 256  # more images at once leave the cache and gain nothing


@dataclass(frozen=True)
class GaborWavelets:
    """The wavelets of one spatial frequency; each is a product of a row and a column.

    Attributes
    ----------
    rows, columns : complex64 array (n_orientations, n_positions, side)
        Factors along y and along x. Position (i, j) of orientation θ is the outer product of
        ``rows[θ, i]`` and ``columns[θ, j]``.
    envelope : float32 array (n_positions, side)
        The Gaussian along one side, sums 1.
    """

    rows: NDArray[np.complex64]
    columns: NDArray[np.complex64]
    envelope: Float


def gabor_wavelets(
    side: int, frequency: float, n_orientations: int = 8, bandwidth: float = 1.0
) -> GaborWavelets:
    """Return the wavelets of one spatial frequency on an image of `side` pixels.

    Parameters
    ----------
    frequency : float
        Cycles an image; there are as many positions along a side, rounded, and one at least.
    n_orientations : int
        Directions of the wave vector over half a turn; the first is along x.
    bandwidth : float
        Full width at half height of the amplitude spectrum, in octaves.
    """
    n_positions = max(round(frequency), 1)
    centres = (np.arange(n_positions) + 0.5) * side / n_positions - 0.5  # pixels
    distance = (np.arange(side) - centres[:, None]) / side  # images, (position, pixel)
    octaves = (2**bandwidth + 1) / (2**bandwidth - 1)
    spread = np.sqrt(2 * np.log(2)) / (2 * np.pi * frequency) * octaves
    envelope = np.exp(-((distance / spread) ** 2) / 2)
    envelope /= envelope.sum(axis=1, keepdims=True)
    theta = np.arange(n_orientations)[:, None, None] * np.pi / n_orientations
    rows, columns = (
        2 * envelope * np.exp(2j * np.pi * frequency * part(theta) * distance)
        for part in (np.sin, np.cos)
    )
    return GaborWavelets(
        rows.astype(np.complex64), columns.astype(np.complex64), envelope.astype(np.float32)
    )


def oriented_energy(
    images: NDArray[Any],
    *,
    n_orientations: int = 8,
    frequencies: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0),
    side: int = 64,
    colour: bool = False,
    bandwidth: float = 1.0,
    exponent: float = 1.0,
    semisaturation: float | None = 0.5,
) -> Float:
    """Compute oriented-energy features; the equation is in the module's docstring.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        uint8, or float in [0, 1].
    n_orientations : int, default=8
        Orientations over half a turn.
    frequencies : tuple of float
        Cycles an image. A frequency of f has a lattice of f × f positions (f rounded).
    side : int, default=64
        Images are resampled to this many pixels first.
    colour : bool, default=False
        Take red-green and blue-yellow energy besides luminance, from colour images; each channel
        is normalised by itself.
    bandwidth : float, default=1.0
        Bandwidth of the wavelets: octaves at half height of the amplitude spectrum.
    exponent : float, default=1.0
        The power r of the amplitudes.
    semisaturation : float or None, default=0.5
        The contrast s at which normalisation sets in; None leaves it out.

    Returns
    -------
    float32 array (n, n_features)
        Channel by channel, frequency by frequency, orientation by orientation, and positions row
        by row: 2,728 features of luminance by default.

    Raises
    ------
    InputError
        If the images are of another format, or a setting has no meaning.
    """
    _check_settings(n_orientations, frequencies, side, bandwidth, exponent, semisaturation)
    images = image_array(images)
    check_format(images)
    warn_of_dark(images)
    n_channels = channels(as_float(images[:0]), colour).shape[1]
    pyramid = [
        gabor_wavelets(side, frequency, n_orientations, bandwidth) for frequency in frequencies
    ]
    positions = [len(wavelets.envelope) for wavelets in pyramid]
    n_features = n_channels * n_orientations * sum(n**2 for n in positions)
    # Bytes that one image takes: itself as floating point, its planes, what the columns make of
    # them and its transposed copy, amplitudes, features.
    working = 12 * int(np.prod(images.shape[1:3])) + 4 * n_channels * side**2
    working += n_channels * n_orientations * max(positions) * (16 * side + 24 * max(positions))
    working += 8 * n_features
    batch = min(pick_batch(working, max(len(images), 1)), LARGEST_BATCH)
    out = np.empty((len(images), n_features), dtype=np.float32)
    for start in track(range(0, len(images), batch), "oriented energy"):
        planes = resample_square(
            channels(as_float(images[start : start + batch], part=True), colour), side
        )
        levels = [_amplitudes(planes, wavelets) for wavelets in pyramid]
        normalised = [_normalised(level, exponent, semisaturation) for level in levels]
        by_level = [level.reshape(len(planes), n_channels, -1) for level in normalised]
        out[start : start + batch] = np.concatenate(by_level, axis=2).reshape(len(planes), -1)
    return out


def _amplitudes(planes: Float, wavelets: GaborWavelets) -> Float:
    """Return |a| of (n, channel, side, side), as (n, channel, orientation, position, position)."""
    n_orientations, n_positions, side = wavelets.columns.shape
    # One real product for all orientations: real and imaginary parts are columns side by side.
    # Products are taken image by image, which gives the same bits whatever the batch.
    columns = np.ascontiguousarray(wavelets.columns.reshape(-1, side).T)  # (x, θ·j)
    across = (planes @ columns.view(np.float32)).view(np.complex64)  # (n, channel, y, θ·j)
    across = across.reshape(*planes.shape[:3], n_orientations, n_positions)
    # (θ, i, y) @ (n, channel, θ, y, j)
    response = wavelets.rows @ np.ascontiguousarray(across.transpose(0, 1, 3, 2, 4))
    mean = wavelets.envelope @ planes @ wavelets.envelope.T  # (n, channel, i, j)
    constant = wavelets.rows.sum(axis=2)[:, :, None] * wavelets.columns.sum(axis=2)[:, None]
    response -= mean[:, :, None] * constant
    return np.asarray(np.abs(response), dtype=np.float32)


def _normalised(amplitude: Float, exponent: float, semisaturation: float | None) -> Float:
    """Return z of (n, channel, orientation, position, position), in place of the amplitudes."""
    powers = amplitude if exponent == 1 else amplitude**exponent
    if semisaturation is None:
        return powers
    population = amplitude.mean(axis=2, keepdims=True)
    return powers / (semisaturation**exponent + population**exponent)


def _check_settings(
    n_orientations: int,
    frequencies: tuple[float, ...],
    side: int,
    bandwidth: float,
    exponent: float,
    semisaturation: float | None,
) -> None:
    positive = {
        "n_orientations": n_orientations,
        "frequencies": min(frequencies, default=0),
        "bandwidth": bandwidth,
        "exponent": exponent,
        "semisaturation": 1 if semisaturation is None else semisaturation,
    }
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} of oriented energy must be above 0; got {value}.")
    highest = side / 2 * (2**bandwidth + 1) / 2 ** (bandwidth + 1)
    if max(frequencies) > highest:
        raise InputError(
            f"At side={side} and bandwidth={bandwidth} the frequencies can go up to {highest:.3g} "
            f"cycles an image, whose half height reaches the finest grating that {side} pixels "
            f"hold; got {frequencies}."
        )


class OrientedEnergy(TransformerMixin, BaseEstimator):
    """Oriented-energy features as a transformer of images; nothing is fitted.

    The parameters are those of `oriented_energy`. The pyramid of Kay et al. (2008) in full is
    ``OrientedEnergy(frequencies=(1, 2, 4, 8, 16, 32), side=128, semisaturation=None)``.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import OrientedEnergy
    >>> OrientedEnergy().fit_transform(np.zeros((2, 64, 64), dtype=np.uint8)).shape
    (2, 2728)
    """

    stateless = True  # features of a stimulus depend on nothing that was fitted

    def __init__(
        self,
        n_orientations: int = 8,
        frequencies: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0),
        side: int = 64,
        colour: bool = False,
        bandwidth: float = 1.0,
        exponent: float = 1.0,
        semisaturation: float | None = 0.5,
    ) -> None:
        self.n_orientations = n_orientations
        self.frequencies = frequencies
        self.side = side
        self.colour = colour
        self.bandwidth = bandwidth
        self.exponent = exponent
        self.semisaturation = semisaturation

    def fit(self, images: NDArray[Any], y: None = None) -> Self:
        """Do nothing; the features have no fitted part."""
        return self

    def transform(self, images: NDArray[Any]) -> Float:
        """Return the features, (n, n_features)."""
        return oriented_energy(images, **self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return True

r"""Latents of images that a small variational autoencoder learns from the training images alone.

An encoder gives each image a Gaussian of latents, a decoder gives latents back as an image
(Kingma and Welling, 2014, arXiv:1312.6114). With n values an image, latents :math:`z` of the prior
N(0, 1) and images of noise variance :math:`\sigma^2` about the decoder's :math:`g(z)`, training
minimises, per value,

.. math::

    \frac{1}{2} \log \sigma^2 + \frac{1}{n} \mathrm{KL}\bigl(q(z \mid x) \,\|\, N(0, I)\bigr),
    \qquad \sigma^2 = \overline{(x - g(z))^2}

with :math:`\sigma^2` at its optimum for the batch (Rybkin, Daniilidis and Levine, 2021, ICML), so
that no weight between the two terms is to be chosen. What is decoded from a brain is never exact,
and a decoder that has learned from noisy latents makes an image of such latents too.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.seeds import rng
from brainkit.errors import CorruptFileError, InputError
from brainkit.features.feature_spaces import Fitted, RememberedFits
from brainkit.features.pixels import as_float
from brainkit.training import Schedule, Step, train

Float = NDArray[np.float32]
MOST_VALUES = 2**14  # of an image; the weights of full layers are as many times the hidden units
LEAST_VARIANCE = 1e-6  # of pixels, below the steps of 8-bit images


class ImageAutoencoder(nn.Module):
    """Encoder and decoder of flat images, two hidden layers each.

    Parameters
    ----------
    n_values, n_latents, n_hidden : int
    """

    def __init__(self, n_values: int, n_latents: int, n_hidden: int) -> None:
        super().__init__()
        self.encoder = _layers(n_values, n_hidden, 2 * n_latents)
        self.decoder = _layers(n_latents, n_hidden, n_values)

    def posterior(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of variances of the latents of images (n, values)."""
        mean, log_variance = self.encoder(flat).chunk(2, dim=1)
        return mean, log_variance

    def images(self, latents: Tensor) -> Tensor:
        """Return the images of latents (n, latents), (n, values) in [0, 1]."""
        return torch.sigmoid(self.decoder(latents))

    def loss(self, flat: Tensor, generator: torch.Generator) -> Tensor:
        """Return the negative evidence bound of images (n, values), a value, to a constant."""
        mean, log_variance = self.posterior(flat)
        noise = torch.randn(mean.shape, generator=generator)
        decoded = self.images(mean + noise * (log_variance / 2).exp())
        variance = ((decoded - flat) ** 2).mean() + LEAST_VARIANCE
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return variance.log() / 2 + divergence / flat.shape[1]


def _layers(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), nn.GELU(),
        nn.Linear(n_hidden, n_hidden), nn.GELU(),
        nn.Linear(n_hidden, n_out),
    )  # fmt: skip


def moved(
    images: Tensor, generator: torch.Generator, *, rotation: float, shift: float, scale: float
) -> Tensor:
    """Rotate, shift and scale each image a little, by amounts drawn uniformly.

    Parameters
    ----------
    images : tensor (n, channels, height, width)
        What comes in from outside an image is as its edge.
    generator : torch.Generator
    rotation : float
        Largest angle, in degrees.
    shift : float
        Largest shift along each side, as a share of it.
    scale : float
        Largest change of size, as a share of it.
    """
    n = len(images)
    angle, size, across, down = (2 * torch.rand(4, n, generator=generator) - 1) * torch.tensor(
        [[np.deg2rad(rotation)], [scale], [2 * shift], [2 * shift]], dtype=torch.float32
    )  # the grid's sides run from -1 to 1
    cosine, sine = (1 + size) * torch.cos(angle), (1 + size) * torch.sin(angle)
    rows = [torch.stack([cosine, -sine, across], 1), torch.stack([sine, cosine, down], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


class LearnedLatents(TransformerMixin, BaseEstimator):
    """Latents of small images, learned from the training images; with a way back to images.

    The features of an image are the means of its latents, see the module's docstring. Every batch
    is drawn from the training images, rotated, shifted and scaled a little, which makes of a
    hundred images enough to learn from. Training runs on the processor, where the same seed gives
    the same weights.

    Parameters
    ----------
    n_latents : int, default=16
        Latents of an image.
    n_hidden : int, default=128
        Units of each hidden layer.
    steps : int, default=1500
        Steps of the optimiser.
    batch_size : int, default=32
        Images of a step.
    rotation : float, default=8.0
        Largest angle that a training image is rotated by, in degrees.
    shift : float, default=0.05
        Largest shift along each side, as a share of it.
    scale : float, default=0.06
        Largest change of size, as a share of it.
    learning_rate : float, default=1e-3
    seed : int, default=0
        Of the first weights, the batches and the noise.

    Attributes
    ----------
    weights_ : dict of str to float32 array
        Of the encoder and the decoder.
    image_shape_ : tuple of int
        (height, width) or (height, width, 3) of the training images.
    noise_variance_ : float
        Mean squared error of the training images, unmoved, from their latents' means.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.decoding import LearnedLatents
    >>> images = np.random.default_rng(0).uniform(size=(20, 8, 8))
    >>> space = LearnedLatents(n_latents=4, n_hidden=16, steps=5)
    >>> space.inverse_transform(space.fit_transform(images)).shape
    (20, 8, 8)
    """

    def __init__(
        self,
        n_latents: int = 16,
        n_hidden: int = 128,
        steps: int = 1500,
        batch_size: int = 32,
        rotation: float = 8.0,
        shift: float = 0.05,
        scale: float = 0.06,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.n_hidden = n_hidden
        self.steps = steps
        self.batch_size = batch_size
        self.rotation = rotation
        self.shift = shift
        self.scale = scale
        self.learning_rate = learning_rate
        self.seed = seed

    def __sklearn_clone__(self) -> "LearnedLatents":
        twin = type(self)(**self.get_params())
        if "_fits" in vars(self):
            twin._fits = self._fits
        return twin

    def remember(self, fits: RememberedFits) -> Self:
        """Share what is learned from the same images with all spaces that `fits` is given to."""
        self._fits = fits
        return self

    def fit(self, images: NDArray[Any], y: None = None) -> Self:
        """Learn from the training images (n, height, width[, 3]).

        Raises
        ------
        InputError
            If all images are the same, they are too large, or a parameter has no meaning.
        """
        self._check_parameters()
        fits: RememberedFits | None = getattr(self, "_fits", None)
        fitted = self._learned(images) if fits is None else fits.fitted(self, images, self._learned)
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def _learned(self, images: NDArray[Any]) -> Fitted:
        """Return the fitted attributes."""
        values = as_float(images)
        n_values = int(np.prod(values.shape[1:]))
        if not len(values) or not np.ptp(values, axis=0).any():
            raise InputError(
                f"Latents are learned from images that differ; all of these {len(values)} are the "
                "same."
            )
        if n_values > MOST_VALUES:
            raise InputError(
                f"LearnedLatents is for small images, of {MOST_VALUES} values at most; these have "
                f"{' × '.join(map(str, values.shape[1:]))}. Make them smaller, or take a frozen "
                "autoencoder (brainkit.generators)."
            )
        module = self._module(n_values)
        planes = _planes(values)

        def loss(current: Any, step: Step) -> Tensor:
            rows = torch.randint(len(planes), (int(self.batch_size),), generator=step.generator)
            batch = moved(
                planes[rows], step.generator,
                rotation=self.rotation, shift=self.shift, scale=self.scale,
            )  # fmt: skip
            value: Tensor = current.loss(_flat(batch), step.generator)
            return value

        schedule = Schedule(
            steps=int(self.steps),
            learning_rate=self.learning_rate,
            warmup=min(100, int(self.steps) // 10),
            seed=self.seed,
        )
        train(module, loss, schedule, description=type(self).__name__)
        module.eval()
        flat = _flat(planes)
        with torch.no_grad():
            restored = module.images(module.posterior(flat)[0])
        return {
            "weights_": {name: value.numpy().copy() for name, value in module.state_dict().items()},
            "image_shape_": tuple(int(side) for side in values.shape[1:]),
            "noise_variance_": float(((restored - flat) ** 2).mean()),
        }

    def _check_parameters(self) -> None:
        for name in ("n_latents", "n_hidden", "steps", "batch_size"):
            if whole_number(getattr(self, name), name) < 1:
                raise InputError(f"{name} must be 1 or more; got {getattr(self, name)!r}.")
        for name, below in (("rotation", 180.0), ("shift", 1.0), ("scale", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise InputError(
                    f"{name} must be from 0 to below {below:g}; got {getattr(self, name)!r}."
                )
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be above 0; got {self.learning_rate!r}.")

    def _module(self, n_values: int) -> ImageAutoencoder:
        """Return the network with the first weights that the seed gives."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng(self.seed, "weights").integers(2**62)))
            return ImageAutoencoder(n_values, int(self.n_latents), int(self.n_hidden))

    def _fitted(self) -> ImageAutoencoder:
        """Return the network with the learned weights."""
        check_is_fitted(self)
        module = self._module(int(np.prod(self.image_shape_)))
        try:
            module.load_state_dict(
                {name: torch.from_numpy(value) for name, value in self.weights_.items()}
            )
        except RuntimeError as error:
            raise CorruptFileError(
                f"The weights of this {type(self).__name__} are those of another network than its "
                "parameters tell of: fit it again."
            ) from error
        return module.eval()

    def transform(self, images: NDArray[Any]) -> Float:
        """Return the means of the images' latents, (n, n_latents)."""
        module, values = self._fitted(), as_float(images)
        if values.shape[1:] != self.image_shape_:
            raise InputError(
                f"Images must have the training images' shape {self.image_shape_}; got "
                f"{values.shape[1:]}."
            )
        with torch.no_grad():
            mean, _ = module.posterior(_flat(_planes(values)))
        return mean.numpy()

    def inverse_transform(self, latents: NDArray[Any]) -> Float:
        """Return the images of latents (n, n_latents), (n, height, width[, 3]) in [0, 1]."""
        module = self._fitted()
        given = np.ascontiguousarray(latents, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != self.n_latents:
            raise InputError(f"Latents are (n, {self.n_latents}); got {given.shape}.")
        height, width, *colours = self.image_shape_
        with torch.no_grad():
            flat = module.images(torch.from_numpy(given)).numpy()
        planes = flat.reshape(len(given), *colours, height, width)
        return np.ascontiguousarray(np.moveaxis(planes, 1, -1) if colours else planes)


def _planes(values: Float) -> Tensor:
    """Return images as (n, channels, height, width)."""
    images = torch.from_numpy(values if values.ndim == 4 else values[..., None])
    return images.permute(0, 3, 1, 2).contiguous()


def _flat(planes: Tensor) -> Tensor:
    return planes.reshape(len(planes), -1)

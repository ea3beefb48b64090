"""What may be known of a person's units before any training: places, descriptions, clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError


@dataclass(frozen=True, eq=False)
class PersonUnits:
    """What an aligner may know of a person's units.

    Parameters
    ----------
    n_units : int
        Units (voxels, vertices, sensors) in the person's responses.
    positions : float array (n_units, 3), optional
        Where each is, in millimetres of a space that people share, such as MNI.
    clusters : int array (n_units,), optional
        Which shared cluster each belongs to, counted from 0, as `SharedClusters.assign` gives.
    embeddings : float array (n_units, d), optional
        Vectors that describe each unit, such as its weights in an encoder.

    Raises
    ------
    InputError
        If there is no unit, or an array has another shape or holds what is no finite number.
    """

    n_units: int
    positions: NDArray[Any] | None = None
    clusters: NDArray[Any] | None = None
    embeddings: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        check_sizes(n_units=self.n_units)
        object.__setattr__(self, "n_units", int(self.n_units))
        for name, shape in (("positions", (self.n_units, 3)), ("embeddings", (self.n_units, None))):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _table(getattr(self, name), shape, name))
        if self.clusters is not None:
            clusters = np.asarray(self.clusters)
            integers = clusters.dtype.kind in "iu" and clusters.shape == (self.n_units,)
            if not integers or clusters.min() < 0:
                raise InputError(
                    f"clusters must be whole numbers from 0, one for each of {self.n_units} units; "
                    f"got {clusters.dtype} of shape {clusters.shape}. "
                    "SharedClusters.assign(embeddings) gives them."
                )
            object.__setattr__(self, "clusters", clusters.astype(np.int64))

    def placeholder(self) -> "PersonUnits":
        """Return the same for weights to be loaded into, which bring clusters along."""
        nowhere = np.zeros(self.n_units, dtype=np.int64)
        return PersonUnits(self.n_units, self.positions, nowhere, self.embeddings)


def _table(values: ArrayLike, shape: tuple[int | None, int | None], what: str) -> NDArray[Any]:
    """Return a float32 copy of a finite table, or say how it differs from the shape."""
    array = np.asarray(values)
    fits = array.ndim == 2 and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind not in "iuf" or not fits or 0 in array.shape:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(
            f"{what} must be real numbers of shape ({wanted}); got {array.dtype} of shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold NaN or infinity; leave those units out or mend them.")
    return array.astype(np.float32)


# -- clusters that people share --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SharedClusters:
    r"""A Gaussian mixture over the embeddings of all people's units, with diagonal covariances.

    Attributes
    ----------
    weights : float array (n_clusters,)
        Share of each cluster; they sum to 1.
    means, variances : float array (n_clusters, d)
    """

    weights: NDArray[Any]
    means: NDArray[Any]
    variances: NDArray[Any]

    def assign(self, embeddings: ArrayLike) -> NDArray[np.int64]:
        r"""Return the cluster that each unit most probably belongs to.

        .. math::
            \arg\max_c \; \ln w_c - \tfrac12 \sum_j \big(\ln \sigma_{cj}^2
            + (e_j - \mu_{cj})^2 / \sigma_{cj}^2\big)

        Parameters
        ----------
        embeddings : float array (n_units, d)

        Returns
        -------
        int array (n_units,)

        Raises
        ------
        InputError
            If embeddings have another width than those of the mixture, or are not finite.
        """
        values = _table(embeddings, (None, self.means.shape[1]), "embeddings").astype(np.float64)
        precision = 1 / self.variances
        distance = values**2 @ precision.T - 2 * values @ (self.means * precision).T
        constant = (self.means**2 * precision + np.log(self.variances)).sum(axis=1)
        best: NDArray[Any] = (np.log(self.weights) - (distance + constant) / 2).argmax(axis=1)
        return best.astype(np.int64)


def fit_clusters(
    embeddings: Mapping[str, ArrayLike], n_clusters: int = 128, *, seed: int = 0
) -> SharedClusters:
    """Fit a Gaussian mixture to the unit embeddings of all people together.

    Parameters
    ----------
    embeddings : mapping of str to float array (n_units, d)
        Each person's, of one width d: what units do in a space that people share, such as weights
        of an encoder whose features are the same for all.
    n_clusters : int, default=128
    seed : int, default=0
        Of k-means, which the mixture starts from.

    Returns
    -------
    SharedClusters

    Raises
    ------
    InputError
        If widths differ, or there are fewer units than clusters.

    References
    ----------
    Beliy et al. (2026), Brain-IT: image reconstruction from fMRI via a brain-interaction
    transformer.
    """
    from sklearn.mixture import GaussianMixture

    check_sizes(n_clusters=n_clusters)
    tables = {s: _table(e, (None, None), f"embeddings of {s!r}") for s, e in embeddings.items()}
    widths = {subject: table.shape[1] for subject, table in tables.items()}
    if len(set(widths.values())) != 1:
        raise InputError(
            f"Embeddings of all people have one width, so that they lie in one space; got {widths}."
        )
    units = np.concatenate(list(tables.values())).astype(np.float64)
    if len(units) < n_clusters:
        raise InputError(f"{n_clusters} clusters need as many units; got {len(units)}.")
    mixture = GaussianMixture(n_clusters, covariance_type="diag", random_state=seed).fit(units)
    return SharedClusters(mixture.weights_, mixture.means_, mixture.covariances_)


# -- checks of settings ----------------------------------------------------------------------------


def check_sizes(**sizes: Any) -> None:
    """Refuse sizes that are no whole numbers of 1 or more.

    Raises
    ------
    InputError
        That names the first which is not.
    """
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be a whole number of 1 or more; got {value!r}.")


def check_share(**shares: float) -> None:
    """Refuse shares (of dropout) that are not from 0 to below 1.

    Raises
    ------
    InputError
        That names the first which is not.
    """
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} is a share from 0 to below 1; got {value!r}.")


def unit_tuning(responses: ArrayLike, axes: ArrayLike) -> NDArray[np.float32]:
    """Return what each unit responds to: its correlation with some axes of the stimuli.

    Parameters
    ----------
    responses : float array (n, n_units)
    axes : float array (n, d)
        What the stimuli of the same rows score on axes that are the same for all people.

    Returns
    -------
    float array (n_units, d)
        0 for a unit or an axis that does not vary.
    """
    sides = []
    for values in (responses, axes):
        centred = np.asarray(values, dtype=np.float64)
        centred = centred - centred.mean(axis=0)
        norm = np.linalg.norm(centred, axis=0)
        sides.append(centred / np.where(norm > 0, norm, np.inf))
    return np.asarray(sides[0].T @ sides[1], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class TuningClusters:
    """Shared clusters of units by what they respond to.

    Attributes
    ----------
    axes : float array (width, d)
        Leading principal axes of the stimuli's embeddings.
    mixture : SharedClusters
        Of units' correlations with the scores on these axes.
    """

    axes: NDArray[Any]
    mixture: SharedClusters

    @classmethod
    def fit(
        cls,
        responses: Mapping[str, NDArray[Any]],
        embeddings: Mapping[str, NDArray[Any]],
        n_clusters: int,
        *,
        n_axes: int = 16,
        seed: int = 0,
    ) -> Self:
        """Fit them to the units of all people.

        Parameters
        ----------
        responses : mapping of str to float array (n, n_units)
        embeddings : mapping of str to float array (n, width)
            Of what was shown, centred, of the same rows.
        n_clusters, n_axes, seed : int
        """
        every = np.concatenate(list(embeddings.values()))
        axes = np.linalg.svd(every, full_matrices=False)[2][:n_axes].T
        tuning = {name: unit_tuning(responses[name], embeddings[name] @ axes) for name in responses}
        return cls(axes, fit_clusters(tuning, n_clusters, seed=seed))

    def assign(self, responses: NDArray[Any], embeddings: NDArray[Any]) -> NDArray[np.int64]:
        """Return the cluster of each unit of a person."""
        return self.mixture.assign(unit_tuning(responses, embeddings @ self.axes))

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it as arrays by name, which `from_arrays` takes."""
        names = ("weights", "means", "variances")
        return {"axes": self.axes} | {name: getattr(self.mixture, name) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return what `as_arrays` was given of."""
        mixture = {name: values for name, values in arrays.items() if name != "axes"}
        return cls(arrays["axes"], SharedClusters(**mixture))

"""Intervals over people and stimuli, and a null by permuting which stimulus is which.

People *and* conditions are samples of larger sets. The bootstrap draws both, together and each
alone, because drawing both at once counts the measurement noise twice; the variances of the three
are combined as in Schütt et al. (2023).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation.intervals import Interval
from brainkit.evaluation.permutation import PermutationResult, permutation_p
from brainkit.evaluation.rsa.comparison import (
    as_directions,
    check_comparison,
    compare_rdms,
    require_spread,
)
from brainkit.evaluation.rsa.matrices import FEWEST_CONDITIONS, rdm_stack, same_conditions, upper
from brainkit.evaluation.rsa.resampling import Resampled

# A bootstrap sample of so few conditions that fewer than 3 differ is drawn anew.
_SAMPLE_TRIES = 1000


@dataclass(frozen=True)
class RDMBootstrap:
    """Mean similarity over people under resampling.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_models, n_groups)
        Mean similarity over people; a group is a region, say.
    both, subjects, conditions : numpy.ndarray of shape (n_samples, n_models, n_groups)
        The same after drawing people and conditions, people alone, conditions alone. Within a
        sample all models and groups share the draw, so that differences are paired.
    n_subjects, n_conditions : int
        How many there are to draw from.
    """

    observed: NDArray[np.float64]
    both: NDArray[np.float64]
    subjects: NDArray[np.float64]
    conditions: NDArray[np.float64]
    n_subjects: int
    n_conditions: int

    def interval(self, weights: ArrayLike, level: float = 0.95) -> Interval:
        """Give a weighted sum of the mean similarities with its interval.

        The interval is value ± t · √variance, t with min(people, conditions) - 1 degrees of
        freedom and the variance combined from the three bootstraps; it covers new people *and* new
        conditions.

        Parameters
        ----------
        weights : array_like of shape (n_models, n_groups)
            1 for one cell alone; 1 and -1 for a difference.
        level : float, default 0.95
            Coverage aimed at.

        Returns
        -------
        Interval
            `n` is the number of people.
        """
        from scipy.stats import t

        w = np.asarray(weights, dtype=np.float64)
        if w.shape != self.observed.shape or not 0 < level < 1:
            raise InputError(
                f"weights have shape {w.shape} and level is {level}: expected "
                f"{self.observed.shape} and 0 < level < 1."
            )
        value = float((w * self.observed).sum())
        drawn = [
            np.einsum("blg,lg->b", sample, w).var(ddof=1)
            for sample in (self.both, self.subjects, self.conditions)
        ]
        spread = np.sqrt(_combined(np.array(drawn), self.n_subjects, self.n_conditions))
        freedom = min(self.n_subjects, self.n_conditions) - 1
        half = float(t.ppf((1 + level) / 2, freedom) * spread)
        most = float(np.abs(w).sum())  # a similarity lies in -1 to 1
        low, high = max(value - half, -most), min(value + half, most)
        n_units = min(self.n_subjects, self.n_conditions)
        return Interval(value, low, high, self.n_subjects, level, n_units)

    def cell(self, model: int, group: int = 0, level: float = 0.95) -> Interval:
        """Give one model's mean similarity in one group with its interval."""
        weights = np.zeros(self.observed.shape)
        weights[model, group] = 1.0
        return self.interval(weights, level)


@dataclass(frozen=True)
class RDMPermutation(PermutationResult):
    """Outcome of a test against relabelled conditions.

    Attributes
    ----------
    null : numpy.ndarray of shape (n, n_models, n_groups)
        Mean similarities under permutation. `observed`, `p` and `p_familywise` are
        (n_models, n_groups); the family are all models of all groups.
    """

    null: NDArray[np.float64]


def bootstrap_rdms(
    models: ArrayLike,
    data: ArrayLike,
    comparison: str = "spearman",
    *,
    n: int = 1000,
    seed: int = 0,
) -> RDMBootstrap:
    """Resample people and conditions.

    A condition that is drawn twice would be at distance 0 from itself, which every model predicts:
    such pairs are left out of the sample.

    Parameters
    ----------
    models : array_like of shape (n_models, n_conditions, n_conditions)
        RDMs, as of network layers.
    data : array_like of shape ([n_groups,] n_subjects, n_conditions, n_conditions)
        RDMs of the same people, one group a region.
    comparison : str, default "spearman"
        As for :func:`brainkit.evaluation.rsa.compare_rdms`.
    n : int, default 1000
        Bootstrap samples.
    seed : int, default 0
        The same seed gives the same samples.

    Returns
    -------
    RDMBootstrap

    Raises
    ------
    InputError
        If there are fewer than 2 people, `n` is below 2, or the RDMs do not fit.
    """
    stacks, people = _checked(models, data, comparison)
    if n < 2 or people.shape[1] < 2:
        raise InputError(
            f"n={n} samples of {people.shape[1]} people: a bootstrap needs at least 2 of each."
        )
    n_groups, n_subjects, n_conditions = people.shape[:3]
    every = people.reshape(-1, n_conditions, n_conditions)
    whole = np.asarray(compare_rdms(stacks, every, comparison))
    resampled = Resampled(stacks, every, comparison)
    similarity = whole.reshape(len(stacks), n_groups, n_subjects)
    generator = rng(seed, "rsa", "bootstrap")
    drawn = {name: np.empty((n, len(stacks), n_groups)) for name in ("both", "subjects", "only")}
    for sample in track(range(n), "bootstrap over people and stimuli"):
        who = generator.integers(n_subjects, size=n_subjects)
        which = _draw_conditions(generator, n_conditions)
        again = resampled(which).reshape(similarity.shape)
        drawn["subjects"][sample] = similarity[:, :, who].mean(axis=2)
        drawn["only"][sample] = again.mean(axis=2)
        drawn["both"][sample] = again[:, :, who].mean(axis=2)
    return RDMBootstrap(
        similarity.mean(axis=2), drawn["both"], drawn["subjects"], drawn["only"],
        n_subjects, n_conditions,
    )  # fmt: skip


def permute_rdms(
    models: ArrayLike,
    data: ArrayLike,
    comparison: str = "spearman",
    *,
    n: int = 1000,
    seed: int = 0,
) -> RDMPermutation:
    """Test mean similarities against relabelled conditions (Kriegeskorte et al., 2008).

    Conditions of all models are relabelled alike, whole rows and columns at a time: the pairs of an
    RDM share conditions and are not exchangeable one by one.

    Parameters
    ----------
    models, data, comparison, seed
        As for :func:`bootstrap_rdms`.
    n : int, default 1000
        Permutations.

    Returns
    -------
    RDMPermutation
        One-sided: higher similarities are better.

    Raises
    ------
    InputError
        If `n` is below 1, or the RDMs do not fit.
    """
    stacks, people = _checked(models, data, comparison)
    if n < 1:
        raise InputError(f"n={n}: a permutation test needs at least 1 permutation.")
    score = _Relabelled(stacks, people, comparison)
    n_conditions = stacks.shape[1]
    observed = score(np.arange(n_conditions))
    generator = rng(seed, "rsa", "permutation")
    null = np.empty((n, *observed.shape))
    for draw in track(range(n), "permutations of stimuli"):
        null[draw] = score(generator.permutation(n_conditions))
    p = permutation_p(observed, null)
    family = permutation_p(observed, null, max_statistic=True)
    return RDMPermutation(observed, p, family, n, null)


class _Relabelled:
    """Mean similarity over people after relabelling the models' conditions."""

    def __init__(
        self, models: NDArray[np.float64], people: NDArray[np.float64], comparison: str
    ) -> None:
        self.models, self.people, self.comparison = models, people, comparison
        if comparison != "kendall-tau-a":
            self.directions = as_directions(models, comparison)
            self.mean = np.stack([as_directions(one, comparison).mean(axis=0) for one in people])

    def __call__(self, order: NDArray[np.intp]) -> NDArray[np.float64]:
        """Give (n_models, n_groups)."""
        if self.comparison == "kendall-tau-a":
            moved = self.models[:, order][:, :, order]
            return np.stack(
                [
                    np.asarray(compare_rdms(moved, one, self.comparison)).mean(axis=1)
                    for one in self.people
                ],
                axis=1,
            )
        # Moving the one mean of the people is cheaper than moving every model the other way.
        back = np.argsort(order)
        moved = self.mean[:, back][:, :, back]
        return np.asarray(np.einsum("lij,gij->lg", self.directions, moved, optimize=True))


def _checked(
    models: ArrayLike, data: ArrayLike, comparison: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return models (n_models, n, n) and people (n_groups, n_subjects, n, n)."""
    check_comparison(comparison)
    stacks = rdm_stack(models, "models")
    given = np.asarray(data)
    groups = given if given.ndim == 4 else given[None]
    if not len(groups):
        raise InputError("data holds no group of people.")
    people = np.stack([rdm_stack(part, "data") for part in groups])
    same_conditions(stacks, people, ("models", "data"))
    require_spread(upper(stacks), comparison, "models")
    for part in people:
        require_spread(upper(part), comparison, "data")
    return stacks, people


def _draw_conditions(generator: np.random.Generator, n: int) -> NDArray[np.intp]:
    for _ in range(_SAMPLE_TRIES):
        which = np.sort(generator.integers(n, size=n))
        if len(np.unique(which)) >= FEWEST_CONDITIONS:
            return which
    raise InputError(f"No bootstrap sample of {n} conditions held 3 different ones.")


def _combined(
    variances: NDArray[np.float64], n_subjects: int, n_conditions: int
) -> NDArray[np.float64]:
    """Combine the variances of (both, people alone, conditions alone) into one (rsatoolbox)."""
    from rsatoolbox.util.inference_util import extract_variances

    given = variances[:, None, None]
    model, _, _ = extract_variances(
        given, nc_included=False, n_rdm=n_subjects, n_pattern=n_conditions
    )
    return np.asarray(model, dtype=np.float64).squeeze()

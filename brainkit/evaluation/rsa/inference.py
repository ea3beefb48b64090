"""What RDMs of some people and stimuli say of others: intervals, nulls, ceilings, the best model.

People *and* conditions are samples of larger sets. The bootstrap draws both, together and each
alone, because drawing both at once counts the measurement noise twice; the variances of the three
are combined as in Schütt et al. (2023).

A ceiling says how similar to people's RDMs a model's RDM is expected to be, and can be, as people
differ (`rdm_noise_ceiling`). The best of many models is partly the luckiest. Its similarity is
unbiased where other people chose it, and "region A is best matched earlier than region B" is only
as good as it is stable under resampling.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, unknown_name
from brainkit.evaluation.intervals import Interval
from brainkit.evaluation.permutation import PermutationResult, permutation_p
from brainkit.evaluation.rsa.comparison import (
    TOOLBOX_NAMES,
    RDMSimilarity,
    Resampled,
    as_directions,
    check_comparison,
    compare_rdms,
    require_spread,
)
from brainkit.evaluation.rsa.rdms import FEWEST_CONDITIONS, rdm_stack, same_conditions, upper

# A bootstrap sample of so few conditions that fewer than 3 differ is drawn anew.
_SAMPLE_TRIES = 1000
CEILING_POOLS = ("matched", "mean")


@dataclass(frozen=True)
class RDMBootstrap:
    """Mean similarity over people under resampling.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_models, n_groups)
        Mean similarity over people; a group is a region, say.
    both, subjects, conditions : numpy.ndarray of shape (n_samples, n_models, n_groups)
        Similarities after drawing people and conditions, people alone, conditions alone. Within a
        sample all models and groups share the draw, so that differences are paired.
    n_subjects, n_conditions : int
        Numbers of people and of conditions to draw from.
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
        Measure of similarity, see :func:`brainkit.evaluation.rsa.compare_rdms`.
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
    observed = np.asarray(compare_rdms(stacks, every, comparison))
    resampled = Resampled(stacks, every, comparison)
    similarity = observed.reshape(len(stacks), n_groups, n_subjects)
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
        See :func:`bootstrap_rdms`.
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
        # (n_models, n_groups)
        return np.asarray(np.einsum("lij,gij->lg", self.directions, moved, optimize=True))


def _checked(
    models: ArrayLike, data: ArrayLike, comparison: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return models (n_models, n, n) and people (n_groups, n_subjects, n, n)."""
    check_comparison(comparison)
    stacks = rdm_stack(models, "models")
    values = np.asarray(data)
    groups = values if values.ndim == 4 else values[None]
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

    components = variances[:, None, None]
    model, _, _ = extract_variances(
        components, nc_included=False, n_rdm=n_subjects, n_pattern=n_conditions
    )
    return np.asarray(model, dtype=np.float64).squeeze()


@dataclass(frozen=True)
class RDMCeiling:
    """Where the similarity of the true model is expected, and what no model can exceed.

    Attributes
    ----------
    lower, upper : float
        Estimates of how similar the true model is to people's RDMs on average, too low and too
        high: the mean similarity of each person's RDM with the pooled RDM of all others, and with
        that of all, their own included. A model may lie above `upper` where the pooled RDM is not
        the best one; see `bound`.
    bound : float
        No RDM, with ties or without, is more similar to these people's RDMs on average. For
        ``"pearson"``, ``"cosine"`` and ``"rho-a"`` (pooled as ``"matched"``) it is `upper`. For
        ``"spearman"`` it is higher: the pooled RDM is ranked anew, which drives values that are
        nearly equal a whole rank apart, and a model that ties them comes nearer to the people. For
        ``"kendall-tau-a"`` and ``"spearman"`` it need not be reached.
    comparison : str
        Measure by which RDMs were compared.
    pool : str
        Way in which RDMs were pooled.
    n_subjects : int
        People.
    """

    lower: float
    upper: float
    bound: float
    comparison: str
    pool: str
    n_subjects: int


def rdm_noise_ceiling(
    data: ArrayLike, comparison: str = "spearman", *, pool: str = "matched"
) -> RDMCeiling:
    """Estimate the noise ceiling of people's RDMs (Nili et al., 2014).

    Parameters
    ----------
    data : array_like of shape (n_subjects, n_conditions, n_conditions)
        The RDM of each person.
    comparison : str, default "spearman"
        Measure of similarity, see :func:`brainkit.evaluation.rsa.compare_rdms`.
    pool : {"matched", "mean"}, default "matched"
        ``"matched"``: RDMs are brought to the scale of the comparison (ranked, standardised, or
        divided by their length) before they are averaged, as in rsatoolbox. ``"mean"``:
        dissimilarities are averaged as they are, so that people with larger ones weigh more.

    Returns
    -------
    RDMCeiling
        Two estimates, and a bound, which does not depend on `pool`.

    Notes ----- With d_i the person's RDM as the direction of which the comparison takes inner
    products (ranks for Spearman's ρ, centred, of length 1), and m̂ that of a model, the mean
    similarity is ⟨m̂, mean d_i⟩ ≤ ‖mean d_i‖, which is the bound. Where m̂ can be any direction it
    is reached. The ranks of a model are no such direction. In ρ-a they are not divided by their own
    length, ties can only lose, and the order of the mean ranks is the best of all (Schütt et al.,
    2023). For Kendall's τ-a the bound is the mean, over pairs of dissimilarities, of |mean sign of
    their difference|.

    Raises
    ------
    UnknownNameError
        If there is no such comparison or way to pool.
    InputError
        If there are fewer than 2 people, or an RDM is constant.
    """
    check_comparison(comparison)
    if pool not in CEILING_POOLS:
        raise unknown_name("way to pool RDMs", pool, CEILING_POOLS)
    stack = rdm_stack(data, "data")
    if len(stack) < 2:
        raise InputError("A noise ceiling needs the RDMs of at least 2 people; got 1.")
    require_spread(upper(stack), comparison, "data")
    estimate = _mean_ceiling if pool == "mean" else _matched_ceiling
    low, high = estimate(stack, comparison)
    return RDMCeiling(low, high, _bound(stack, comparison), comparison, pool, len(stack))


def _matched_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    with warnings.catch_warnings():
        # It warns that the pooled RDM of Kendall's tau is the mean of ranks; our text says so.
        warnings.filterwarnings("ignore", message="Noise ceiling for tau")
        low, high = boot_noise_ceiling(RDMs(upper(stack)), method=TOOLBOX_NAMES[comparison])
    return float(low), float(high)


def _bound(stack: NDArray[np.float64], comparison: str) -> float:
    """Return what no RDM's mean similarity with the stack exceeds."""
    if comparison == "kendall-tau-a":
        pairs = upper(stack)
        agreed = 0.0
        for column in range(pairs.shape[1] - 1):
            signs = np.sign(pairs[:, column, None] - pairs[:, column + 1 :])
            agreed += float(np.abs(signs.mean(axis=0)).sum())
        return agreed / math.comb(pairs.shape[1], 2)
    mean = as_directions(stack, comparison).mean(axis=0)
    if comparison == "rho-a":
        best = as_directions(mean[None], comparison)[0]  # the order of the mean ranks
        return float((best * mean).sum())
    return float(np.sqrt((mean**2).sum()))


def _mean_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    total = stack.sum(axis=0)
    n = len(stack)
    each = [
        float(compare_rdms((total - person) / (n - 1), person, comparison).item())
        for person in stack
    ]
    upper = np.asarray(compare_rdms(total / n, stack, comparison))
    return float(np.mean(each)), float(upper.mean())


@dataclass(frozen=True)
class PeakDifference:
    """How many models later the best one of a group comes than that of another.

    Attributes
    ----------
    value : int
        Observed: rank of the second group's best model less that of the first.
    low, high : float
        Percentile interval over people and conditions.
    later : float
        Share of bootstrap samples in which the second group's best comes later; equal ranks count
        as not later.
    level : float
        Coverage aimed at.
    n_subjects : int
        People.
    """

    value: int
    low: float
    high: float
    later: float
    level: float
    n_subjects: int


def held_out_best(similarities: RDMSimilarity) -> tuple[RDMSimilarity, NDArray[np.intp]]:
    """Score for each person the model that is best for all the *other* people.

    Parameters
    ----------
    similarities : RDMSimilarity of shape (n_models, n_subjects)
        Similarity of every model's RDM with every person's.

    Returns
    -------
    scores : RDMSimilarity of shape (n_subjects,)
        Each person's similarity with the model that the others chose.
    chosen : numpy.ndarray of int of shape (n_subjects,)
        The model that the other people chose for each person.

    Raises
    ------
    InputError
        If there are fewer than 2 people, or no model.
    """
    values = np.asarray(similarities)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise InputError(
            f"similarities have shape {values.shape}, expected (n_models, n_subjects) with at "
            "least 1 model and 2 people."
        )
    others = values.sum(axis=1, keepdims=True) - values
    chosen = others.argmax(axis=0)
    scores = values[chosen, np.arange(values.shape[1])]
    return RDMSimilarity(scores, similarities.comparison), chosen


def held_out_interval(similarities: RDMSimilarity, level: float = 0.95) -> Interval:
    r"""Return the mean of `held_out_best` with an interval over people.

    People's scores hang together, since each has a say in what the others are scored on. The
    variance is therefore the jackknife's, with one person at a time left out of the choice too, and
    no less than that of independent scores::

        mean ± t_{n-1} · max(√((n-1)/n Σ_i (m_(i) - m_(·))²), s/√n)

    Intervals of the scores alone cover a true 0 in 71 to 81 % of simulated runs with 4 to 12 models
    and 12 people whom none of them resembles; these in 94 to 96 %, and in more where models are
    alike.

    Parameters
    ----------
    similarities : RDMSimilarity of shape (n_models, n_subjects)
        Similarity of every model's RDM with every person's.
    level : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    Interval
        Without ends where there are fewer than 3 people.

    Raises
    ------
    InputError
        If there are fewer than 2 people, or no model, or `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: expected 0 < level < 1.")
    scores = np.asarray(held_out_best(similarities)[0], dtype=np.float64)
    n, value = len(scores), float(scores.mean())
    if n < 3:
        return Interval(value, np.nan, np.nan, n, level, n)
    values = np.asarray(similarities)
    without = np.array([
        np.asarray(held_out_best(
            RDMSimilarity(np.delete(values, person, axis=1), similarities.comparison)
        )[0]).mean()
        for person in range(n)
    ])  # fmt: skip
    jackknife = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    error = max(jackknife, scores.std(ddof=1) / np.sqrt(n))
    reach = float(t.ppf((1 + level) / 2, n - 1) * error)
    return Interval(value, max(value - reach, -1.0), min(value + reach, 1.0), n, level, n)


def peak_difference(
    bootstrap: RDMBootstrap, first: int, second: int, level: float = 0.95
) -> PeakDifference:
    """Compare where along ordered models two groups are best matched.

    Parameters
    ----------
    bootstrap : RDMBootstrap
        Samples of models that stand in order, such as the layers of a network.
    first, second : int
        Groups.
    level : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    PeakDifference
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: expected 0 < level < 1.")
    best = bootstrap.observed.argmax(axis=0)
    drawn: ArrayLike = bootstrap.both.argmax(axis=1)
    gaps = np.asarray(drawn)[:, second] - np.asarray(drawn)[:, first]
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    later = float((gaps > 0).mean())
    value = int(best[second] - best[first])
    return PeakDifference(value, float(low), float(high), later, level, bootstrap.n_subjects)

"""Aligners that learn from responses: what people's brains did tells how they correspond."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.alignment.aligner import Affine, Aligner, Block, Real
from brainkit.alignment.anatomical import known_positions, parcel_units, refuse_other_parcels
from brainkit.alignment.common_stimuli import Person
from brainkit.alignment.solutions import (
    Scores,
    Way,
    column_means,
    isometry_onto,
    mean_of_others,
    quick_basis,
    quick_products,
    rotate_together,
    share_responses,
    thin_scores,
)
from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Index
from brainkit.errors import InputError, listed, unknown_name
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_estimator import mean_variance, penalty_grid
from brainkit.linear.ridge_solver import RidgeFit, ridge_cv

Float64 = NDArray[np.float64]
RIDGE = "ridge"
MAPS = ("isometry", RIDGE)


class Identity(Aligner):
    """No alignment: units of all people are taken to correspond as they stand.

    For people in one space (a template's voxels, the same sensors), and as the plain rival of all
    others. Needs as many units in everyone.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit import Recording
    >>> from brainkit.alignment import Identity
    >>> people = [Recording.from_arrays(np.ones((4, 3)), subject=name) for name in "ab"]
    >>> Identity().fit(people).transform(np.zeros((2, 3)), "b").shape
    (2, 3)
    """

    needs_responses = False
    invertible = True

    def _learn(self, people: list[Person]) -> None:
        self.width_ = people[0].values.shape[1]
        for person in people:
            self._learn_new(person, np.empty(0, dtype=np.int64))

    def _learn_new(self, person: Person, rows: Index) -> None:
        n_units = person.values.shape[1]
        if n_units != self.width_:
            raise InputError(
                f"Identity takes units to correspond as they stand: {person.subject!r} has "
                f"{n_units} units, others have {self.width_}. SharedResponse, Procrustes and "
                "ByFeatures take unequal counts."
            )

    def _map(self, subject: str) -> Affine:
        return Affine.of()

    _inverse_map = _map


class OwnUnits(Aligner):
    """Everyone's own units, side by side with nobody else's: the decoder aligns people itself.

    For decoders that tell people apart and train a part of themselves for each, such as
    `brainkit.decoding.ContrastiveDecoder` (see `brainkit.alignment.trained`). What is called the
    shared space here is as wide as the widest person; beyond a person's units it holds zeros, and
    its columns mean something else in everybody. No other model may take it.

    Attributes
    ----------
    width_ : int
        Units of whoever has the most.
    columns_ : dict of str to array of int (n_units,)
        Columns of the shared space that are each person's.
    positions_ : dict of str to array (n_units, 3)
        Where the units are, of people whose recording says it; see
        `brainkit.alignment.anatomical.unit_positions`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit import Recording
    >>> from brainkit.alignment import OwnUnits
    >>> people = [Recording.from_arrays(np.ones((4, n)), subject=f"s{n}") for n in (2, 3)]
    >>> OwnUnits().fit(people).transform(np.ones((1, 2)), "s2")
    array([[1., 1., 0.]], dtype=float32)
    """

    aligns = False
    invertible = True

    def _learn(self, people: list[Person]) -> None:
        self.width_ = max(person.values.shape[1] for person in people)
        super()._learn(people)

    def _learn_new(self, person: Person, rows: Index) -> None:
        n_units = person.values.shape[1]
        if n_units > self.width_:
            raise InputError(
                f"{person.subject!r} has {n_units} units, more than all in fit ({self.width_}): "
                "fit with this person among the others."
            )
        self._keep("columns_", person.subject, np.arange(n_units))
        positions = known_positions(person.recording)
        if positions is not None:
            self._keep("positions_", person.subject, positions)

    def _map(self, subject: str) -> Affine:
        return Affine((Block(None, ()),), places=self.columns_[subject], width=self.width_)

    def _inverse_map(self, subject: str) -> Affine:
        return Affine((Block(self.columns_[subject], ()),))


class PCA(Aligner):
    r"""Each person's own leading principal components: a common length, and no correspondence.

    .. math:: z = (x - m_s) V_s

    The k-th dimensions of two people have nothing in common but their rank; a model of several
    people needs something after it (`SharedResponse` finds it from common stimuli). It shortens
    responses of any number of units, and is the rival that says what shortening alone gives.

    Parameters
    ----------
    n_components : int, default=50
        Dimensions; a person needs more samples and as many units.

    Attributes
    ----------
    mean_ : dict of str to float32 array (n_units,)
    basis_ : dict of str to float32 array (n_units, n_components)
        Orthonormal columns; in each the sample of the largest score is positive.
    """

    invertible = True

    def __init__(self, n_components: int = 50) -> None:
        self.n_components = n_components

    def _learn_new(self, person: Person, rows: Index) -> None:
        thin = thin_scores(person.values, self.n_components)
        n_found = thin.scores.shape[1]
        if n_found < self.n_components:
            raise InputError(
                f"PCA(n_components={self.n_components}): the {len(person.values)} samples of "
                f"{person.subject!r} in {person.values.shape[1]} units span {n_found} directions. "
                f"Use n_components={n_found} or fewer."
            )
        peaks = np.abs(thin.scores).argmax(axis=0)
        signs = np.sign(thin.scores[peaks, np.arange(n_found)])
        self._keep("mean_", person.subject, thin.mean.astype(np.float32))
        self._keep("basis_", person.subject, thin.axes(person.values, np.diag(signs)))

    def _map(self, subject: str) -> Affine:
        return Affine.of(self.basis_[subject], before=self.mean_[subject])

    def _inverse_map(self, subject: str) -> Affine:
        return Affine.of(self.basis_[subject].T, after=self.mean_[subject])


class RidgeToReference(Aligner):
    r"""Every unit of one person, the reference, predicted from each other person's units by ridge.

    .. math:: \hat y_v = b_v + (x - m_s)' w_v, \qquad \min_w \lVert y_v - X w - b \rVert^2 +
              \alpha_v \lVert w \rVert^2

    with a penalty for each of the reference's units. The shared space are those units; the
    reference's own responses pass through unchanged, noisier than the predicted ones, in both
    directions: of all people it is the reference alone that the shared space leads back to.
    Solved in the directions that samples span: no matrix of voxels by voxels is formed.

    Parameters
    ----------
    reference : str, optional
        The reference's name; the first person where not given.
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, as those of `brainkit.encoding.VoxelwiseRidge`.
    cv : int, default=5
        Folds by which they are chosen: of stimuli, or of consecutive samples.
    seed : int, default=0
        Of the folds.

    Attributes
    ----------
    reference_ : str
    template_ : float32 array (n_samples, n_units of the reference)
        The reference's responses to the common stimuli.
    mean_, axes_, weights_ : dict of str to float32 array
        (n_units,), (n_units, rank) and (rank, n_units of the reference).
    level_ : dict of str to float32 array (n_units of the reference,)
    """

    needs_common_stimuli = True

    def __init__(
        self,
        reference: str | None = None,
        alphas: Any = "auto",
        cv: int = 5,
        seed: int = 0,
    ) -> None:
        self.reference, self.alphas, self.cv, self.seed = reference, alphas, cv, seed

    def _learn(self, people: list[Person]) -> None:
        names = [person.subject for person in people]
        self.reference_ = names[0] if self.reference is None else self.reference
        if self.reference_ not in names:
            raise unknown_name("subject (the reference)", self.reference_, names)
        self.template_ = people[names.index(self.reference_)].values
        for person in people:
            if person.subject != self.reference_:
                self._learn_new(person, np.arange(len(self.template_)))

    def _learn_new(self, person: Person, rows: Index) -> None:
        thin = thin_scores(person.values)
        stimulus = _stimulus_of(rows, len(self.template_), len(self.stimuli_))
        scale = float((thin.scores**2).sum()) / person.values.size  # mean variance of a unit
        pair = thin.scores, self.template_[rows]
        penalties = Penalties(scale, self.alphas, self.cv, self.seed)
        fit = cross_validated_ridge("RidgeToReference", person, pair, stimulus, penalties)
        self._keep("mean_", person.subject, thin.mean.astype(np.float32))
        self._keep("axes_", person.subject, thin.axes(person.values))
        self._keep("weights_", person.subject, np.ascontiguousarray(fit.coef.T, dtype=np.float32))
        self._keep("level_", person.subject, fit.intercept.astype(np.float32))

    def _map(self, subject: str) -> Affine:
        if subject == self.reference_:
            return Affine.of()
        factors = self.axes_[subject], self.weights_[subject]
        return Affine.of(*factors, before=self.mean_[subject], after=self.level_[subject])

    def leads_back_to(self, subject: str) -> bool:
        """Tell whether a person is the reference, whose units the shared space are."""
        return subject == getattr(self, "reference_", self.reference)

    def _inverse_map(self, subject: str) -> Affine:
        return Affine.of() if self.leads_back_to(subject) else super()._inverse_map(subject)


@dataclass(frozen=True)
class Penalties:
    """Which penalties ridge may choose from, and by which folds.

    Attributes
    ----------
    scale : float
        Mean variance of a predictor, by which those of ``"auto"`` are multiplied.
    alphas, cv, seed
        As in `RidgeToReference`.
    """

    scale: float
    alphas: Any = "auto"
    cv: int = 5
    seed: int = 0


def cross_validated_ridge(
    whose: str, person: Person, pair: tuple[Float64, Real], stimulus: Index, penalties: Penalties
) -> RidgeFit:
    """Fit ridge with folds of whole stimuli, or of consecutive samples of continuous data."""
    X, Y = pair
    n_folds = min(penalties.cv, len(np.unique(stimulus)))
    if n_folds < 2:
        raise InputError(
            f"{whose} chooses its penalties by cross-validation, which needs two samples or more; "
            f"{person.subject!r} has {len(stimulus)}. Identity and Coordinates need none."
        )
    seed = penalties.seed if person.recording.samples is None else None
    folds = kfold(len(stimulus), n_folds, groups=stimulus, seed=seed)
    scale = mean_variance(np.array([penalties.scale]))
    return ridge_cv(X, Y, penalty_grid(penalties.alphas, scale), folds)


def _ridge_onto(whose: str, person: Person, values: Real, shared: Float64, stimulus: Index) -> Way:
    """Fit ridge from some units of a person to the shared dimensions, and from these back.

    Parameters
    ----------
    whose : str
        The aligner's name.
    person : Person
    values : array (n_samples, n_units)
        Of all of the person's units, or of a parcel's.
    shared : float64 array (n_samples, n_dimensions)
    stimulus : array of int (n_samples,)
        Of which stimulus each sample is.
    """
    thin = thin_scores(values)
    variance = float((thin.scores**2).sum()) / values.size  # mean variance of a unit
    forth = cross_validated_ridge(
        whose, person, (thin.scores, shared), stimulus, Penalties(variance)
    )
    back = cross_validated_ridge(
        whose, person, (shared, values), stimulus, Penalties(float(shared.var()))
    )
    return Way(
        mean=thin.mean.astype(np.float32),
        forth=thin.axes(values, forth.coef.T),
        back=np.ascontiguousarray(back.coef.T, dtype=np.float32),
        level=shared.mean(axis=0).astype(np.float32),
    )


def _stimulus_of(rows: Index, n_samples: int, n_stimuli: int) -> Index:
    """Return of which stimulus each sample is: every stimulus has as many samples, its times."""
    return rows // (n_samples // n_stimuli)


def _refuse_unknown_maps(aligner: "Procrustes | SharedResponse") -> None:
    """Raise if `maps` names no way to the shared space."""
    if aligner.maps not in MAPS:
        raise unknown_name("maps", aligner.maps, MAPS)


class Procrustes(Aligner):
    r"""Rotations of all people's responses onto their common mean (hyperalignment).

    .. math:: \min_{R_s, T} \sum_s \lVert (X_s - 1 m_s') R_s - T \rVert_F^2

    by generalised Procrustes analysis, R an isometry of the directions that a person's samples
    span. Where voxels are as many in all people and fewer than samples it is an orthogonal matrix;
    people of unequal counts share the dimensions that their samples span. It keeps all distances
    between responses, noise and all, and so needs nearly as many trials of a new person as there
    are dimensions; `SharedResponse` keeps the leading ones alone, and ``maps="ridge"`` shrinks
    those that others do not confirm. No matrix of voxels by voxels is formed.

    Parameters
    ----------
    parcels : str, mapping of str to array, path or NIfTI image, optional
        Align within parcels alone: a column of the units, labels (n_units,) of each person, or a
        volume of labels, which is brought to each person's grid. All people need units in every
        parcel. Units without a label (0, empty or missing) are left out. By default the whole is
        one parcel.
    reference : str, optional
        The shared space are this person's units. By default it are the principal axes of the common
        mean, those of each parcel after one another.
    maps : {"isometry", "ridge"}, default="isometry"
        How each person comes to the common mean once it is there, and back: by the isometry, or by
        ridge in both directions, a penalty for each dimension and for each unit, chosen by five
        folds of stimuli. Where a person is one of those whose mean it is, ridge sees the mean of
        the others. Ridge is the better for noisy responses, and no longer keeps distances.
    n_iterations : int, default=20
        At most.
    tolerance : float, default=1e-4
        Stop where the loss falls by less than this share of the total variance.

    Attributes
    ----------
    mean_ : dict of str to float32 array (n_units,)
    basis_ : dict of str to dict of str to float32 array (n_units of the parcel, rank)
        Of each person and parcel; of isometries orthonormal columns.
    back_ : dict of str to dict of str to float32 array (rank, n_units of the parcel)
        Of ridge: the way back. That of isometries is `basis_`, transposed.
    level_ : dict of str to dict of str to float32 array (rank,)
        What a person's mean comes to.
    units_ : dict of str to dict of str to array of int
        Units of each person's parcels.
    template_ : dict of str to float64 array (n_samples, rank)
        The common mean in each parcel.
    losses_ : dict of str to array (n_iterations,)

    References
    ----------
    Haxby et al. (2011). A common, high-dimensional model of the representational space in human
    ventral temporal cortex. Neuron 72:404. Gower (1975). Generalized Procrustes analysis.
    Psychometrika 40:33.
    """

    needs_common_stimuli = True
    invertible = True

    def __init__(
        self,
        parcels: Any = None,
        reference: str | None = None,
        maps: str = "isometry",
        n_iterations: int = 20,
        tolerance: float = 1e-4,
    ) -> None:
        self.parcels, self.reference, self.maps = parcels, reference, maps
        self.n_iterations, self.tolerance = n_iterations, tolerance

    def _learn(self, people: list[Person]) -> None:
        names = [person.subject for person in people]
        if self.reference is not None and self.reference not in names:
            raise unknown_name("subject (the reference)", self.reference, names)
        _refuse_unknown_maps(self)
        self.units_ = {p.subject: parcel_units(p.recording, self.parcels) for p in people}
        refuse_other_parcels(self.units_)
        ways: dict[str, dict[str, Way]] = {name: {} for name in names}
        self.template_, self.losses_ = {}, {}
        for parcel in next(iter(self.units_.values())):
            parts = [_columns(p.values, self.units_[p.subject][parcel]) for p in people]
            scores = [thin_scores(part) for part in parts]
            self._refuse_flat(scores, names, parcel)
            common = rotate_together(
                [part.scores for part in scores],
                n_iterations=self.n_iterations,
                tolerance=self.tolerance,
            )
            self.template_[parcel], self.losses_[parcel] = common.shared, np.array(common.losses)
            stimulus = self._stimulus(np.arange(len(common.shared)))
            for person, part, one, turn in zip(people, parts, scores, common.maps, strict=True):
                if self.maps == RIDGE:
                    others = mean_of_others(common.shared, one.scores @ turn, len(people))
                    way = _ridge_onto("Procrustes", person, part, others, stimulus)
                else:
                    way = Way(one.mean, one.axes(part, turn))
                ways[person.subject][parcel] = way
        for person in people:
            self._keep_ways(person, ways[person.subject])

    def _learn_new(self, person: Person, rows: Index) -> None:
        units = parcel_units(person.recording, self.parcels)
        refuse_other_parcels({**self.units_, person.subject: units})
        if self.maps != RIDGE:
            _refuse_few(self, person, max(part.shape[1] for part in self.template_.values()))
        ways, stimulus = {}, self._stimulus(rows)
        for parcel, columns in units.items():
            part, shared = _columns(person.values, columns), self.template_[parcel][rows]
            if self.maps == RIDGE:
                ways[parcel] = _ridge_onto("Procrustes", person, part, shared, stimulus)
            else:
                ways[parcel] = isometry_onto(part, shared)
        self._keep("units_", person.subject, units)
        self._keep_ways(person, ways)

    def _stimulus(self, rows: Index) -> Index:
        n_samples = len(next(iter(self.template_.values())))
        return _stimulus_of(rows, n_samples, len(self.stimuli_))

    def _keep_ways(self, person: Person, ways: Mapping[str, Way]) -> None:
        mean = np.zeros(person.values.shape[1], dtype=np.float32)
        for parcel, way in ways.items():
            mean[self.units_[person.subject][parcel]] = way.mean
        self._keep("mean_", person.subject, mean)
        self._keep("basis_", person.subject, {name: way.forth for name, way in ways.items()})
        if self.maps == RIDGE:
            self._keep("back_", person.subject, {name: way.back for name, way in ways.items()})
            self._keep("level_", person.subject, {name: way.level for name, way in ways.items()})

    @staticmethod
    def _refuse_flat(scores: Sequence[Scores], names: list[str], parcel: str) -> None:
        flat = [n for n, part in zip(names, scores, strict=True) if not part.scores.shape[1]]
        if flat:
            raise InputError(
                f"The units of the parcel {parcel!r} do not vary in {listed(flat)}: leave them out."
            )

    def _map(self, subject: str) -> Affine:
        units, basis, mean = self.units_[subject], self.basis_[subject], self.mean_[subject]
        if self.reference is None:
            blocks = tuple(Block(units[name], (basis[name],)) for name in units)
            return Affine(blocks, before=mean, after=self._levels(subject))
        back = {name: self._back(self.reference, name) for name in units}
        blocks = tuple(Block(units[name], (basis[name], back[name])) for name in units)
        return self._to_units(blocks, self.reference, before=mean, moved=(subject, back, 1))

    def _inverse_map(self, subject: str) -> Affine:
        back = {name: self._back(subject, name) for name in self.template_}
        dimensions = self._dimensions()
        if self.reference is None:
            blocks = tuple(Block(dimensions[name], (back[name],)) for name in back)
            return self._to_units(blocks, subject, before=self._levels(subject))
        forth = self.basis_[self.reference]
        blocks = tuple(Block(dimensions[name], (forth[name], back[name])) for name in back)
        before = self.mean_[self.reference]
        return self._to_units(blocks, subject, before=before, moved=(subject, back, -1))

    def _back(self, subject: str, parcel: str) -> Real:
        """Return a person's way back from the dimensions of a parcel, (rank, units)."""
        back: Real = (
            self.back_[subject][parcel] if self.maps == RIDGE else self.basis_[subject][parcel].T
        )
        return back

    def _levels(self, subject: str) -> Real | None:
        """Return what a person's mean comes to in the shared dimensions, where it is not 0."""
        if self.maps != RIDGE:
            return None
        return np.concatenate([self.level_[subject][name] for name in self.template_])

    def _to_units(
        self,
        blocks: tuple[Block, ...],
        subject: str,
        *,
        before: Real | None,
        moved: tuple[str, Mapping[str, Real], int] | None = None,
    ) -> Affine:
        """Return the map whose blocks come out as the units of a person's parcels.

        `moved` says by whose level, led through which way back, and with which sign the units are
        shifted.
        """
        units = self.units_[subject]
        after = self.mean_[subject].copy()
        if moved is not None and self.maps == RIDGE:
            whose, back, sign = moved
            for name in self.template_:
                after[units[name]] += sign * (self.level_[whose][name] @ back[name])
        places = np.concatenate([units[name] for name in self.template_])
        return Affine(blocks, before, after, places, len(after))

    def _dimensions(self) -> Mapping[str, Index]:
        """Return which dimensions of the shared space are each parcel's."""
        if self.reference is not None:
            return self.units_[self.reference]
        ends = np.cumsum([part.shape[1] for part in self.template_.values()])
        return {
            name: np.arange(end - part.shape[1], end)
            for (name, part), end in zip(self.template_.items(), ends, strict=True)
        }


def _columns(values: Real, units: Index) -> Real:
    """Return a parcel's units, which are ascending; all of them without a copy."""
    return values if len(units) == values.shape[1] else values[:, units]


class SharedResponse(Aligner):
    r"""Shared response model: a few dimensions that people's responses have in common.

    .. math:: \min_{W_s, S} \sum_s \lVert X_s - 1 m_s' - S W_s' \rVert_F^2, \qquad W_s'W_s = I

    Each person's mean is learned, of new people too. W carries noise as it carries signal; with
    ``maps="ridge"`` each person comes to S, and back, by ridge. It starts from the leading
    principal components of all people together, so that nothing in it is random; `seed` starts it
    elsewhere. Voxels are gone through once, all iterations are among samples.

    Parameters
    ----------
    n_components : int, default=50
        Dimensions of S; fewer than there are samples. People may have unequal numbers of units.
    maps : {"isometry", "ridge"}, default="isometry"
        How each person comes to S once it is there, and back: as in `Procrustes`.
    seed : int, optional
        Start from a random S instead.
    n_iterations : int, default=100
        At most.
    tolerance : float, default=1e-6
        Stop where the loss falls by less than this share of the total variance.

    Attributes
    ----------
    mean_ : dict of str to float32 array (n_units,)
    basis_ : dict of str to float32 array (n_units, n_components)
        W, orthonormal columns; of ridge the weights that lead to S.
    back_ : dict of str to float32 array (n_components, n_units)
        Of ridge: the way back.
    level_ : dict of str to float32 array (n_components,)
        Of ridge: what a person's mean comes to.
    template_ : float64 array (n_samples, n_components)
        S, uncorrelated columns, the largest variance first.
    losses_ : array (n_iterations,)
        Never rises.

    References
    ----------
    Chen et al. (2015). A reduced-dimension fMRI shared response model. NeurIPS 28.
    """

    needs_common_stimuli = True
    invertible = True

    def __init__(
        self,
        n_components: int = 50,
        maps: str = "isometry",
        seed: int | None = None,
        n_iterations: int = 100,
        tolerance: float = 1e-6,
    ) -> None:
        self.n_components, self.maps, self.seed = n_components, maps, seed
        self.n_iterations, self.tolerance = n_iterations, tolerance

    def _learn(self, people: list[Person]) -> None:
        _refuse_unknown_maps(self)
        for person in people:
            _refuse_few(self, person, self.n_components)
            if person.values.shape[1] < self.n_components:
                raise InputError(
                    f"SharedResponse(n_components={self.n_components}): {person.subject!r} has "
                    f"{person.values.shape[1]} units; use that many components or fewer."
                )
        means = [column_means(person.values) for person in people]
        products = [quick_products(p.values, mean) for p, mean in zip(people, means, strict=True)]
        common = share_responses(
            products, self.n_components, start=self._start(len(products[0])),
            n_iterations=self.n_iterations, tolerance=self.tolerance,
        )  # fmt: skip
        self.template_, self.losses_ = common.shared, np.array(common.losses)
        stimulus = self._stimulus(np.arange(len(self.template_)))
        for person, mean, K, weights in zip(people, means, products, common.maps, strict=True):
            if self.maps == RIDGE:
                others = mean_of_others(common.shared, K @ weights, len(people))
                self._keep_way(person, self._by_ridge(person, others, stimulus))
            else:
                self._keep_way(person, Way(mean, quick_basis(person.values, mean, weights)))

    def _start(self, n_samples: int) -> Float64 | None:
        if self.seed is None:
            return None
        return rng(self.seed, "shared response").standard_normal((n_samples, self.n_components))

    def _learn_new(self, person: Person, rows: Index) -> None:
        shared = self.template_[rows]
        if self.maps == RIDGE:
            self._keep_way(person, self._by_ridge(person, shared, self._stimulus(rows)))
            return
        _refuse_few(self, person, self.n_components)
        self._keep_way(person, isometry_onto(person.values, shared))

    def _stimulus(self, rows: Index) -> Index:
        return _stimulus_of(rows, len(self.template_), len(self.stimuli_))

    @staticmethod
    def _by_ridge(person: Person, shared: Float64, stimulus: Index) -> Way:
        return _ridge_onto("SharedResponse", person, person.values, shared, stimulus)

    def _keep_way(self, person: Person, way: Way) -> None:
        self._keep("mean_", person.subject, way.mean.astype(np.float32))
        self._keep("basis_", person.subject, way.forth)
        if self.maps == RIDGE:
            self._keep("back_", person.subject, way.back)
            self._keep("level_", person.subject, way.level)

    def _map(self, subject: str) -> Affine:
        level = self.level_[subject] if self.maps == RIDGE else None
        return Affine.of(self.basis_[subject], before=self.mean_[subject], after=level)

    def _inverse_map(self, subject: str) -> Affine:
        if self.maps != RIDGE:
            return Affine.of(self.basis_[subject].T, after=self.mean_[subject])
        level, back = self.level_[subject], self.back_[subject]
        return Affine.of(back, before=level, after=self.mean_[subject])


def _refuse_few(aligner: Aligner, person: Person, rank: int) -> None:
    """Raise where a person has too few samples for a map of so many dimensions."""
    n_samples = len(person.values)
    if n_samples > rank:
        return
    fits = f"SharedResponse(n_components={n_samples - 1}) or fewer, " if n_samples > 1 else ""
    raise InputError(
        f"{type(aligner).__name__} has {rank} dimensions here, and {person.subject!r} has "
        f"{n_samples} samples in common with the others: it takes {rank + 1} or more. With so few, "
        f"{fits}RidgeToReference (which shrinks) or Coordinates (which needs none) will do."
    )

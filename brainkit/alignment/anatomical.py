"""Aligners that need no responses, only where units are; and the parcels that units lie in."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.alignment.aligner import Affine, Aligner, Real
from brainkit.alignment.common_stimuli import Person
from brainkit.arrays.seeds import rng
from brainkit.arrays.sources import Index
from brainkit.data.recording import Recording
from brainkit.errors import InputError, listed, unknown_name

Float64 = NDArray[np.float64]
Frame = Literal["person", "shared"]
AXES = ("x", "y", "z")
CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)


def unit_positions(recording: Recording) -> Float64:
    """Return where units are, (n_units, 3): their columns x, y, z, or the space's millimetres.

    Raises
    ------
    InputError
        If the recording says of no unit, or not of all, where it is.
    """
    if all(name in recording.units for name in AXES):
        places = recording.units[list(AXES)].to_numpy(dtype=np.float64)
    elif (coordinates := getattr(recording.space, "coordinates", None)) is not None:
        places = np.asarray(coordinates(), dtype=np.float64)
    else:
        raise InputError(
            f"Nothing says where the units of {recording.subject!r} are: give its table of units "
            "columns x, y and z, or the recording a VolumeSpace."
        )
    if not np.isfinite(places).all():
        n_lost = int((~np.isfinite(places)).any(axis=1).sum())
        raise InputError(
            f"{n_lost} units of {recording.subject!r} have no position; leave them out with "
            "recording.select(units=...)."
        )
    return places


def known_positions(recording: Recording) -> Float64 | None:
    """Return where units are, see `unit_positions`; None where the recording does not say."""
    try:
        return unit_positions(recording)
    except InputError:
        return None


# -- parcels ----------------------------------------------------------------------------------


def parcel_units(recording: Recording, parcels: Any) -> dict[str, Index]:
    """Return the units of each parcel, parcels in sorted order; one named ``all`` where None.

    Parameters
    ----------
    recording : Recording
    parcels : None, str, mapping of str to array, path or NIfTI image
        See `Procrustes`.

    Raises
    ------
    InputError
        If there is no such column or map, it has not one label a unit, or no unit has a label.
    """
    if parcels is None:
        return {"all": np.arange(recording.responses.shape[1])}
    labels = pd.Series(_labels(recording, parcels))
    if pd.api.types.is_float_dtype(labels) and (labels.dropna() % 1 == 0).all():
        labels = labels.astype("Int64")  # whole numbers with missing ones among them
    blank = labels.isna() | labels.astype(str).isin(["0", "", "False"])
    names = labels.astype(str).to_numpy()
    labels_present = sorted(set(names[~blank]), key=lambda name: (len(name), name))
    if not labels_present:
        raise InputError(
            f"No unit of {recording.subject!r} lies in a parcel: all {len(labels)} labels are 0, "
            "empty or missing."
        )
    return {name: np.flatnonzero((names == name) & ~blank.to_numpy()) for name in labels_present}


def _labels(recording: Recording, parcels: Any) -> NDArray[Any]:
    n_units = recording.responses.shape[1]
    if isinstance(parcels, Mapping):
        if recording.subject not in parcels:
            raise unknown_name("subject (of parcels)", recording.subject, list(parcels))
        labels = np.asarray(parcels[recording.subject])
        if labels.shape != (n_units,):
            raise InputError(
                f"parcels must have one label for each of the {n_units} units of "
                f"{recording.subject!r}; got shape {labels.shape}."
            )
        return labels
    if isinstance(parcels, str) and parcels in recording.units:
        return np.asarray(recording.units[parcels])
    if isinstance(parcels, str) and not parcels.endswith((".nii", ".nii.gz")):
        raise unknown_name("column of units (parcels)", parcels, list(recording.units.columns))
    space: Any = _volume(recording, "parcels of a volume")
    from nilearn.image import resample_to_img

    image: Any = resample_to_img(
        str(parcels) if hasattr(parcels, "__fspath__") else parcels,
        space.to_image(np.zeros(n_units)), interpolation="nearest",
        force_resample=True, copy_header=True,
    )  # fmt: skip
    flat: NDArray[Any] = np.asarray(image.get_fdata()).reshape(-1)
    return np.asarray(flat[space.voxels])


def _volume(recording: Recording, what: str) -> Any:
    if not hasattr(recording.space, "voxels"):
        raise InputError(
            f"{what} needs people in volumes; the recording of {recording.subject!r} has "
            f"{'no space' if recording.space is None else type(recording.space).__name__}. Give "
            "labels as a column of its units, or as a mapping of each person's labels."
        )
    return recording.space


def refuse_other_parcels(people: Mapping[str, Collection[str]]) -> None:
    """Raise where parcels differ between people.

    Raises
    ------
    UnknownNameError
        Naming a parcel that not everybody has.
    """
    names = [list(parcels) for parcels in people.values()]
    everywhere = [name for name in names[0] if all(name in other for other in names)]
    for subject, other in people.items():
        alone = [name for name in other if name not in everywhere]
        if alone:
            error = unknown_name("parcel in some people", alone[0], everywhere)
            raise type(error)(
                f"{error} {listed(alone)} of {subject!r} are not in everybody: give people the "
                "same labels, or leave these units out."
            )


# -- aligners ---------------------------------------------------------------------------------


class Pooled(Aligner):
    """Units in a stated order, pooled to a common length by the means of equal stretches.

    Stretch i of L holds units floor(i V / L) to ceil((i + 1) V / L) of V in order, as adaptive
    average pooling does; neighbours overlap by a unit where V / L is not whole.

    Parameters
    ----------
    length : int, default=1024
    axis : str, optional
        Order of the units, ascending: "x", "y" (from back to front) or "z", or a column of the
        table of units; as they stand where not given.

    Attributes
    ----------
    order_ : dict of str to array of int (n_units,)

    References
    ----------
    Wang et al. (2024). MindBridge: a cross-subject brain decoding framework. CVPR.
    """

    needs_responses = False

    def __init__(self, length: int = 1024, axis: str | None = None) -> None:
        self.length, self.axis = length, axis

    def _learn_new(self, person: Person, rows: Index) -> None:
        if self.length < 1:
            raise InputError(f"Pooled(length={self.length}): length must be 1 or more.")
        self._keep("order_", person.subject, self._order(person.recording))

    def _order(self, recording: Recording) -> Index:
        if self.axis is None:
            return np.arange(recording.responses.shape[1])
        if self.axis in recording.units:
            values = recording.units[self.axis].to_numpy()
        elif self.axis in AXES:
            values = unit_positions(recording)[:, AXES.index(self.axis)]
        else:
            known = [*AXES, *map(str, recording.units.columns)]
            raise unknown_name("axis to order units by", self.axis, known)
        return np.argsort(values, kind="stable")

    def _map(self, subject: str) -> Affine:
        from scipy.sparse import csr_array

        order = self.order_[subject]
        edges = np.arange(self.length + 1) * len(order)
        first, last = edges[:-1] // self.length, -(-edges[1:] // self.length)
        counts = last - first
        dimension = np.repeat(np.arange(self.length), counts)
        start = np.repeat(first - np.cumsum(counts) + counts, counts)
        unit = order[start + np.arange(counts.sum())]
        weights = (1 / counts[dimension]).astype(np.float32)
        shape = len(order), self.length
        return Affine.of(csr_array((weights, (unit, dimension)), shape=shape))


class Resample(Aligner):
    """Units averaged in the parcels of a map, or volumes brought to a template's grid, by nilearn.

    Parameters
    ----------
    parcels : str, mapping of str to array, path or NIfTI image, optional
        As in `Procrustes`: the shared space are the means of parcels, in sorted order.
    template : path or NIfTI image, optional
        A mask: the shared space are its voxels that are not 0, in C order of the grid. Values come
        by trilinear interpolation as in `nilearn.image.resample_to_img`, with 0 where a person has
        no voxel; weights are read off from it once, for each person. People's volumes and the
        template must be in one space of millimetres, such as MNI's.

    Attributes
    ----------
    sources_, targets_ : dict of str to array of int (n_weights,)
        Unit and dimension of each weight.
    weights_ : dict of str to float32 array (n_weights,)
    names_ : list of str
        Of parcels.
    width_ : int
    """

    needs_responses = False

    def __init__(self, parcels: Any = None, template: Any = None) -> None:
        self.parcels, self.template = parcels, template

    def _learn(self, people: list[Person]) -> None:
        if (self.parcels is None) == (self.template is None):
            raise InputError("Resample takes parcels= or template=, one of the two.")
        if self.parcels is not None:
            units = {p.subject: parcel_units(p.recording, self.parcels) for p in people}
            refuse_other_parcels(units)
            self.names_ = list(next(iter(units.values())))
        super()._learn(people)

    def _learn_new(self, person: Person, rows: Index) -> None:
        if self.parcels is not None:
            parcels = parcel_units(person.recording, self.parcels)
            refuse_other_parcels({"the others": self.names_, person.subject: list(parcels)})
            sizes = np.array([len(units) for units in parcels.values()])
            sources = np.concatenate(list(parcels.values()))
            targets = np.repeat(np.arange(len(sizes)), sizes)
            weights, self.width_ = 1 / sizes[targets], len(sizes)
        else:
            sources, targets, weights, self.width_ = _interpolation(person.recording, self.template)
        self._keep("sources_", person.subject, sources)
        self._keep("targets_", person.subject, targets)
        self._keep("weights_", person.subject, weights.astype(np.float32))

    def _map(self, subject: str) -> Affine:
        from scipy.sparse import csr_array

        places = self.sources_[subject], self.targets_[subject]
        shape = self.n_units_[subject], self.width_
        return Affine.of(csr_array((self.weights_[subject], places), shape=shape))


def _interpolation(recording: Recording, template: Any) -> tuple[Index, Index, Float64, int]:
    """Return which voxel of a person goes to which of a template, by what weight, and its width.

    A place between voxels takes from eight, each of another parity of its three indices. Volumes
    that are 1 at the person's voxels of one parity, resampled, hold the weights of these.
    """
    from nilearn.image import load_img

    space: Any = _volume(recording, "Resample(template=...)")
    mask = load_img(template)
    inside = np.flatnonzero(np.asarray(mask.get_fdata()) != 0)
    weights = _resampled_parities(recording, mask)[inside]  # (targets, 8)
    places = np.stack(np.unravel_index(inside, mask.shape[:3]), axis=1)
    affine = np.linalg.inv(space.affine) @ mask.affine
    low = np.floor(places @ affine[:3, :3].T + affine[:3, 3] + 1e-6).astype(np.int64)
    corner = low[:, None] + (CORNERS - low[:, None]) % 2  # (targets, 8, 3)
    on_grid = ((corner >= 0) & (corner < space.shape)).all(axis=2) & (weights > 1e-6)
    target, which = np.nonzero(on_grid)
    unit_at = np.full(int(np.prod(space.shape)), -1)
    unit_at[space.voxels] = np.arange(len(space.voxels))
    source = unit_at[np.ravel_multi_index(tuple(corner[target, which].T), space.shape)]
    kept = source >= 0
    if not kept.any():
        raise _elsewhere(recording)
    return source[kept], target[kept], weights[target, which][kept], len(inside)


def _resampled_parities(recording: Recording, mask: Any) -> Float64:
    """Bring volumes of a person's voxels of each parity to a grid, (voxels of the grid, 8)."""
    from nibabel.nifti1 import Nifti1Image
    from nilearn.image import resample_to_img
    from nilearn.image.resampling import BoundingBoxError

    space: Any = recording.space
    grid = np.stack(np.unravel_index(space.voxels, space.shape), axis=1)  # (n_units, 3)
    probes = np.zeros((*space.shape, len(CORNERS)), dtype=np.float32)
    probes[(*grid.T, ((grid % 2) @ [4, 2, 1]))] = 1  # in the order of CORNERS
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Resampling binary images")
            resampled: Any = resample_to_img(
                Nifti1Image(probes, space.affine), mask, interpolation="linear",
                force_resample=True, copy_header=True,
            )  # fmt: skip
    except BoundingBoxError as error:
        raise _elsewhere(recording) from error
    return np.asarray(resampled.get_fdata()).reshape(-1, len(CORNERS))


def _elsewhere(recording: Recording) -> InputError:
    return InputError(
        f"No voxel of {recording.subject!r} lies within the template: are both in the same space "
        "of millimetres?"
    )


class Coordinates(Aligner):
    r"""Attention of fixed queries over positions of units: soft parcels, by coordinates alone.

    With Fourier features :math:`\phi(p) = [\cos 2\pi B p, \sin 2\pi B p]` of a unit's position,
    B a seeded Gaussian matrix (n_frequencies, 3) of standard deviation `bandwidth`, and of
    n_queries seeded positions q,

    .. math:: z_k = \sum_v a_{kv} x_v, \qquad
              a_{kv} = \mathrm{softmax}_v\left(\phi(q_k)'\phi(p_v) / \sqrt{2 F}\right)

    for F frequencies. For one person a is a matrix that depends on no response: a new person needs
    coordinates only, of any number of units.

    Parameters
    ----------
    n_queries : int, default=256
    n_frequencies : int, default=192
    bandwidth : float, default=0.25
        In cycles per standard deviation of positions: the larger, the smaller the soft parcels.
    frame : {"person", "shared"}, default="person"
        Positions are measured from the centre of each person's own units in units of their spread;
        or of all people's of `fit` together, where coordinates are in one space such as MNI's.
    seed : int, default=0
        Of frequencies and queries.

    Attributes
    ----------
    attention_ : dict of str to float32 array (n_units, n_queries)
        Columns add up to 1.
    centre_, spread_ : array (3,), float
        Of the shared frame.

    References
    ----------
    Qiu et al. (2025). MindLLM: a subject-agnostic and versatile model for fMRI-to-text decoding.
    ICML. There queries and the features of positions are trained; here they are fixed.
    """

    needs_responses = False

    def __init__(
        self,
        n_queries: int = 256,
        n_frequencies: int = 192,
        bandwidth: float = 0.25,
        frame: Frame = "person",
        seed: int = 0,
    ) -> None:
        self.n_queries, self.n_frequencies = n_queries, n_frequencies
        self.bandwidth, self.frame, self.seed = bandwidth, frame, seed

    def _learn(self, people: list[Person]) -> None:
        if self.frame not in get_args(Frame):
            raise unknown_name("frame", self.frame, get_args(Frame))
        everywhere = np.concatenate([unit_positions(person.recording) for person in people])
        self.centre_, self.spread_ = _frame_of(everywhere)
        super()._learn(people)

    def _learn_new(self, person: Person, rows: Index) -> None:
        places = unit_positions(person.recording)
        in_own_frame = self.frame == "person"
        centre, spread = _frame_of(places) if in_own_frame else (self.centre_, self.spread_)
        self._keep("attention_", person.subject, self._attention((places - centre) / spread))

    def _attention(self, places: Float64) -> Real:
        """Return the softmax weights of units for every query, (n_units, n_queries)."""
        generator = rng(self.seed, "coordinates")
        B = self.bandwidth * generator.standard_normal((self.n_frequencies, 3))
        queries = generator.standard_normal((self.n_queries, 3))
        keys, asked = _fourier(places, B), _fourier(queries, B)
        scores = keys @ asked.T / np.sqrt(2 * self.n_frequencies)  # (n_units, n_queries)
        weights = np.exp(scores - scores.max(axis=0))
        return np.asarray(weights / weights.sum(axis=0), dtype=np.float32)

    def _map(self, subject: str) -> Affine:
        return Affine.of(self.attention_[subject])


def _fourier(places: Float64, B: Float64) -> Float64:
    angles = 2 * np.pi * places @ B.T  # (n, n_frequencies)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _frame_of(places: Float64) -> tuple[Float64, float]:
    centre = places.mean(axis=0)
    spread = float(np.sqrt(((places - centre) ** 2).mean()))
    if spread == 0:
        raise InputError("All units stand at one place: their coordinates tell nothing apart.")
    return centre, spread

"""What the subjects of one world have in common, and what each has alone.

All subjects hear the same common channels. Each also has private channels, out of which everything
that is linear in the common channels and in the private channels of earlier subjects has been taken
over a reference set of scenes (a block Gram-Schmidt). No linear mixture of other subjects'
responses can therefore reach a subject's own part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from brainkit.errors import InputError
from brainkit.world import category, early
from brainkit.world.objects import CATEGORIES
from brainkit.world.scenes import REFERENCE_IDS, Content, SceneWorld
from brainkit.world.workers import in_order

FloatArray = npt.NDArray[np.float64]
ReadImages = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]

N_ENERGY: Final = 20
N_SURFACE: Final = 16
N_CONTENT: Final = len(CATEGORIES) * (category.N_PLACES + 1)
N_COMMON: Final = N_ENERGY + N_SURFACE + N_CONTENT
N_SUBJECTS: Final = 8
_BATCH: Final = 250
_PRIVATE_KEY: Final = 303


@dataclass(frozen=True, slots=True)
class Components:
    """Leading principal components of standardised channels, scaled to unit variance.

    Attributes
    ----------
    mean, sd : float array (n_channels,)
    project : float array (n_channels, n_components)
        Takes standardised channels to components.
    lift : float array (n_components, n_channels)
        Takes weights on standardised channels to weights on components.
    variance : float
        Fraction of the channels' variance that the components hold.
    """

    mean: FloatArray
    sd: FloatArray
    project: FloatArray
    lift: FloatArray
    variance: float

    @classmethod
    def fit(cls, channels: FloatArray, n_components: int) -> "Components":
        """Find the components of channels (n_scenes, n_channels)."""
        mean, sd = channels.mean(axis=0), channels.std(axis=0)
        scaled = (channels - mean) / sd
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        top, basis = values[::-1][:n_components], vectors[:, ::-1][:, :n_components]
        # An eigenvector's sign is arbitrary; its largest entry is made positive.
        basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(n_components)])
        share = float(top.sum() / values.sum())
        return cls(mean, sd, basis / np.sqrt(top), (basis * np.sqrt(top)).T, share)

    def transform(self, channels: FloatArray) -> FloatArray:
        """Give the components of channels."""
        return np.asarray(((channels - self.mean) / self.sd) @ self.project)


class Population:
    """The common and private channels of a world's eight subjects.

    Parameters
    ----------
    world : SceneWorld
    seed : int
        Seed of the subjects; another seed gives other people looking at the same scenes.
    gate : bool
        Whether content competes (see `category.content_channels`).

    Notes
    -----
    *Common channels*, 86 of them: the leading 20 principal components, over the reference set, of
    the 18 × 64 standardised energies, the leading 16 of the 3 × 64 standardised surfaces
    (`early.common_channels`), all of unit variance, and the 50 standardised content channels
    (`category.content_channels`).

    *Private channels* of subject s, 34 of them: 18 energies (`early.PrivateFilters`) and 16
    functions of content (`category.PrivateContent`), standardised, minus their least-squares
    prediction over the reference set from a constant, the common channels and the private channels
    of subjects 1..s-1, and standardised again.

    The reference set is the 4,000 scenes with ids in ``scenes.REFERENCE_IDS``.
    """

    def __init__(self, world: SceneWorld, seed: int = 0, *, gate: bool = True) -> None:
        self.world = world
        self.seed = seed
        self.gate = gate
        self._eye = SceneWorld(world.seed, early.EYE_SIZE)
        starts = range(0, len(REFERENCE_IDS), _BATCH)
        painted = in_order(lambda k: self._eye.paint(REFERENCE_IDS[k : k + _BATCH]), starts)
        self._images = np.concatenate(list(painted))
        self._content = self._eye.content(REFERENCE_IDS)
        raw = _in_batches(self._images, early.common_channels)
        energy, surface = _split_types(raw)
        self.energy = Components.fit(energy, N_ENERGY)
        self.surface = Components.fit(surface, N_SURFACE)
        things = self._raw_content(self._content)
        self._content_mean, self._content_sd = things.mean(axis=0), things.std(axis=0)
        self.reference_common = self._join_common(raw, things)
        self._filters: list[early.PrivateFilters] = []
        self._functions: list[category.PrivateContent] = []
        self._private_scale: list[tuple[FloatArray, FloatArray]] = []
        self._coefficients: list[FloatArray] = []
        self._residual_sd: list[FloatArray] = []
        self._reference_private: list[FloatArray] = []

    def __repr__(self) -> str:
        return f"Population({self.world!r}, seed={self.seed}, gate={self.gate})"

    @property
    def content_sd(self) -> FloatArray:
        """Standard deviation of each content channel over the reference set, (5, 10)."""
        return np.asarray(self._content_sd.reshape(len(CATEGORIES), -1))

    def reference_private(self, subject: int) -> FloatArray:
        """Give a subject's private channels of the reference set, (4000, 34)."""
        if not 1 <= subject <= N_SUBJECTS:
            raise InputError(f"A population has subjects 1..{N_SUBJECTS}, but {subject} was given.")
        while len(self._reference_private) < subject:
            self._extend()
        return self._reference_private[subject - 1]

    def private_layout(self, subject: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Say where a subject's private channels look, and how much of each is private.

        Parameters
        ----------
        subject : int
            1..8.

        Returns
        -------
        x, y : float64 array (18,)
            Centres of the private energies' windows, fractions of the side.
        residual_sd : float64 array (34,)
            Standard deviation of each standardised channel after the Gram-Schmidt step.
        """
        self.reference_private(subject)
        filters = self._filters[subject - 1]
        return filters.x.ravel(), filters.y.ravel(), self._residual_sd[subject - 1]

    def channels(
        self,
        scene_ids: Sequence[int] | npt.NDArray[np.integer],
        subject: int,
        *,
        images: ReadImages | None = None,
        workers: int | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Give the common and one subject's private channels of scenes.

        Parameters
        ----------
        scene_ids : sequence of int
        subject : int
            1..8.
        images : callable, optional
            Takes ids and gives their pictures as painted at 64 pixels a side, where they are at
            hand; it is called from several threads. They are painted anew by default.
        workers : int, optional
            Threads (see `workers.n_workers`); their number does not change the result.

        Returns
        -------
        common : float64 array (n_scenes, 86)
        private : float64 array (n_scenes, 34)

        Raises
        ------
        InputError
            If an id belongs to the reference set.
        """
        ids = np.asarray(scene_ids, dtype=np.int64)
        reserved = (ids >= REFERENCE_IDS.start) & (ids < REFERENCE_IDS.stop)
        if reserved.any():
            raise InputError(
                f"Scene {int(ids[reserved][0])} belongs to the world's reference set and cannot be "
                f"shown; use ids under {REFERENCE_IDS.start}."
            )
        self.reference_private(subject)
        look_at = images or self._eye.paint
        batches = (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
        parts = list(
            in_order(lambda batch: self._hear(batch, look_at(batch), subject), batches, workers)
        )
        commons = [np.empty((0, N_COMMON)), *(common for common, _ in parts)]
        n_private = self._residual_sd[subject - 1].size
        privates = [np.empty((0, n_private)), *(private for _, private in parts)]
        return np.concatenate(commons), np.concatenate(privates)

    def _hear(
        self, ids: npt.NDArray[np.int64], images: npt.NDArray[np.uint8], subject: int
    ) -> tuple[FloatArray, FloatArray]:
        """Give the common and one subject's private channels of one batch of scenes."""
        sight = early.look(images)
        content = self._eye.content(ids)
        common = self._join_common(early.common_channels(sight), self._raw_content(content))
        # Every earlier subject's residuals enter the next one's regression.
        known = [np.ones((len(ids), 1)), common]
        for number in range(subject):
            energies = self._filters[number].channels(sight)
            functions = self._functions[number].channels(content)
            raw = np.concatenate([energies, functions], axis=1)
            known.append(self._residual(raw, np.concatenate(known, axis=1), number))
        return common, known[-1]

    def _raw_content(self, content: Content) -> FloatArray:
        channels = category.content_channels(content, self.gate)
        return channels.reshape(len(channels), -1)

    def _join_common(self, raw: npt.NDArray[np.float32], things: FloatArray) -> FloatArray:
        energy, surface = _split_types(raw)
        content = (things - self._content_mean) / self._content_sd
        parts = [self.energy.transform(energy), self.surface.transform(surface), content]
        return np.concatenate(parts, axis=1)

    def _residual(self, raw: FloatArray, known: FloatArray, number: int) -> FloatArray:
        mean, sd = self._private_scale[number]
        left = (raw - mean) / sd - known @ self._coefficients[number]
        return np.asarray(left / self._residual_sd[number])

    def _extend(self) -> None:
        """Draw the next subject's private channels and take out what others can reach."""
        number = len(self._reference_private)
        rng = np.random.default_rng([self.seed, _PRIVATE_KEY, number + 1])
        filters, functions = early.PrivateFilters.draw(rng), category.PrivateContent.draw(rng)
        energies = _in_batches(self._images, filters.channels)
        raw = np.concatenate([energies, functions.channels(self._content)], axis=1)
        mean, sd = raw.mean(axis=0), raw.std(axis=0)
        known = np.concatenate(
            [np.ones((len(raw), 1)), self.reference_common, *self._reference_private], axis=1
        )
        scaled = (raw - mean) / sd
        gram = known.T @ known
        # Without the gate some content channels hang together; the ridge makes that harmless.
        ridge = 1e-9 * np.trace(gram) * np.eye(len(gram))
        coefficients = np.linalg.solve(gram + ridge, known.T @ scaled)
        left = scaled - known @ coefficients
        self._filters.append(filters)
        self._functions.append(functions)
        self._private_scale.append((mean, sd))
        self._coefficients.append(coefficients)
        self._residual_sd.append(left.std(axis=0))
        self._reference_private.append(left / left.std(axis=0))


def _split_types(raw: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Part the energies from the surfaces, places and types in one axis."""
    n_energies = raw.shape[1] - len(early.SURFACES)
    wide = raw.astype(np.float64)
    energy, surface = wide[:, :n_energies], wide[:, n_energies:]
    return energy.reshape(len(raw), -1), surface.reshape(len(raw), -1)


def _in_batches(
    images: npt.NDArray[np.uint8], measure: Callable[[early.Sight], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    starts = range(0, len(images), _BATCH)
    parts = in_order(lambda k: measure(early.look(images[k : k + _BATCH])), starts)
    return np.concatenate(list(parts))

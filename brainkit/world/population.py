"""What the subjects of one world have in common, and what each has alone.

All subjects hear the same common channels. Each also has private channels, out of which everything
that is linear in the common channels and in the private channels of earlier subjects has been taken
over a reference set of scenes (a block Gram-Schmidt). No linear mixture of other subjects'
channels can therefore reach a subject's own part.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from brainkit.errors import InputError
from brainkit.world.scenes import EYE_SIZE, REFERENCE_IDS, SceneWorld
from brainkit.world.tuning import FloatArray, Rows
from brainkit.world.versions import brain_version
from brainkit.world.workers import in_order

Ids = Sequence[int] | npt.NDArray[np.integer]
ReadImages = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]
Keep = Callable[[Any, FloatArray, FloatArray], Rows]

N_SUBJECTS: Final = 8
_BATCH: Final = 250
_PRIVATE_KEY: Final = 303


class Population:
    """The common and private channels of a world's eight subjects.

    Parameters
    ----------
    world : SceneWorld
    seed : int, optional
        Seed of the subjects; another seed gives other people looking at the same scenes. The
        world's by default.
    gate : bool
        Whether voxels look for what they prefer and content competes; False gives that
        counter-world.
    version : int, default=1
        Version of the simulated brain: 1 or 2.

    Attributes
    ----------
    senses : Senses
        What all subjects share; see `first_brain` and `second_brain`.
    reference_common : float64 array (4000, n_common)
        The common channels of the reference set, standardised.

    Raises
    ------
    UnknownNameError
        If there is no such version.

    Notes
    -----
    The private channels of subject s are what the version draws for the subject, standardised,
    minus their least-squares prediction over the reference set from a constant, the common channels
    and the private channels of subjects 1..s-1, and standardised again. The reference set is the
    4,000 scenes with ids in ``scenes.REFERENCE_IDS``.
    """

    def __init__(
        self, world: SceneWorld, seed: int | None = None, *, gate: bool = True, version: int = 1
    ) -> None:
        parts = brain_version(version)
        self.world = world
        self.seed = world.seed if seed is None else seed
        self.gate = gate
        self.version = version
        self._eye = SceneWorld(world.seed, EYE_SIZE)
        starts = range(0, len(REFERENCE_IDS), _BATCH)
        painted = in_order(lambda k: self._eye.paint(REFERENCE_IDS[k : k + _BATCH]), starts)
        images = np.concatenate(list(painted))
        content = self._eye.content(REFERENCE_IDS)
        self.senses = parts.senses(images, content, gate=gate, seed=self.seed)
        self.reference_common = self.senses.reference_common
        self._private: list[Any] = []
        self._private_scale: list[tuple[FloatArray, FloatArray]] = []
        self._coefficients: list[FloatArray] = []
        self._residual_sd: list[FloatArray] = []
        self._reference_private: list[FloatArray] = []

    def __repr__(self) -> str:
        return (
            f"Population({self.world!r}, seed={self.seed}, gate={self.gate}, "
            f"version={self.version})"
        )

    def reference_private(self, subject: int) -> FloatArray:
        """Give a subject's private channels of the reference set, (4000, n_private)."""
        if not 1 <= subject <= N_SUBJECTS:
            raise InputError(f"A population has subjects 1..{N_SUBJECTS}, but {subject} was given.")
        while len(self._reference_private) < subject:
            self._extend()
        return self._reference_private[subject - 1]

    def private_part(self, subject: int) -> tuple[Any, FloatArray]:
        """Say what a subject alone senses, and how much of each channel is private.

        Parameters
        ----------
        subject : int
            1..8.

        Returns
        -------
        private : object
            What the version's senses drew.
        residual_sd : float64 array (n_private,)
            Standard deviation of each standardised channel after the Gram-Schmidt step.
        """
        self.reference_private(subject)
        return self._private[subject - 1], self._residual_sd[subject - 1]

    def channels(
        self,
        scene_ids: Ids,
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
        common : float64 array (n_scenes, n_common)
        private : float64 array (n_scenes, n_private)

        Raises
        ------
        InputError
            If an id belongs to the reference set.
        """

        def keep(evidence: Any, common: FloatArray, private: FloatArray) -> Rows:
            return common, private

        common, private = self.gather(scene_ids, subject, keep, images=images, workers=workers)
        return common, private

    def gather(
        self,
        scene_ids: Ids,
        subject: int,
        keep: Keep,
        *,
        images: ReadImages | None = None,
        workers: int | None = None,
    ) -> Rows:
        """Go through scenes in batches and join what is kept of each.

        Parameters
        ----------
        scene_ids, subject, images, workers
            See `channels`.
        keep : callable
            Takes a batch's evidence (what the version's senses make of it), common and private
            channels, and gives arrays with a row a scene; it is called from several threads.

        Returns
        -------
        rows : tuple of arrays

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
        if not len(ids):  # the columns of a scene's rows, without the scene
            return tuple(part[:0] for part in self.gather([0], subject, keep))
        look_at = images or self._eye.paint
        batches = (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
        parts = in_order(
            lambda batch: keep(*self._hear(batch, look_at(batch), subject)), batches, workers
        )
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _hear(
        self, ids: npt.NDArray[np.int64], images: npt.NDArray[np.uint8], subject: int
    ) -> tuple[Any, FloatArray, FloatArray]:
        """Give evidence, common and one subject's private channels of one batch of scenes."""
        evidence = self.senses.sense(images, self._eye.content(ids))
        common = self.senses.common(evidence)
        # Every earlier subject's residuals enter the next one's regression.
        known = [np.ones((len(ids), 1)), common]
        for number in range(subject):
            raw = self.senses.private(self._private[number], evidence)
            known.append(self._residual(raw, np.concatenate(known, axis=1), number))
        return evidence, common, known[-1]

    def _residual(self, raw: FloatArray, known: FloatArray, number: int) -> FloatArray:
        mean, sd = self._private_scale[number]
        left = (raw - mean) / sd - known @ self._coefficients[number]
        return np.asarray(left / self._residual_sd[number])

    def _extend(self) -> None:
        """Draw the next subject's private channels and take out what others can reach."""
        number = len(self._reference_private)
        rng = np.random.default_rng([self.seed, _PRIVATE_KEY, number + 1])
        private = self.senses.draw_private(rng)
        raw = self.senses.reference_private(private)
        mean, sd = raw.mean(axis=0), raw.std(axis=0)
        known = np.concatenate(
            [np.ones((len(raw), 1)), self.reference_common, *self._reference_private], axis=1
        )
        scaled = (raw - mean) / sd
        gram = known.T @ known  # (n_known, n_known)
        # Without the gate some common channels hang together; the ridge makes that harmless.
        ridge = 1e-9 * np.trace(gram) * np.eye(len(gram))
        coefficients = np.linalg.solve(gram + ridge, known.T @ scaled)
        left = scaled - known @ coefficients
        self._private.append(private)
        self._private_scale.append((mean, sd))
        self._coefficients.append(coefficients)
        self._residual_sd.append(left.std(axis=0))
        self._reference_private.append(left / left.std(axis=0))

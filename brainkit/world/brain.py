"""A simulated brain that answers scenes, and whose truth can be asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.arrays.files import read_json
from brainkit.data.simulation import MANIFEST
from brainkit.errors import CorruptFileError, InputError, listed
from brainkit.world.anatomy import build_anatomy
from brainkit.world.measurement import LIMIT, UNLABELLED_CEILING, ceiling_from_ncsnr, region_ceiling
from brainkit.world.population import Ids, Population, ReadImages
from brainkit.world.scenes import SceneWorld
from brainkit.world.tuning import Rows
from brainkit.world.versions import VERSIONS, brain_version
from brainkit.world.workers import in_order

FloatArray = npt.NDArray[np.float32]

_BLOCK: Final = 256
OWN_VARIANCE: Final = 0.4


class SimulatedBrain:
    r"""One subject's brain.

    Parameters
    ----------
    world : SceneWorld
        The scenes; the brain looks at them at 64 pixels a side whatever the world's own size.
    subject : int
        1..8. Subjects differ in grid, voxel counts, layout, tuning, private channels and noise.
    version : int, optional
        Version of the brain: 1 (`first_brain`) or 2 (`second_brain`). It is the population's, or 1
        by default.
    gate : bool
        False gives the counter-world in which category voxels do not look for what they prefer and
        are not suppressed by competing content.
    shared_tuning : bool
        False gives the counter-world in which everything is a subject's own.
    seed : int, optional
        Seed of the subjects; the world's by default.
    density : float
        Fraction of the full number of voxels, for small worlds.
    population : Population, optional
        The population of this world, seed, gate and version, to share its work between subjects.

    Attributes
    ----------
    version : int
    units : DataFrame
        One row a voxel of the brain mask: ``i, j, k``, ``hemisphere``, ``cortex``, ``roi`` (a
        region's name or ""), and a column of labels for each ROI file (-1 outside cortex, 0
        unlabelled, 1 and more).
    truth : DataFrame
        One row a voxel: ``roi``, ``kind`` (early, category, mixed, silent), ``prf_x, prf_y,
        prf_size`` (fractions of the side, origin at the top left), ``gate``,
        ``weight_<category>``, what else the version's tuning is made of, ``ncsnr``, ``ceiling_1``,
        ``ceiling_3``, ``signal_sd``, ``noise_sd``, ``mean``.

    Raises
    ------
    InputError
        If the subject does not exist, `density` is not in (0, 1], or `population` belongs to
        another world, seed, gate or version.
    UnknownNameError
        If there is no such version.

    Notes
    -----
    Shared drive s and own drive o are the version's. Both have unit variance over the reference
    scenes; o is made of channels that are uncorrelated there with what all people share and with
    what earlier subjects have alone (`Population`)::

        d = √.6 s + √.4 o            (d = o without shared tuning)
        z = standardised f(d)                      (over the reference scenes; f of the version)
        response = mean + signal_sd z              percent signal change
        beta = gain (response + noise_sd n) + offset, clipped to ±32767/300

    with n the version's noise and the session's gain and offset from `noise.Measurement`, where
    ceilings are described. Equations, constants and sources: docs/world.md.
    """

    def __init__(
        self,
        world: SceneWorld,
        subject: int = 1,
        *,
        version: int | None = None,
        gate: bool = True,
        shared_tuning: bool = True,
        seed: int | None = None,
        density: float = 1.0,
        population: Population | None = None,
    ) -> None:
        if not 0 < density <= 1:
            raise InputError(f"density must be above 0 and at most 1, but {density} was given.")
        self.world = world
        self.subject = subject
        self.version = chosen_version(version, population)
        self.gate = gate
        self.shared_tuning = shared_tuning
        self.seed = world.seed if seed is None else seed
        self.density = density
        self.population = population or Population(
            world, self.seed, gate=gate, version=self.version
        )
        self._check_population()
        self.population.reference_private(subject)
        parts = brain_version(self.version)
        self.anatomy = build_anatomy(subject, self.seed, density)
        self.units = self.anatomy.units
        self._tuning = parts.tuning(self.units, self.population, subject)
        self._output = parts.output
        kind = self._tuning.truth["kind"]
        self._responsive = np.flatnonzero(kind != "silent")
        labelled = self.units["roi"].map(region_ceiling).to_numpy()
        ceilings = np.where(kind == "mixed", UNLABELLED_CEILING, labelled)
        ceilings = np.where(kind == "silent", 0.0, ceilings)
        self._measurement = parts.measurement(ceilings, self.anatomy, subject, self.seed)
        self.truth = self._tell_truth(self._tuning.truth)
        self._output_mean = np.zeros(self.n_voxels)
        self._output_sd = np.ones(self.n_voxels)
        for voxels, output in self._outputs(self._tuning.reference):
            self._output_mean[voxels] = output.mean(axis=0)
            self._output_sd[voxels] = output.std(axis=0)

    def __repr__(self) -> str:
        return (
            f"SimulatedBrain({self.world!r}, subject={self.subject}, version={self.version}, "
            f"gate={self.gate}, shared_tuning={self.shared_tuning}, seed={self.seed}, "
            f"density={self.density})"
        )

    @classmethod
    def from_manifest(
        cls, root: str | Path, subject: int, population: Population | None = None
    ) -> "SimulatedBrain":
        """Build again the brain whose recordings stand in a folder.

        Parameters
        ----------
        root : path
            Folder that `write_nsd` wrote; its ``SIMULATED.json`` is read.
        subject : int
            1..8.
        population : Population, optional
            See the class.

        Raises
        ------
        MissingFileError
            If there is no ``SIMULATED.json``: the data are not simulated.
        CorruptFileError
            If it cannot be read or is of another version.
        """
        path = Path(root) / MANIFEST
        manifest = read_json(
            path,
            f"{root} holds no simulated recordings: {MANIFEST}",
            "simulate again with brainkit",
            "cannot be read",
        )
        try:
            world, brain = manifest["world"], manifest["brain"]
            if world["version"] != SceneWorld.version or brain["version"] not in VERSIONS:
                raise CorruptFileError(
                    f"{path} tells of version {world['version']} of the world and "
                    f"{brain['version']} of the brain; this brainkit has version "
                    f"{SceneWorld.version} of the world and {listed(list(VERSIONS))} of the brain. "
                    "Simulate again with one of these."
                )
            return cls(
                SceneWorld(world["seed"], world["size"]),
                subject,
                version=brain["version"],
                gate=brain["gate"],
                shared_tuning=brain["shared_tuning"],
                seed=brain["seed"],
                density=brain["density"],
                population=population,
            )
        except (KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{path} cannot be read ({error!r}). Simulate again with brainkit."
            ) from error

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the brain mask."""
        return len(self.units)

    def shared_drive(self, scene_ids: Ids) -> FloatArray:
        """Give the part that all subjects' channels make, (n_scenes, n_voxels), before the 60 %."""
        rows = self.population.gather(scene_ids, self.subject, self._tuning.rows)
        return self._tuning.shared_drive(rows, np.s_[:]).astype(np.float32)

    def own_drive(self, scene_ids: Ids) -> FloatArray:
        """Give the part that the subject alone has, (n_scenes, n_voxels), before the 40 %."""
        rows = self.population.gather(scene_ids, self.subject, self._tuning.rows)
        return self._tuning.own_drive(rows, np.s_[:]).astype(np.float32)

    def response(
        self, scene_ids: Ids, *, images: ReadImages | None = None, workers: int | None = None
    ) -> FloatArray:
        """Give the noise-free response.

        Parameters
        ----------
        scene_ids : sequence of int
            Ids of scenes, none from the reference set.
        images, workers
            See `Population.channels`.

        Returns
        -------
        response : float32 array (n_scenes, n_voxels)
            Percent signal change.
        """
        rows = self.population.gather(
            scene_ids, self.subject, self._tuning.rows, images=images, workers=workers
        )
        mean, sd = self._measurement.mean, self._measurement.signal_sd
        response = np.empty((len(scene_ids), self.n_voxels), dtype=np.float32)
        response[:] = mean.astype(np.float32)  # all there is to a silent voxel
        for voxels, output in self._outputs(rows, workers):
            z = (output - self._output_mean[voxels]) / self._output_sd[voxels]
            response[:, voxels] = z * sd[voxels] + mean[voxels]
        return response

    def measure(
        self,
        scene_ids: Ids,
        sessions: Ids,
        trials: Ids,
        *,
        runs: Ids | None = None,
        response: FloatArray | None = None,
    ) -> FloatArray:
        """Measure single trials, with noise and drift.

        Parameters
        ----------
        scene_ids : sequence of int (n_trials,)
            What is shown.
        sessions : sequence of int (n_trials,)
            The session of each trial; it fixes gain and offset.
        trials : sequence of int (n_trials,)
            The trial's number in the whole experiment; with the run it fixes the noise.
        runs : sequence of int (n_trials,), optional
            The run of each trial, counted through all sessions, 0 or more: where noise hangs
            together in time, it does between neighbouring trials of a run. A session is one run by
            default.
        response : float32 array (n_trials, n_voxels), optional
            What `response` gives for `scene_ids`, if it is known.

        Returns
        -------
        betas : float32 array (n_trials, n_voxels)
            Percent signal change within ±32767/300.

        Raises
        ------
        InputError
            If the sequences differ in length.
        """
        runs = sessions if runs is None else runs
        lengths = (len(scene_ids), len(sessions), len(trials), len(runs))
        if len(set(lengths)) != 1:
            raise InputError(
                "Scenes, sessions, trials and runs must be equally many, but there are "
                f"{lengths[0]}, {lengths[1]}, {lengths[2]} and {lengths[3]}."
            )
        betas = self._known_or_new(scene_ids, response)
        noise_sd = self._measurement.noise_sd.astype(np.float32)
        noise = self._measurement.noise([int(t) for t in trials], [int(r) for r in runs])
        for row, fluctuation in enumerate(noise):
            betas[row] += noise_sd * fluctuation
        numbers = np.asarray(sessions)
        for session in np.unique(numbers):
            gain, offset = self._measurement.drift(int(session))
            rows = numbers == session
            betas[rows] = betas[rows] * gain.astype(np.float32) + offset.astype(np.float32)
        return np.clip(betas, -LIMIT, LIMIT)

    def haemodynamic_gains(self, seconds: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give the size of the response at times after the image began, as a share of the peak.

        Parameters
        ----------
        seconds : array_like (n_times,)
        """
        return self._measurement.haemodynamic_gains(np.asarray(seconds, dtype=float))

    def ceiling(self, n_repeats: float = 3) -> npt.NDArray[np.float64]:
        """Give each voxel's true explainable fraction for a mean over repeats, (n_voxels,)."""
        return ceiling_from_ncsnr(self._measurement.ncsnr, n_repeats)

    def _known_or_new(self, scene_ids: Ids, response: FloatArray | None) -> FloatArray:
        """Give the trials' responses in an array of their own."""
        if response is not None:
            if response.shape != (len(scene_ids), self.n_voxels):
                raise InputError(
                    f"response must be {(len(scene_ids), self.n_voxels)}, but is {response.shape}."
                )
            return np.array(response, dtype=np.float32)
        unique, inverse = np.unique(np.asarray(scene_ids), return_inverse=True)
        return np.asarray(self.response(unique)[inverse])

    def _outputs(
        self, rows: Rows, workers: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]]:
        """Mix the drives and pass them on, some responsive voxels at a time to spare memory."""
        own_share = OWN_VARIANCE if self.shared_tuning else 1.0

        def output(voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
            drive = np.sqrt(own_share) * self._tuning.own_drive(rows, voxels)
            if self.shared_tuning:
                drive += np.sqrt(1 - own_share) * self._tuning.shared_drive(rows, voxels)
            return self._output(drive)

        blocks = [
            self._responsive[start : start + _BLOCK]
            for start in range(0, len(self._responsive), _BLOCK)
        ]
        return zip(blocks, in_order(output, blocks, workers), strict=True)

    def _tell_truth(self, truth: pd.DataFrame) -> pd.DataFrame:
        measured = self._measurement
        return truth.assign(
            ncsnr=measured.ncsnr,
            ceiling_1=self.ceiling(1),
            ceiling_3=self.ceiling(3),
            signal_sd=measured.signal_sd,
            noise_sd=measured.noise_sd,
            mean=measured.mean,
        )

    def _check_population(self) -> None:
        population = self.population
        theirs = (population.world.seed, population.seed, population.gate, population.version)
        ours = (self.world.seed, self.seed, self.gate, self.version)
        if theirs != ours:
            raise InputError(
                f"The population has (world seed, seed, gate, version) = {theirs}, the brain "
                f"{ours}; build the population with the same."
            )


def chosen_version(version: int | None, population: Population | None) -> int:
    """Return the version that was asked for: the population's, or 1, where none was."""
    if version is None:
        return population.version if population else 1
    return version

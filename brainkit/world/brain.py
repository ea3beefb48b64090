"""A simulated brain that answers scenes, and whose truth can be asked for."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.data.simulation import MANIFEST
from brainkit.errors import CorruptFileError, InputError, MissingFileError
from brainkit.world.anatomy import build_anatomy
from brainkit.world.noise import (
    LIMIT,
    UNLABELLED_CEILING,
    Measurement,
    ceiling_from_ncsnr,
    region_ceiling,
)
from brainkit.world.population import Population, ReadImages
from brainkit.world.scenes import SceneWorld
from brainkit.world.tuning import draw_tuning
from brainkit.world.workers import in_order

FloatArray = npt.NDArray[np.float32]
Ids = Sequence[int] | npt.NDArray[np.integer]

_BLOCK: Final = 256
OWN_VARIANCE: Final = 0.4
SOFTPLUS_BIAS: Final = 1.0


class SimulatedBrain:
    r"""One subject's brain, version 1 of the simulated world's.

    Parameters
    ----------
    world : SceneWorld
        The scenes; the brain looks at them at 64 pixels a side whatever the world's own size.
    subject : int
        1..8. Subjects differ in grid, voxel counts, layout, tuning, private channels and noise.
    gate : bool
        False gives the counter-world in which category voxels are neither gated by content nor
        suppressed by competing content.
    shared_tuning : bool
        False gives the counter-world in which everything is a subject's own.
    seed : int, optional
        Seed of the subjects; the world's by default.
    density : float
        Fraction of the full number of voxels, for small worlds.
    population : Population, optional
        The population of this world, seed and gate, to share its work between subjects.

    Attributes
    ----------
    units : DataFrame
        One row a voxel of the brain mask: ``i, j, k``, ``hemisphere``, ``cortex``, ``roi`` (a
        region's name or ""), and a column of labels for each ROI file (-1 outside cortex, 0
        unlabelled, 1 and more).
    truth : DataFrame
        One row a voxel: ``roi``, ``kind`` (early, category, mixed, silent), ``prf_x, prf_y,
        prf_size`` (fractions of the side, origin at the top left), ``orientation`` (radians),
        ``frequency`` (cycles per image), ``surface_share``, ``gate``, ``weight_<category>``,
        ``ncsnr``, ``ceiling_1``, ``ceiling_3``, ``signal_sd``, ``noise_sd``, ``mean``.

    Raises
    ------
    InputError
        If the subject does not exist, `density` is not in (0, 1], or `population` belongs to
        another world, seed or gate.

    Notes
    -----
    **Early channels** (`early`). Picture values are 0..1; luminance L = .299 R + .587 G + .114 B.
    Six orientations (0, 30, … 150°) by three frequencies (3.5, 7, 14 cycles per image) of one-sided
    log-Gabor filters, radial ratio .6, angular deviation .42 rad, on the mean-free luminance under
    a sine-squared taper of four pixels. With a the filter's analytic output and *pool* the variance
    of luminance under a Gaussian of .10 of the side::

        c = (|a|² / (.01 + pool))^.6

    Energies, and the surfaces L, R - G and B - (R + G)/2, are averaged under Gaussian windows (.075
    of the side) on an 8 × 8 lattice. **Content channels** are those of
    `category.content_channels`, **common channels** and **private channels** those of `Population`.
    A subject's private filters: three orientations 60° apart from a random start, 6 to 14 cycles
    per image (log-uniform), radial ratio .7, angular deviation .30 rad, each under the same windows
    at six places, a 3 × 2 lattice jittered by up to .3 of its spacing.

    **Shared drive** s: an early voxel weighs lattice points by its pRF, exp(-|p - p₀|²/2σ²), with
    σ = (base + .12 eccentricity) exp(.1 ε), base .05, .07, .095, .15 in V1, V2, V3, hV4 and .22 in
    unlabelled voxels; energies by exp(1.5 (cos 2(θ - θ₀) - 1)) exp(-ln²(f/f₀)/(2 · .7²)), f₀ = 10,
    8, 6.5, 5 (6 unlabelled) times exp(.3 ε); surfaces by normal weights (1, .6, .6; in hV4 .6, 1,
    1). Both sums are projected on the population's components; surfaces make .3 of the variance of
    the two, in hV4 .4. A category voxel sums ``weight_c ((1 - g) Σ_j π_j covered_cj + g
    anywhere_c)`` with π its normalised pRF over the nine places, g uniform in .55 to .90 (0 in the
    counter-world), its weight exp(.2 ε) for its own category and .15 |ε| for others. Unlabelled
    voxels of nsdgeneral mix both equally (weights .9 |ε|); all other voxels are silent.

    **Own drive** o: an early voxel weighs its subject's private energies by
    exp(-|p - p₀|² / 2(σ² + .12²)) times a liking exp(.7 ε) for each of the three filters; a
    category voxel weighs the private functions of content by normal weights; both times the
    channel's residual deviation. Unlabelled voxels mix both equally.

    **Response**. Drives have unit variance over the reference scenes, over which shared and own are
    uncorrelated by construction::

        d = √.6 s + √.4 o            (d = o without shared tuning)
        z = standardised ln(1 + exp(d + 1))        (over the reference scenes)
        response = mean + signal_sd z              percent signal change
        beta = gain (response + noise_sd n) + offset, clipped to ±32767/300

    with n and the session's gain and offset from `noise.Measurement`, where ceilings are described.
    """

    version: Final = 1

    def __init__(
        self,
        world: SceneWorld,
        subject: int = 1,
        *,
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
        self.gate = gate
        self.shared_tuning = shared_tuning
        self.seed = world.seed if seed is None else seed
        self.density = density
        self.population = population or Population(world, self.seed, gate=gate)
        self._check_population()
        reference = self.population.reference_private(subject)
        self.anatomy = build_anatomy(subject, self.seed, density)
        self.units = self.anatomy.units
        tuning = draw_tuning(self.units, self.population, subject)
        self._shared, self._own = tuning.shared, tuning.own
        kind = tuning.truth["kind"]
        self._responsive = np.flatnonzero(kind != "silent")
        labelled = self.units["roi"].map(region_ceiling).to_numpy()
        ceilings = np.where(kind == "mixed", UNLABELLED_CEILING, labelled)
        ceilings = np.where(kind == "silent", 0.0, ceilings)
        self._measurement = Measurement.draw(ceilings, self.anatomy.places, subject, self.seed)
        self.truth = self._tell_truth(tuning.truth)
        self._output_mean = np.zeros(self.n_voxels)
        self._output_sd = np.ones(self.n_voxels)
        common, private = self.population.reference_common, reference
        for voxels, output in self._outputs(common, private):
            self._output_mean[voxels] = output.mean(axis=0)
            self._output_sd[voxels] = output.std(axis=0)

    def __repr__(self) -> str:
        return (
            f"SimulatedBrain({self.world!r}, subject={self.subject}, gate={self.gate}, "
            f"shared_tuning={self.shared_tuning}, seed={self.seed}, density={self.density})"
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
            As for the class.

        Raises
        ------
        MissingFileError
            If there is no ``SIMULATED.json``: the data are not simulated.
        CorruptFileError
            If it cannot be read or is of another version.
        """
        path = Path(root) / MANIFEST
        if not path.is_file():
            raise MissingFileError(f"{path} is missing, so {root} holds no simulated recordings.")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            world, brain = manifest["world"], manifest["brain"]
            if (world["version"], brain["version"]) != (SceneWorld.version, cls.version):
                raise CorruptFileError(
                    f"{path} tells of version {world['version']} of the world and "
                    f"{brain['version']} of the brain; this brainkit has versions "
                    f"{SceneWorld.version} and {cls.version}. Simulate again with this version."
                )
            return cls(
                SceneWorld(world["seed"], world["size"]),
                subject,
                gate=brain["gate"],
                shared_tuning=brain["shared_tuning"],
                seed=brain["seed"],
                density=brain["density"],
                population=population,
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{path} cannot be read ({error!r}). Simulate again with brainkit."
            ) from error

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the brain mask."""
        return len(self.units)

    def shared_drive(self, scene_ids: Ids) -> FloatArray:
        """Give the part that all subjects' channels make, (n_scenes, n_voxels), before the 60 %."""
        common, _ = self.population.channels(scene_ids, self.subject)
        return (common @ self._shared).astype(np.float32)

    def own_drive(self, scene_ids: Ids) -> FloatArray:
        """Give the part that the subject alone has, (n_scenes, n_voxels), before the 40 %."""
        _, private = self.population.channels(scene_ids, self.subject)
        return (private @ self._own).astype(np.float32)

    def response(
        self, scene_ids: Ids, *, images: ReadImages | None = None, workers: int | None = None
    ) -> FloatArray:
        """Give the noise-free response.

        Parameters
        ----------
        scene_ids : sequence of int
            Ids of scenes, none from the reference set.
        images, workers
            As for `Population.channels`.

        Returns
        -------
        response : float32 array (n_scenes, n_voxels)
            Percent signal change.
        """
        common, private = self.population.channels(
            scene_ids, self.subject, images=images, workers=workers
        )
        mean, sd = self._measurement.mean, self._measurement.signal_sd
        response = np.empty((len(common), self.n_voxels), dtype=np.float32)
        response[:] = mean.astype(np.float32)  # all there is to a silent voxel
        for voxels, output in self._outputs(common, private, workers):
            z = (output - self._output_mean[voxels]) / self._output_sd[voxels]
            response[:, voxels] = z * sd[voxels] + mean[voxels]
        return response

    def measure(
        self, scene_ids: Ids, sessions: Ids, trials: Ids, *, response: FloatArray | None = None
    ) -> FloatArray:
        """Measure single trials, with noise and drift.

        Parameters
        ----------
        scene_ids : sequence of int (n_trials,)
            What is shown.
        sessions : sequence of int (n_trials,)
            The session of each trial; it fixes gain and offset.
        trials : sequence of int (n_trials,)
            The trial's number in the whole experiment; it fixes the noise.
        response : float32 array (n_trials, n_voxels), optional
            What `response` gives for `scene_ids`, if it is known.

        Returns
        -------
        betas : float32 array (n_trials, n_voxels)
            Percent signal change within ±32767/300.

        Raises
        ------
        InputError
            If the three sequences differ in length.
        """
        lengths = (len(scene_ids), len(sessions), len(trials))
        if len(set(lengths)) != 1:
            raise InputError(
                "Scenes, sessions and trials must be equally many, but there are "
                f"{lengths[0]}, {lengths[1]} and {lengths[2]}."
            )
        betas = self._known_or_new(scene_ids, response)
        noise_sd = self._measurement.noise_sd.astype(np.float32)
        for row, trial in enumerate(trials):
            betas[row] += noise_sd * self._measurement.noise(int(trial), self.subject, self.seed)
        numbers = np.asarray(sessions)
        for session in np.unique(numbers):
            gain, offset = self._measurement.drift(int(session), self.subject, self.seed)
            rows = numbers == session
            betas[rows] = betas[rows] * gain.astype(np.float32) + offset.astype(np.float32)
        return np.clip(betas, -LIMIT, LIMIT)

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
        self,
        common: npt.NDArray[np.float64],
        private: npt.NDArray[np.float64],
        workers: int | None = None,
    ) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]]:
        """Mix the drives and pass them on, some responsive voxels at a time to spare memory."""
        own_share = OWN_VARIANCE if self.shared_tuning else 1.0

        def output(voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
            drive = np.sqrt(own_share) * (private @ self._own[:, voxels])
            if self.shared_tuning:
                drive += np.sqrt(1 - own_share) * (common @ self._shared[:, voxels])
            return np.asarray(np.logaddexp(0, drive + SOFTPLUS_BIAS))

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
        given = self.population
        theirs = (given.world.seed, given.seed, given.gate)
        ours = (self.world.seed, self.seed, self.gate)
        if theirs != ours:
            raise InputError(
                f"The population has (world seed, seed, gate) = {theirs}, the brain {ours}; build "
                "the population with the same."
            )

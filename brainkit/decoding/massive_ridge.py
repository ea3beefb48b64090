"""Ridge from responses to hundreds of thousands of numbers: latents, tokens of images and text."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.devices import pick_batch
from brainkit.arrays.digest import content_digest
from brainkit.arrays.files import is_file
from brainkit.arrays.seeds import rng
from brainkit.decoding.massive_solver import (
    KernelInverses,
    MassiveFit,
    restored_spread,
    weight_precision,
)
from brainkit.decoding.ridge_decoder import DEFAULT_ALPHAS
from brainkit.decoding.spread import standard_scores
from brainkit.decoding.target_streams import (
    WEIGHTS,
    ColumnStretch,
    FitFolder,
    MemoryTable,
    Notes,
    RidgeTask,
    RowFile,
    TargetColumns,
    predictions_table,
    shown_predictions,
)
from brainkit.errors import (
    CorruptFileError,
    InputError,
    MissingFileError,
    PenaltyWarning,
    listed,
    told_once,
    unknown_name,
)
from brainkit.linear.cross_validation import is_partition
from brainkit.linear.folds import group_codes, split_folds
from brainkit.linear.ridge_estimator import CrossValidatedRidge, judge_choice, validated
from brainkit.linear.spectrum import Spectrum, decompose, is_primal, precision, sample_products
from brainkit.linear.targets import column_mean, deviations, target_batches

Array = NDArray[Any]
Float = NDArray[np.float64]
Source = Any  # an array, memory map, path of a .npy file, HDF5 dataset or lazy source
LARGEST_BATCH = 2048  # beyond it products are no faster
TYPES = ("auto", "float16", "float32", "float64")
SPREADS = ("dimension", None)
WAYS = ("loo", "gcv")
ONLY = "targets"  # the name of the block where there is one without a name
FORMAT = 1
FLOATS = [np.float64, np.float32]
STATE = (
    "blocks_", "alphas_", "block_alphas_", "alpha_", "alpha_at_edge_", "constant_predictions_",
    "cv_r2_", "mean_", "scale_", "predicted_mean_", "predicted_scale_", "gain_", "feature_mean_",
    "feature_scale_", "samples_", "weights_", "weight_unit_", "folder_", "primal_", "batch_size_",
    "n_held_out_", "left_out_", "device_", "dtype_", "weight_dtype_", "single_target_",
    "n_features_in_", "feature_names_in_",
)  # fmt: skip


class MassiveRidge(CrossValidatedRidge):
    r"""Ridge from responses to very many targets: one factorisation, targets read as they are needed.

    Brain-Diffuser (Ozcelik and VanRullen, 2023, Scientific Reports 13:15666) and Brain Captioning
    (Ferrante et al., 2023, arXiv 2305.11560) predict every token of an image's and a caption's
    embedding, and the latents of a VDVAE: 347,680 numbers from 15,724 voxels, by 335 fits that
    decompose the same responses. Here they are decomposed once, targets are read a batch at a time
    from wherever they lie, and coefficients, or predictions alone (`fit_predict`), are written as
    they are computed. With fewer samples than units it is weights of samples that are kept;
    `primal` gives coefficients of units where they are asked for, such as for maps of regions.

    Predictions of ridge vary less than what they predict. Their spread is restored by what was
    measured on *training* samples that were predicted from others (`HeldOutSamples`), not by the
    test batch as in both systems: with p the prediction, μ and σ the training mean and standard
    deviation of a target, m and s those of its held-out predictions,

    .. math:: \hat y = \mu + \sigma\, (p - m) / s

    so that a row's prediction depends on that row alone. A target that is constant in training is
    predicted as what it is. NaN is refused, in whichever batch it is met.

    All of it runs on the processor, in NumPy and as many threads as its BLAS has.

    Parameters
    ----------
    alphas : "auto", float, sequence of float, or mapping of str to these, default="auto"
        Candidate penalties, above 0; by the name of the block where they differ. Of a single one
        nothing is to be chosen (Brain-Diffuser: 50,000 for VDVAE latents, 60,000 and 100,000 for
        tokens of image and text). "auto" as for `RidgeDecoder`.
    cv : {"loo", "gcv"}, int, splitter or iterable of folds, default="loo"
        How penalties are chosen and which samples are left out to measure the spread. "loo" leaves
        out *one group at a time*: all repeats of an image, where `groups` says so, else single
        samples. "gcv" chooses by generalised cross-validation, over all samples and at the cost of
        one product, and measures the spread on single samples; groups with repeats are refused.
        A number, a splitter, or folds that hold every sample out once, are K-fold
        cross-validation. All come from the one factorisation.
    alpha_per_target : bool, default=False
        A penalty for each target; or one for all of a block, by their summed error.
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool, default=True
        Scale each unit by its training standard deviation.
    blocks : mapping of str to int, optional
        Names and widths of the stretches that the targets consist of, where they come as one array.
    spread : {"dimension", None}, default="dimension"
        Restore the spread of each target, or leave predictions as ridge makes them.
    n_held_out : int or None, default=1024
        Samples that are predicted from others, to choose penalties and measure the spread; drawn at
        random. None takes all; 0 measures nothing, and needs one penalty a block and no `spread`.
    weight_dtype : {"auto", "float16", "float32", "float64"}, default="auto"
        What coefficients are kept as; "auto" is what they are computed in. float16 takes half the
        room, with a factor for each target.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Attributes
    ----------
    blocks_ : dict of str to (int, int)
        First target of each block, and the one after its last.
    alphas_ : array
        All candidates, ascending.
    block_alphas_ : dict of str to array
        Candidates of each block.
    alpha_ : array (n_targets,)
        Penalties.
    alpha_at_edge_, constant_predictions_
        See `RidgeDecoder`.
    cv_r2_ : array (n_targets,)
        R² of the held-out samples; NaN for constant targets, or where nothing was measured.
    mean_, scale_ : array (n_targets,)
        μ and σ; without an intercept 0 and the root mean square.
    predicted_mean_, predicted_scale_, gain_ : array (n_targets,)
        m and s of standardised targets, and the factor that restores the spread.
    n_held_out_ : int
        Samples that this was measured on.
    left_out_ : {"samples", "groups", "folds"}
        What was left out at a time.
    batch_size_ : int
        Targets at once.
    primal_ : bool
        Whether there are no more units than samples.
    folder_ : str or None
        Where the coefficients lie; None where they are in memory, or none were kept.
    device_, dtype_, weight_dtype_ : str
        What ran, and what coefficients are kept as.
    """  # noqa: E501

    _grid: Sequence[float] = DEFAULT_ALPHAS

    def __init__(
        self,
        alphas: Any = "auto",
        cv: Any = "loo",
        alpha_per_target: bool = False,
        fit_intercept: bool = True,
        standardise: bool = True,
        blocks: Mapping[str, int] | None = None,
        spread: Literal["dimension"] | None = "dimension",
        n_held_out: int | None = 1024,
        weight_dtype: str = "auto",
        n_targets_batch: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.standardise = standardise
        self.blocks = blocks
        self.spread = spread
        self.n_held_out = n_held_out
        self.weight_dtype = weight_dtype
        self.n_targets_batch = n_targets_batch

    # ------------------------------------------------------------------------------- fitting

    def fit(
        self,
        X: ArrayLike,
        y: Source | Mapping[str, Source],
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
        folder: str | Path | None = None,
    ) -> Self:
        """Choose the penalties and fit, and keep coefficients.

        Parameters
        ----------
        X : array (n_samples, n_units)
            Responses.
        y : source or mapping of str to source
            Targets (n_samples, n_targets), or blocks of them by name: arrays, memory maps, paths of
            .npy files, HDF5 datasets, or lazy sources. More axes are taken in C order.
        groups : array (n_samples,), optional
            Samples of one group are left out together, such as the repeats of an image.
        runs : array (n_samples,), optional
            Used as groups where none are given.
        folder : path, optional
            Where coefficients are written; in memory where not given. A fit that was interrupted
            goes on from there if it is told the same again, with the same batches, and gives the
            same bits on the same machine with as many threads. That targets are the same is told by
            the values of a few.

        Raises
        ------
        InputError
            If the data hold NaN or infinities or do not fit each other, a penalty is not positive,
            or names of blocks and of their penalties differ.
        MissingFileError, CorruptFileError
            If a file of targets is missing or damaged.
        OutputError
            If the disk is too full, or the folder holds anything but a fit of the same.
        """
        task = self._begin(X, y, runs if groups is None else groups)
        with nullcontext() if folder is None else FitFolder.held(folder):
            notes: Notes = Notes()
            if folder is not None:
                notes = FitFolder(folder, self._plan(task))
                task = replace(task, size=int(notes.plan["batch_size"]))
            run = self._run(task, notes)
            dtype = weight_precision(run.spectrum, run.least)
            kept = dtype if self.weight_dtype == "auto" else np.dtype(self.weight_dtype)
            shape = task.starts[-1], run.width
            table: MemoryTable | RowFile
            if isinstance(notes, FitFolder):
                table = notes.weights(shape, kept)
            else:
                table = MemoryTable(np.empty(shape, dtype=kept))
            run.solve(run.solver(dtype=dtype), table, half=kept == np.float16)
            self._keep(run, dtype, kept)
            if isinstance(notes, FitFolder):
                notes.finish({"targets": shape[0], "width": shape[1], "dtype": str(kept)})
        self.weights_ = table.values if isinstance(table, MemoryTable) else None
        self.folder_ = None if folder is None else str(Path(folder).resolve())
        return self

    def fit_predict(
        self,
        X: ArrayLike,
        y: Source | Mapping[str, Source],
        X_test: ArrayLike | None = None,
        *,
        out: str | Path | None = None,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Array:
        """Fit, and predict test samples without ever forming coefficients.

        Equal to `fit` and then `predict`, but for rounding.

        Parameters
        ----------
        X, y, groups, runs
            See `fit`.
        X_test : array (n_test, n_units), optional
            Responses to predict from; nothing is learned from them. Those of training where not
            given.
        out : path, optional
            A .npy file to write predictions to, which appears when it is complete.

        Returns
        -------
        array (n_test, n_targets)
            The predictions, mapped from `out` where it is given.
        """
        task = self._begin(X, y, runs if groups is None else groups)
        tested = task.samples
        if X_test is not None:
            tested = self._scaled(validated(self, X_test, dtype=FLOATS, reset=False), task)
        run = self._run(task, Notes())
        solver = run.solver(tested)
        with predictions_table(out, (len(tested), task.starts[-1]), task.samples.dtype) as table:
            run.solve(solver, table, predicts=True)
        self._keep(run, solver.dtype, solver.dtype)
        self.weights_ = self.folder_ = None
        return shown_predictions(out, table, task.single)

    def _begin(self, X: ArrayLike, y: Any, groups: ArrayLike | None) -> RidgeTask:
        """Check what is given."""
        self._check_settings()
        samples, blocks, single = self._validated(X, y)
        n_samples = len(samples)
        for block in blocks:
            if block.shape[0] != n_samples:
                raise InputError(
                    f"Responses and targets must have the same rows: there are {n_samples} "
                    f"responses, and block {block.name!r} has {block.shape[0]} rows."
                )
        mean = column_mean(samples, self.fit_intercept)
        scale = self._scale(samples)
        if scale is None:
            scale = np.ones(samples.shape[1], dtype=samples.dtype)
        codes = self._codes(n_samples, groups)
        rows = np.arange(n_samples)
        if self.n_held_out is not None and self.n_held_out < n_samples:
            drawn = rng(0, "held-out samples").permutation(n_samples)
            rows = np.sort(drawn[: self.n_held_out])
        n_targets = sum(block.shape[1] for block in blocks)
        size = self.n_targets_batch or min(
            pick_batch(5 * n_samples * samples.itemsize, n_targets), LARGEST_BATCH
        )
        return RidgeTask(
            samples=deviations(samples, mean, samples.dtype) / scale,
            mean=mean, scale=scale, blocks=blocks, alphas=self._candidates(samples, blocks),
            codes=codes, rows=rows, single=single, size=size,
        )  # fmt: skip

    def _check_settings(self) -> None:
        if self.spread not in SPREADS:
            raise unknown_name("way to restore spread", self.spread, [str(s) for s in SPREADS])
        if self.weight_dtype not in TYPES:
            raise unknown_name("weight_dtype", self.weight_dtype, TYPES)
        for name in ("n_held_out", "n_targets_batch"):
            value, least = getattr(self, name), 0 if name == "n_held_out" else 1
            if value is not None and (not isinstance(value, int | np.integer) or value < least):
                raise InputError(f"{name} must be a whole number from {least}; got {value!r}.")
        if self.n_held_out == 0 and self.spread is not None:
            raise InputError(
                "The spread of predictions cannot be restored where none is measured: give "
                "spread=None, or n_held_out above 0."
            )

    def _validated(self, X: ArrayLike, y: Any) -> tuple[Array, list[TargetColumns], bool]:
        """Return responses, blocks of targets, and whether these are one column."""
        options = {"dtype": FLOATS, "ensure_min_samples": 2}
        if isinstance(y, Mapping):
            if self.blocks is not None:
                raise InputError("Targets by name have blocks already: leave out blocks=.")
            if not y:
                raise InputError("There are no targets: y is an empty mapping.")
            sources = {str(name): TargetColumns(one, str(name)) for name, one in y.items()}
            return validated(self, X, **options), list(sources.values()), False
        n_axes = len(getattr(y, "shape", ()))
        elsewhere = isinstance(y, str | Path) or hasattr(y, "read") or n_axes > 2
        elsewhere = elsewhere or type(y).__module__.partition(".")[0] == "h5py"
        if elsewhere or (isinstance(y, np.memmap) and n_axes == 2):
            samples, single = validated(self, X, **options), False
        else:
            samples, y = validated(self, X, y, multi_output=True, y_numeric=True, **options)
            single = y.ndim == 1
            y = y.reshape(len(samples), -1)
        table = TargetColumns(y, ONLY)
        if self.blocks is None:
            return samples, [table], single
        widths = list(self.blocks.values())
        if sum(widths) != table.shape[1] or min(widths) < 1:
            raise InputError(
                f"blocks= are {sum(widths)} targets in all, each of one at least: the targets are "
                f"{table.shape[1]}."
            )
        ends = np.cumsum(widths)
        return samples, [
            TargetColumns(ColumnStretch(table, int(end) - width, width), name)
            for (name, width), end in zip(self.blocks.items(), ends, strict=True)
        ], single  # fmt: skip

    def _candidates(self, samples: Array, blocks: Sequence[TargetColumns]) -> list[list[float]]:
        """Return the penalties that each block chooses from."""
        names = [block.name for block in blocks]
        given = dict.fromkeys(names, self.alphas)
        if isinstance(self.alphas, Mapping):
            for name in self.alphas:
                if name not in given:
                    raise unknown_name("block of targets", name, names)
            missing = [name for name in names if name not in self.alphas]
            if missing:
                raise InputError(f"alphas has no penalty for the blocks {listed(missing)}.")
            given = {name: self.alphas[name] for name in names}
        known: dict[str, list[float]] = {}  # most blocks have the same
        for one in given.values():
            if repr(one) not in known:
                plain = CrossValidatedRidge(one, standardise=self.standardise)
                plain.fit_intercept, plain._grid = self.fit_intercept, self._grid
                known[repr(one)] = plain._prepared(samples)[2]
        candidates = [known[repr(given[name])] for name in names]
        for name, alphas in zip(names, candidates, strict=True):
            if min(alphas) <= 0:
                raise InputError(
                    f"Penalties must be above 0 here; block {name!r} has {min(alphas):g}."
                )
            if len(alphas) > 1 and self.n_held_out == 0 and self.cv != "gcv":
                raise InputError(
                    f"Nothing can be chosen from the {len(alphas)} penalties of block {name!r} "
                    "where no sample is held out: give one penalty, or n_held_out above 0."
                )
        return candidates

    def _codes(self, n_samples: int, groups: ArrayLike | None) -> NDArray[np.int64]:
        """Return which samples are left out together."""
        codes = group_codes(groups, n_samples)
        n_groups = int(codes.max()) + 1
        self.left_out_ = "samples" if n_groups == n_samples else "groups"
        if isinstance(self.cv, str):
            if self.cv not in WAYS:
                raise unknown_name("cv", self.cv, WAYS)
            if self.cv == "gcv" and n_groups < n_samples:
                raise InputError(
                    "cv='gcv' knows of single samples only, and would keep others of their group "
                    "in training. Give 'loo', which leaves groups out, or a number of folds."
                )
            if n_groups < 2:
                raise InputError(
                    "All samples are of one group, so that none can be left out: give 2 groups at "
                    "least, or none."
                )
            return codes
        folds = split_folds(self.cv, n_samples, groups=groups)
        if not is_partition(n_samples, folds):
            raise InputError(
                "Folds must hold every sample out once, and train on all others, for them to come "
                f"from one factorisation; those of cv={self.cv!r} do not."
            )
        self.left_out_ = "folds"
        for number, (_, held) in enumerate(folds):
            codes[held] = number
        return codes

    def _plan(self, task: RidgeTask) -> dict[str, Any]:
        """Return what the result depends on."""
        return {
            "format": FORMAT,
            "responses": content_digest(task.samples, task.mean, task.scale),
            "left out": content_digest(task.codes, task.rows, str(self.cv == "gcv")),
            "blocks": [block.name for block in task.blocks],
            "targets": [block.fingerprint() for block in task.blocks],
            "alphas": task.alphas,
            "settings": [self.alpha_per_target, self.fit_intercept, self.weight_dtype],
            "batch_size": task.size,
        }

    def _run(self, task: RidgeTask, notes: Notes) -> MassiveFit:
        """Decompose the responses, and choose penalties that are shared."""
        return MassiveFit(
            task, self._spectrum(task, notes), notes,
            centred=self.fit_intercept, per_target=self.alpha_per_target,
            gcv=isinstance(self.cv, str) and self.cv == "gcv", restores=self.spread is not None,
        )  # fmt: skip

    def _spectrum(self, task: RidgeTask, notes: Notes) -> Spectrum | KernelInverses:
        """Decompose the responses, or take what an earlier fit has left."""
        every = [alpha for alphas in task.alphas for alpha in alphas]
        samples, mean = task.samples, column_mean(task.samples, self.fit_intercept)
        kept = notes.load_arrays() if isinstance(notes, FitFolder) else None
        if kept is None:
            gram = None
            if not is_primal(*samples.shape) and self.cv != "gcv":
                gram = sample_products(samples, samples, mean)
                inverses = KernelInverses(samples, mean, gram, centred=self.fit_intercept)
                if inverses.suits(task.alphas):
                    return inverses
                del inverses
            spectrum = decompose(samples, every, centred=self.fit_intercept, gram=gram)
            spectrum = replace(spectrum, vectors=np.ascontiguousarray(spectrum.vectors))
            if isinstance(notes, FitFolder) and not notes.complete:
                arrays = {"values": spectrum.values, "vectors": spectrum.vectors}
                if spectrum.other is not None:
                    arrays["other"] = spectrum.other
                notes.save_arrays(arrays)
            return spectrum
        return Spectrum(
            kept["values"], kept["vectors"], samples, mean, is_primal(*samples.shape),
            precision(kept["values"], every, samples.dtype), kept.get("other"),
        )  # fmt: skip

    def _scaled(self, X: Array, task: RidgeTask) -> Array:
        """Return responses as those of training are."""
        scaled: Array = deviations(X, task.mean, task.samples.dtype) / task.scale
        return scaled

    def _keep(self, run: "MassiveFit", dtype: Any, kept: Any) -> None:
        """Take what a run has found."""
        task, spectrum = run.task, run.spectrum
        starts, names = task.starts, [block.name for block in task.blocks]
        self.blocks_ = {
            name: (start, start + block.shape[1])
            for name, start, block in zip(names, starts, task.blocks, strict=False)
        }
        self.block_alphas_ = {
            name: np.asarray(alphas) for name, alphas in zip(names, task.alphas, strict=True)
        }
        self.alphas_ = np.unique(np.concatenate(list(self.block_alphas_.values())))
        found = run.found()
        self.mean_, deviation, self.alpha_, error, total, mean, scale, unit = found
        varies = deviation > 0
        self.weight_unit_ = unit
        self.scale_ = np.where(varies, deviation, 1.0)
        measured = len(task.rows) > 0
        self.cv_r2_ = 1 - error / np.where(varies & (total > 0), total, np.nan)
        self.predicted_mean_ = mean / self.scale_ if measured else np.zeros(len(mean))
        self.predicted_scale_ = scale / self.scale_ if measured else np.ones(len(mean))
        self.gain_ = run.gain(self.predicted_scale_)
        self._judge(run, error, np.where(varies, total, 0.0))
        self.feature_mean_ = task.mean + column_mean(task.samples, self.fit_intercept) * task.scale
        self.feature_scale_ = task.scale
        self.primal_ = spectrum.primal
        self.samples_ = None if spectrum.primal else task.samples
        self.batch_size_, self.n_held_out_ = task.size, len(task.rows)
        self.dtype_, self.weight_dtype_ = str(np.dtype(dtype)), str(np.dtype(kept))
        self.device_, self.single_target_ = "cpu", task.single

    def _judge(self, run: "MassiveFit", error: Float, total: Float) -> None:
        """Say what the penalties chosen tell of their grids; warn once of all blocks."""
        values = run.spectrum.values
        edges = (float(values[0]), float(values[-1])) if len(values) else (0.0, 0.0)
        at_edge, constant = np.zeros(2), 0.0
        with told_once(PenaltyWarning):
            for number, (name, alphas) in enumerate(self.block_alphas_.items()):
                part = slice(*self.blocks_[name])
                judged = judge_choice(
                    alphas.tolist(), self.alpha_[part], error[part], total[part], edges,
                    run.errors(number), shared=not self.alpha_per_target,
                )  # fmt: skip
                share = (part.stop - part.start) / len(self.alpha_)
                at_edge, constant = at_edge + share * judged[0], constant + share * judged[1]
        self.alpha_at_edge_, self.constant_predictions_ = at_edge, float(constant)

    # ---------------------------------------------------------------------------- prediction

    def predict(
        self,
        X: ArrayLike,
        targets: str | slice | None = None,
        *,
        out: str | Path | None = None,
    ) -> Array:
        """Predict targets, with their spread where it is restored; a row depends on that row alone.

        Parameters
        ----------
        X : array (n_samples, n_units)
        targets : str or slice, optional
            A block, or a stretch of targets; all where not given.
        out : path, optional
            A .npy file to write predictions to, which appears when it is complete.

        Returns
        -------
        array (n_samples, n_targets)
            Mapped from `out` where it is given; (n_samples,) if fitted to one column.

        Raises
        ------
        InputError
            If no coefficients were kept (`fit_predict`).
        MissingFileError
            If the folder of the coefficients is not there any more.
        """
        part = self._part(targets)
        readout, table, dtype = self._weighing(X)
        with predictions_table(out, (len(readout), part.stop - part.start), dtype) as predictions:
            for piece, deviation in self._deviations(readout, table, part):
                here = slice(piece.start - part.start, piece.stop - part.start)
                predictions.write(here, restored_spread(deviation.T, *self._restoring(piece)))
        return shown_predictions(out, predictions, self.single_target_)

    def retrieval_targets(self, embeddings: ArrayLike) -> Array:
        """Return what images are retrieved by, in the space of `predict_standardised`."""
        return standard_scores(embeddings, self.mean_, self.scale_)

    def predict_standardised(self, X: ArrayLike, targets: str | slice | None = None) -> Array:
        """Predict standardised targets, shrunken as ridge leaves them: best to compare by.

        Returns
        -------
        array (n_samples, n_targets)
        """
        part = self._part(targets)
        readout, table, dtype = self._weighing(X)
        predicted = np.empty((len(readout), part.stop - part.start), dtype=dtype)
        for piece, deviation in self._deviations(readout, table, part):
            here = slice(piece.start - part.start, piece.stop - part.start)
            predicted[:, here] = deviation / self.scale_[piece]
        return predicted

    def primal(self, targets: str | slice | None = None) -> tuple[Array, Float]:
        """Return coefficients of units, for as many targets as are asked for.

        Parameters
        ----------
        targets : str or slice, optional
            A block, or a stretch of targets; all where not given.

        Returns
        -------
        coef : array (n_targets, n_units)
            Of responses in their own unit, to targets in theirs; without any restored spread.
        intercept : float64 array (n_targets,)
        """
        part = self._part(targets)
        table = self._table()
        scale = self.feature_scale_
        dtype = np.promote_types(scale.dtype, np.float32)
        coef = np.empty((part.stop - part.start, len(scale)), dtype=dtype)
        for piece in target_batches(part.stop - part.start, self.batch_size_):
            there = slice(part.start + piece.start, part.start + piece.stop)
            weights = self._weights(table, there)
            if self.samples_ is not None:
                weights = weights @ self.samples_.astype(weights.dtype, copy=False)
            coef[piece] = weights / scale
        return coef, self.mean_[part] - coef.astype(np.float64) @ self.feature_mean_

    def _part(self, targets: str | slice | None) -> slice:
        """Return a stretch of targets as a slice with a start and a stop."""
        check_is_fitted(self, "alpha_")
        if isinstance(targets, str):
            if targets not in self.blocks_:
                raise unknown_name("block of targets", targets, list(self.blocks_))
            return slice(*self.blocks_[targets])
        start, stop, step = (targets or slice(None)).indices(len(self.alpha_))
        if step != 1 or stop <= start:
            raise InputError(
                f"A stretch of the {len(self.alpha_)} targets must hold one at least, in steps of "
                f"1; got {targets}."
            )
        return slice(start, stop)

    def _table(self) -> MemoryTable | RowFile:
        """Return where the coefficients are."""
        if self.weights_ is not None:
            return MemoryTable(self.weights_)
        if self.folder_ is None:
            raise InputError(
                "No coefficients were kept, as fit_predict forms none: fit, then predict."
            )
        path = Path(self.folder_) / WEIGHTS
        if not is_file(path):
            raise MissingFileError(
                f"The coefficients of this fit are not in {path}: put their folder back, or set "
                "folder_ to where it is now."
            )
        table = RowFile(path)
        if table.shape[0] != len(self.alpha_):
            raise CorruptFileError(
                f"{path} holds {table.shape[0]} targets, this fit has {len(self.alpha_)}: it is "
                "another fit's. Set folder_ to where the coefficients of this one are."
            )
        return table

    def _weights(self, table: MemoryTable | RowFile, part: slice) -> Array:
        """Return coefficients (batch, width) as they are multiplied."""
        weights = table.read(part)
        if weights.dtype == np.float16:
            return weights.astype(np.float32) * self.weight_unit_[part, None].astype(np.float32)
        return weights

    def _weighing(self, X: ArrayLike) -> tuple[Array, MemoryTable | RowFile, np.dtype[Any]]:
        """Return what coefficients are multiplied with, themselves, and the result's dtype."""
        samples = validated(self, X, dtype=FLOATS, reset=False)
        table, dtype = self._table(), samples.dtype
        samples = deviations(samples, self.feature_mean_, dtype) / self.feature_scale_
        if self.samples_ is None:
            return samples, table, dtype
        products = sample_products(samples, self.samples_)  # (n_samples, n_training_samples)
        fine = "float64" in (self.weight_dtype_, str(dtype))
        return products.astype(np.float64 if fine else np.float32), table, dtype

    def _deviations(
        self, readout: Array, table: MemoryTable | RowFile, part: slice
    ) -> Iterator[tuple[slice, Array]]:
        """Give predictions less the training mean, a stretch of targets at a time."""
        for piece in target_batches(part.stop - part.start, self.batch_size_):
            there = slice(part.start + piece.start, part.start + piece.stop)
            yield there, readout @ self._weights(table, there).T

    def _restoring(self, part: slice) -> tuple[Float, Float, Float]:
        """Return mean, shift and factor of some targets; see `restored_spread`."""
        if self.spread is None:
            return self.mean_[part], np.zeros(1), np.ones(1)
        shift = self.predicted_mean_[part] * self.scale_[part]
        return self.mean_[part], shift, self.gain_[part]

    def __brainkit_state__(self) -> dict[str, Any]:
        """Return the fitted attributes; coefficients in a folder stay there."""
        return {name: getattr(self, name) for name in STATE if hasattr(self, name)}

    def __brainkit_restore__(self, state: dict[str, Any]) -> None:
        """Take such attributes back."""
        if not set(state) <= set(STATE):
            raise CorruptFileError("A saved MassiveRidge holds attributes that it does not have.")
        for name, value in state.items():
            setattr(self, name, value)

"""What a run leaves behind to be used: from a person's raw recording to what was decoded of it.

``brainkit.load_estimator(run / "estimator")`` gives one of the classes below. Each holds what the
run fitted on its first fold's training part: the statistics that responses are z-scored by, the
units in use, where people were aligned the map into their shared space, the model, and the way
back to images or sentences. All take raw new recordings; arrays are taken as they are, standardised
already.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from brainkit.arrays.digest import content_digest
from brainkit.arrays.sources import Standardised
from brainkit.data.preparing import Prepared
from brainkit.data.recording import Recording
from brainkit.data.responses import Responses
from brainkit.data.standardising import group_statistics, run_keys
from brainkit.data.stimuli import Stimuli
from brainkit.decoding.image_decoding import RetrievalBank, invert
from brainkit.errors import InputError, SplitError, listed
from brainkit.features import read_for
from brainkit.linear.ridge_estimator import predict_rows
from brainkit.reconstruction.drawing import further_seeds, nearest_drawing

Array = NDArray[Any]
PLACES = ("i", "j", "k", "name", "vertex", "hemisphere")  # columns that say which unit it is


class Preparation(BaseEstimator):
    """From a person's raw recording to the responses that a model takes.

    Parameters
    ----------
    usable : array of bool (units × time,)
        Targets that the model was fitted on.
    aligner : Aligner, optional
        Maps the usable units into a space that people share.
    subject : str, optional
        Whose map the aligner takes.
    by : str, optional
        Column whose groups (sessions) are z-scored; None leaves the values as they are.
    unseen : {None, "session-unlabelled"}
        What happens to a group that had no training trials: an error, or the statistics of its own
        trials, as many as are given.

    Attributes
    ----------
    names_ : tuple of str
        Groups that have statistics.
    shift_, scale_ : arrays (groups, units, ...)
        Mean and standard deviation of each group's training trials.
    places_ : str
        Which units they are; "" where the recording did not say.
    """

    def __init__(
        self,
        usable: Any,
        aligner: Any = None,
        subject: str | None = None,
        by: str | None = None,
        unseen: str | None = None,
    ) -> None:
        self.usable = usable
        self.aligner = aligner
        self.subject = subject
        self.by = by
        self.unseen = unseen

    @classmethod
    def of(cls, fold: Prepared, unseen: str | None = None, **aligned: Any) -> Self:
        """Return what a fold's responses went through; see the parameters for `aligned`."""
        statistics = fold.statistics()
        by = None if statistics is None else fold.zscore["by"]
        aligned = {"usable": fold.usable, **aligned}
        preparation = cls(by=by, unseen=unseen, **aligned)
        if statistics is not None:
            names, preparation.shift_, preparation.scale_ = statistics
            preparation.names_ = tuple(names)
        preparation.places_ = _places(fold.fold.recording)
        return preparation

    @classmethod
    def of_people(cls, together: Any, unseen: str | None = None) -> Self:
        """Return what the tested person's responses went through before they were aligned.

        Parameters
        ----------
        together : brainkit.jobs.people.Together
        unseen : {None, "session-unlabelled"}
        """
        person, by = together.person, together.by
        n_times = int(np.prod(person.responses.shape[2:], dtype=int))
        preparation = cls(
            np.repeat(together.usable, n_times), aligner=together.aligner, subject=person.subject,
            by=by, unseen=unseen,
        )  # fmt: skip
        if by is not None:
            trained_rows = together.rows["train"]
            keys = run_keys(person.rows, by).astype(str).to_numpy()
            preparation.names_ = tuple(dict.fromkeys(keys[trained_rows]))
            members = [trained_rows[keys[trained_rows] == name] for name in preparation.names_]
            preparation.shift_, preparation.scale_ = group_statistics(
                person.responses.source, members
            )
        preparation.places_ = _places(person)
        return preparation

    def read(self, recording: Recording, *, average_repeats: bool = False) -> Recording:
        """Return a raw recording as the run read it: z-scored by its statistics, and averaged.

        Raises
        ------
        InputError
            If its units are others than those of the run.
        SplitError
            If a session of it had no training trials, and `unseen` does not allow its own
            statistics.
        """
        n_units, *times = recording.responses.shape[1:]
        places = _places(recording)
        if n_units * int(np.prod(times, dtype=int)) != len(self.usable):
            n_fitted = len(self.usable) // int(np.prod(times, dtype=int))
            raise InputError(
                f"{recording.subject} has {n_units} units here, and this run was fitted on "
                f"{n_fitted}: load the recording with the options of the run (mask, ROIs), "
                "which its manifest.json holds."
            )
        if self.places_ and places and self.places_ != places:
            raise InputError(
                f"{recording.subject} has as many units as this run was fitted on, {n_units}, but "
                "others: it is another person, or was read with another mask. Load the recording "
                "with the options of the run, which its manifest.json holds."
            )
        if self.by is not None:
            recording = self._standardised(recording)
        return recording.average_repeats() if average_repeats else recording

    def _standardised(self, recording: Recording) -> Recording:
        """Z-score each group by its training statistics, or by its own where that is allowed."""
        keys = run_keys(recording.rows, str(self.by)).astype(str).to_numpy()
        known = dict(zip(self.names_, range(len(self.names_)), strict=True))
        new = [name for name in dict.fromkeys(keys) if name not in known]
        if new and self.unseen is None:
            raise SplitError(
                f"The {self.by}s {listed(new)} had no training trials in this run, which knows "
                f"{listed(self.names_)}. A run with --set protocol.unseen=session-unlabelled "
                "z-scores a new one with its own, unlabelled, statistics; give all its trials then."
            )
        shift, scale = self.shift_, self.scale_
        if new:
            members = [np.flatnonzero(keys == name) for name in new]
            more = group_statistics(recording.responses.source, members)
            shift, scale = np.concatenate([shift, more[0]]), np.concatenate([scale, more[1]])
            known |= {name: len(known) + number for number, name in enumerate(new)}
        group = np.array([known[name] for name in keys], dtype=np.int64)
        source = Standardised(recording.responses.source, group, shift, scale)
        parts = {name: getattr(recording, name) for name in _PARTS}
        return Recording(responses=Responses(source), **parts)

    def values(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Return responses (n, targets): of a raw recording, or of an array (n, units) as it is."""
        if hasattr(given, "responses"):
            values = self.read(given, average_repeats=average_repeats).targets()
        else:
            values = np.asarray(given)
        if values.ndim != 2 or values.shape[1] != len(self.usable):
            raise InputError(
                f"This takes a Recording, or responses (n, {len(self.usable)}); got {values.shape}."
            )
        return self.aligned(values[:, self.usable])

    def epochs(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Return epochs (n, units, times): of a raw recording, or of an array as it is."""
        if hasattr(given, "responses"):
            given = self.read(given, average_repeats=average_repeats).responses.read()
        usable = np.asarray(self.usable).reshape(given.shape[1], -1).all(axis=1)
        return self.aligned(given[:, usable])

    def aligned(self, values: Array) -> Array:
        """Return responses of usable units in the space that people share, where there is one."""
        if self.aligner is None:
            return values
        return np.asarray(self.aligner.transform(values, self.subject))


_PARTS = (
    "subject", "units", "trials", "samples", "events", "stimuli", "space", "times", "sfreq",
    "stimuli_are", "info",
)  # fmt: skip


def _places(recording: Recording) -> str:
    """Return a hash of where a recording's units are; "" where it does not say."""
    columns = [name for name in PLACES if name in recording.units]
    if not columns:
        return ""
    return content_digest([recording.units[name].tolist() for name in columns])


class ImageEncoder(BaseEstimator):
    """From stimuli to the responses of all units.

    Parameters
    ----------
    features, model : fitted transformer and estimator
        From stimuli to features, and from these to the responses of the usable units.
    usable : array of bool (units,)
        Units that the model was fitted on; the others are predicted as NaN.
    """

    def __init__(self, features: Any, model: Any, usable: Any) -> None:
        self.features = features
        self.model = model
        self.usable = usable

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> Any:
        """Read what `predict` takes of some stimuli: images, captions or both."""
        return read_for(self.features, stimuli, rows)

    def predict(self, given: Any) -> Array:
        """Predict the responses (n, units) to images, or to what each trial of a recording shows.

        Where the recipe z-scores, predictions are in standard deviations of the training trials.
        An encoder whose features read captions takes a recording, or what `read` gives.
        """
        if hasattr(given, "responses"):
            rows, item = np.unique(given.stimulus_rows(), return_inverse=True)
            return self.predict(self.read(given.stimuli, rows))[item]
        features = self.features.transform(given)
        predicted = predict_rows(self.model, features, int(np.sum(self.usable)))
        everywhere = np.full((len(predicted), len(self.usable)), np.nan, dtype=predicted.dtype)
        everywhere[:, self.usable] = predicted
        return everywhere


class ImageDecoder(BaseEstimator):
    """From responses to features and images.

    Parameters
    ----------
    features, model : fitted transformer and estimator
        From images to features, and from prepared responses to these.
    preparation : Preparation
        From a raw recording to what the model takes.
    bank : array (n_bank, n_features), optional
        Features of the images to choose from, where decoded features become images through a bank.
    bank_rows : array of int (n_bank,), optional
        Which stimuli these are.
    """

    def __init__(
        self, features: Any, model: Any, preparation: Any, bank: Any = None, bank_rows: Any = None
    ) -> None:
        self.features = features
        self.model = model
        self.preparation = preparation
        self.bank = bank
        self.bank_rows = bank_rows

    def predict_features(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Decode the features of what was shown, (n, features).

        Parameters
        ----------
        given : Recording, or array (n, units)
            Raw trials, or responses that are standardised already.
        average_repeats : bool, default=False
            Average the trials of each stimulus first.
        """
        values = self.preparation.values(given, average_repeats=average_repeats)
        return np.asarray(self.model.predict(values))

    def predict(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Decode images in [0, 1], (n, height, width[, 3]); see `predict_features`."""
        decoded = self.predict_features(given, average_repeats=average_repeats)
        if self.bank is None:
            return np.asarray(invert(self.features, decoded))
        stimuli = getattr(given, "stimuli", None)
        if stimuli is None:
            raise InputError(
                "This decoder shows the training image with the nearest features, and has to read "
                "it: give a Recording with the stimuli of the run."
            )
        return np.asarray(RetrievalBank(stimuli, self.bank_rows, self.bank).images(decoded))


class LabelPipeline(BaseEstimator):
    """From responses to labels or numbers.

    Parameters
    ----------
    model : fitted classifier or regressor
    preparation : Preparation
        From a raw recording to what the model takes.
    epochs : bool, default=False
        Whether the model takes (n, units, times).
    """

    def __init__(self, model: Any, preparation: Any, epochs: bool = False) -> None:
        self.model = model
        self.preparation = preparation
        self.epochs = epochs

    def predict(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Decode a label, or a number, for each row of a raw recording or of prepared responses."""
        read = self.preparation.epochs if self.epochs else self.preparation.values
        return np.asarray(self.model.predict(read(given, average_repeats=average_repeats)))


class ImageReconstructor(BaseEstimator):
    """From responses to embeddings, and to images and sentences by frozen models.

    The frozen models are named, not saved: they are loaded when they are first needed.

    Parameters
    ----------
    embedding_model, latent_model : fitted estimators
        From prepared responses to embeddings, and to flattened latents; the latter may be None.
    preparation : Preparation
        From a raw recording to what the models take.
    generator : dict, optional
        What `Generator.from_pretrained` is given.
    captioner : dict, optional
        What `Captioner.from_pretrained` is given.
    drawing : dict, optional
        ``steps``, ``guidance``, ``noise_level`` and ``strength`` of `Generator.generate`, and
        ``samples``, the drawings of each item of which one is kept.
    saying : dict, optional
        ``max_new_tokens`` and ``num_beams`` of `Captioner.caption`.
    """

    def __init__(
        self,
        embedding_model: Any,
        latent_model: Any,
        preparation: Any,
        generator: dict[str, Any] | None = None,
        captioner: dict[str, Any] | None = None,
        drawing: dict[str, Any] | None = None,
        saying: dict[str, Any] | None = None,
    ) -> None:
        self.embedding_model = embedding_model
        self.latent_model = latent_model
        self.preparation = preparation
        self.generator = generator
        self.captioner = captioner
        self.drawing = drawing
        self.saying = saying

    def predict_embeddings(self, given: Any, *, average_repeats: bool = False) -> Array:
        """Decode the embeddings of what was shown, (n, width).

        Parameters
        ----------
        given : Recording, or array (n, units)
            Raw trials, or responses that are standardised already.
        average_repeats : bool, default=False
            Average the trials of each stimulus first.
        """
        values = self.preparation.values(given, average_repeats=average_repeats)
        return np.asarray(self.embedding_model.predict(values))

    def predict(
        self, given: Any, seeds: Sequence[int] | None = None, *, average_repeats: bool = False
    ) -> Array:
        """Draw images in [0, 1], (n, height, width, 3).

        Parameters
        ----------
        given, average_repeats
            See `predict_embeddings`.
        seeds : sequence of int (n,), optional
            Of the noise that drawing starts from; 0, 1, 2 ... where not given.
        """
        if self.generator is None:
            raise InputError("This run had no generator, so it decodes embeddings only.")
        from brainkit.generators import Generator

        values = self.preparation.values(given, average_repeats=average_repeats)
        generator = self._loaded("generator", Generator, self.generator)
        settings = {"strength": None, "samples": 1, **(self.drawing or {})}
        strength, samples = settings.pop("strength"), settings.pop("samples")
        if self.latent_model is not None:
            flat = np.asarray(self.latent_model.predict(values), dtype=np.float32)
            settings["init_latents"] = flat.reshape(-1, *generator.latent_shape)
            settings["strength"] = strength
        embeddings = np.asarray(self.embedding_model.predict(values))
        numbers = range(len(embeddings)) if seeds is None else seeds
        drawn = [
            generator.generate(image_embeds=embeddings, seeds=further_seeds(numbers, k), **settings)
            for k in range(samples)
        ]
        return np.asarray(nearest_drawing(generator, drawn, embeddings))

    def caption(self, given: Any, *, average_repeats: bool = False) -> list[str]:
        """Say what was shown, a sentence a row; see `predict_embeddings`."""
        if self.captioner is None:
            raise InputError("This run had no captioner.")
        from brainkit.generators import Captioner

        captioner = self._loaded("captioner", Captioner, self.captioner)
        if getattr(captioner, "embedding_width", None) is None:
            shown = {"images": self.predict(given, average_repeats=average_repeats)}
        else:
            embeddings = self.predict_embeddings(given, average_repeats=average_repeats)
            shown = {"image_embeds": embeddings}
        sentences: list[str] = captioner.caption(**shown, **(self.saying or {}))
        return sentences

    def _loaded(self, what: str, kind: Any, options: dict[str, Any]) -> Any:
        """Return a frozen model, loaded once; what a file asks for is never a download."""
        name = f"_{what}"  # not a fitted attribute, so that it is not saved
        if name not in vars(self):
            if options.get("download"):
                raise InputError(
                    f"The {what} of this estimator asks to be downloaded, which is not done for a "
                    "file's sake: set BRAINKIT_DOWNLOAD=1 to allow it."
                )
            setattr(self, name, kind.from_pretrained(**options))
        return getattr(self, name)


def row_table(recording: Recording, *, average_repeats: bool = False) -> pd.DataFrame:
    """Return the trials (samples) that predictions are of, with the ids of their stimuli."""
    rows = recording.repeats()[1] if average_repeats else recording.rows
    table = rows.reset_index(drop=True).copy()
    if recording.stimuli is not None and "stimulus" in table:
        known = table["stimulus"].notna()
        ids = np.full(len(table), None, dtype=object)
        ids[known] = recording.stimuli.ids[table.loc[known, "stimulus"].astype(int)]
        table["id"] = ids
    return table

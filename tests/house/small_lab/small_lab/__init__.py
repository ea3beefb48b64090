"""A package that adds one part of each kind to brainkit: all that such a package needs.

Its dataset is a folder of ``NAME.npz`` files, one a person: ``images`` (n, height, width) uint8 and
``responses`` (n, units), one trial an image.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

from brainkit.alignment import ALIGNERS
from brainkit.alignment.aligner import Affine, Aligner
from brainkit.data.recording import Recording
from brainkit.evaluation.metrics import Metric, metric_entry
from brainkit.jobs.contract import Case, Job, Needs, Result
from brainkit.recipes.specs import Recipe
from brainkit.reporting import Section, Table, Text

HERE = Path(__file__).parent
CARD = HERE / "small-set.yaml"
ENCODE_RECIPE = HERE / "small-encode.yaml"
AGREE_RECIPE = HERE / "small-agree.yaml"

# ------------------------------------------------------------------------------------- dataset

OPTIONS = ("units",)


def subjects(root: Path) -> list[str]:
    """Return the people whose files are there."""
    return sorted(path.stem for path in root.glob("*.npz"))


def load(root: Path, subject: str, units: int | None = None) -> Recording:
    """Load a person, all units or the first few."""
    with np.load(root / f"{subject}.npz") as file:
        return Recording.from_arrays(
            file["responses"][:, :units], subject=subject, stimuli=file["images"]
        )


# ------------------------------------------------------------------------------- feature, model


class GridMeans(TransformerMixin, BaseEstimator):
    """The mean brightness of each cell of a grid over the image."""

    def __init__(self, cells: int = 2) -> None:
        self.cells = cells

    def fit(self, images: Any, y: Any = None) -> "GridMeans":
        """Note how many features there are."""
        self.n_features_out_ = self.cells**2
        return self

    def transform(self, images: Any) -> Any:
        """Return (n, cells²) means, rows of cells first."""
        rows = np.array_split(np.asarray(images, dtype=np.float32) / 255, self.cells, axis=1)
        cells = [cell for row in rows for cell in np.array_split(row, self.cells, axis=2)]
        return np.stack([cell.mean(axis=(1, 2)) for cell in cells], axis=1)


class LeastSquares(RegressorMixin, BaseEstimator):
    """Least squares, of the smallest norm."""

    def fit(self, X: Any, Y: Any) -> "LeastSquares":
        """Fit all units at once."""
        self.mean_, self.target_mean_ = X.mean(axis=0), Y.mean(axis=0)
        self.coef_ = np.linalg.pinv(X - self.mean_) @ (Y - self.target_mean_)
        return self

    def predict(self, X: Any) -> Any:
        """Return (n, units)."""
        return (X - self.mean_) @ self.coef_ + self.target_mean_


# ------------------------------------------------------------------------------- aligner, metric


class UnitMean(Aligner):
    """One shared dimension: the mean over a person's units."""

    def _map(self, subject: str) -> Affine:
        n_units = self.n_units_[subject]
        return Affine.of(np.full((n_units, 1), 1 / n_units, dtype=np.float32))


AGREEMENT = Metric("agreement_r", "pearson-r/held-out/mean-over-dimensions", 0.0, (-1.0, 1.0))

# ------------------------------------------------------------------------------------------ job


class AgreeRecipe(Recipe):
    """An aligner, by name, and the split that it is fitted and tried on."""

    job: Literal["agree"]
    aligner: str
    split: str = "kfold:2"


class Agree(Job):
    """Correlate each person's aligned responses with the mean of the others'."""

    name = "agree"
    schema = AgreeRecipe
    headline = ("agreement_r",)

    def needs(self, recipe: AgreeRecipe) -> Needs:
        """Ask for the other people."""
        return Needs(others=True)

    def run(self, case: Case, recipe: AgreeRecipe, tools: Any) -> Result:
        """Fit the aligner on the training parts and correlate on the test parts."""
        person, people = case.data.subject, {case.data.subject: case.data, **case.others}
        folds = {name: one.split(recipe.split).folds[0] for name, one in people.items()}
        tests = {name: fold.test for name, fold in folds.items()}
        aligner = ALIGNERS[recipe.aligner]()
        aligner.fit({name: fold.train for name, fold in folds.items()}, forbidden=tests)
        shared = {n: aligner.transform(one.responses.read(), n) for n, one in tests.items()}
        others = np.mean([one for name, one in shared.items() if name != person], axis=0)
        entry = metric_entry(
            "agreement_r",
            _mean_r(shared[person], others),
            nulls={"rolled": _mean_r(shared[person], np.roll(others, 1, axis=0))},
            n=len(others),
        )
        rows = [["with the others", entry["value"]], ["rolled", entry["nulls"]["rolled"]]]
        return Result(
            metrics={"agreement_r": entry},
            sections=[
                Section(
                    "Agreement", [Text([f"Aligner: {recipe.aligner}."]), Table(rows, ("", "r"))]
                )
            ],
            pipeline=aligner,
            fitted=[aligner],
        )


def _mean_r(one: Any, other: Any) -> float:
    columns = zip(one.T, other.T, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in columns]))

"""The files of a run folder that hold results; each result goes to the folder of its subject."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from brainkit.arrays.atomic import atomic_path, write_json, write_npy
from brainkit.arrays.persistence import save_estimator
from brainkit.data.recording import Recording
from brainkit.data.units import SensorSpace, VolumeSpace
from brainkit.decoding import DecodingResult
from brainkit.encoding import EncodingResult, SpaceComparison
from brainkit.recipes.fitted import Result, fitted_part
from brainkit.recipes.schema import Recipe
from brainkit.reconstruction import ReconstructionResult
from brainkit.reconstruction.scores import MADE
from brainkit.synthesis import RankingResult

MAPS = ("r", "ceiling", "p")


def save_result(result: Result, folder: Path, recipe: Recipe | None = None) -> None:
    """Write a result's tables, predictions, maps and estimator into a folder.

    Parameters
    ----------
    result : Result
    folder : path
    recipe : Recipe, optional
        What was run; a reconstruction's estimator takes the names of its frozen models from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(result, SpaceComparison):
        result.regions.to_parquet(folder / "layers.parquet")
        result.units.to_parquet(folder / "units.parquet")
        return
    if isinstance(result, EncodingResult):
        _save_encoding(result, folder)
    elif isinstance(result, DecodingResult):
        result.items.to_parquet(folder / "items.parquet")
        result.by_seed.to_parquet(folder / "seeds.parquet")
        write_npy(folder / "predictions.npy", result.images["reconstruction"])
    elif isinstance(result, ReconstructionResult):
        _save_reconstruction(result, folder)
    else:
        ranking_table(result).to_parquet(folder / "ranking.parquet")
        result.regions.to_parquet(folder / "regions.parquet")
    save_estimator(fitted_part(result, recipe), folder / "estimator")


def _save_reconstruction(result: ReconstructionResult, folder: Path) -> None:
    """Write tables, 8-bit images by kind, sentences by kind, and embeddings.

    Rows of the images, the sentences and the embeddings are those of ``items.parquet``.
    """
    result.items.to_parquet(folder / "items.parquet")
    result.retrieval_items.to_parquet(folder / "retrieval_items.parquet")
    for kind, values in result.embeddings.items():
        name = "embeddings" if kind == MADE else f"embeddings-{kind.replace('_', '-')}"
        write_npy(folder / f"{name}.npy", values)
    if result.captions:
        stimuli = result.recording.stimuli
        rows = result.items["stimulus"].to_numpy()
        ids = rows if stimuli is None else stimuli.ids[rows]
        write_json(folder / "captions.json", {"id": ids, **result.captions})
    if result.images:
        eight_bit = {
            kind: np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
            for kind, values in result.images.items()
        }
        with atomic_path(folder / "images.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(file, **eight_bit)


def _save_encoding(result: EncodingResult, folder: Path) -> None:
    result.units.to_parquet(folder / "units.parquet")
    result.regions.to_parquet(folder / "regions.parquet")
    item_table(result).to_parquet(folder / "items.parquet")
    write_npy(folder / "predictions.npy", result.predictions)
    for name in MAPS:
        values = result.units[name].to_numpy()
        if np.isfinite(values).any():
            save_map(result.recording, values, folder / "maps", name)


def item_table(result: EncodingResult) -> pd.DataFrame:
    """Return a row a row of ``predictions.npy``: stimulus row and id."""
    rows = np.asarray(result.test_stimuli)
    stimuli = result.recording.stimuli
    ids = stimuli.ids[rows] if stimuli is not None else rows
    return pd.DataFrame({"stimulus": rows, "id": ids})


def save_map(recording: Recording, values: Any, folder: Path, name: str) -> Path | None:
    """Write one value a unit in the file type of the recording's space; None without a space."""
    if recording.space is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    image = recording.to_image(values)
    if isinstance(recording.space, VolumeSpace):
        path = folder / f"{name}.nii.gz"
        nibabel.save(image, path)
    elif isinstance(recording.space, SensorSpace):
        path = folder / f"{name}-ave.fif"
        image.save(path, verbose=False)
    else:
        path = folder / f"{name}.func.gii"
        for side, surface in image.items():
            nibabel.save(surface, folder / f"{side}.{name}.func.gii")
    return path


def ranking_table(result: RankingResult) -> pd.DataFrame:
    """Return a row a ranked stimulus: region, rank, stimulus row and id, drive, judgement."""
    ids = result.recording.stimuli.ids if result.recording.stimuli is not None else np.empty(0)
    tables = [
        pd.DataFrame(
            {
                "region": region,
                "rank": np.arange(1, len(ranking.rows) + 1),
                "stimulus": ranking.rows,
                "id": ids[ranking.rows],
                "predicted": ranking.predicted,
                "judged": ranking.judged,
                "judged_percentile": ranking.judged_percentile,
            }
        )
        for region, ranking in result.rankings.items()
    ]
    return pd.concat(tables, ignore_index=True)

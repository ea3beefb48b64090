import threading
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from brainkit.errors import InputError
from brainkit.world import Population, SceneWorld, SimulatedBrain, write_nsd
from brainkit.world.workers import in_order, n_workers


def contents(root: Path) -> dict[str, np.ndarray | bytes]:
    """Everything that stands in a folder, decompressed."""
    found: dict[str, np.ndarray | bytes] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = str(path.relative_to(root))
        if path.suffix == ".hdf5":
            with h5py.File(path) as file:
                found |= {f"{name}/{key}": file[key][:] for key in file}
        elif path.suffix == ".gz":
            found[name] = np.asarray(nibabel.load(path).dataobj)
        elif path.suffix != ".mat":  # its header tells the time
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("size", [64, 72])
def test_the_number_of_workers_changes_no_bit(
    tmp_path: Path, size: int, population: Population
) -> None:
    """At 64 pixels the eye reads the written pictures, at others it paints its own."""
    written = []
    for workers in (1, 3):
        root = write_nsd(
            tmp_path / str(workers),
            SceneWorld(0, size),
            (2,),
            images_per_subject=300,
            shared=10,
            trials_per_session=100,
            density=0.05,
            population=population,
            workers=workers,
        )
        written.append(contents(root))
    assert written[0].keys() == written[1].keys()
    for name, values in written[0].items():
        assert_array_equal(values, written[1][name], err_msg=name)


def test_response_is_the_same_with_any_workers_and_with_given_pictures(
    brains: dict[int, SimulatedBrain], world: SceneWorld
) -> None:
    ids = np.arange(260, 0, -1)
    alone = brains[2].response(ids, workers=1)
    assert_array_equal(alone, brains[2].response(ids, workers=4))
    asked: list[int] = []

    def paint(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return world.paint(rows)

    assert_array_equal(alone, brains[2].response(ids, images=paint, workers=1))
    assert asked == ids.tolist()


def test_results_come_in_the_order_of_the_items() -> None:
    second_ran = threading.Event()

    def square(item: int) -> int:
        if item == 0:
            assert second_ran.wait(10)
        second_ran.set()
        return item**2

    assert list(in_order(square, range(20), 2)) == [item**2 for item in range(20)]


def test_at_most_one_result_more_than_workers_waits() -> None:
    started: list[int] = []
    results = in_order(lambda item: started.append(item) or item, range(50), 2)
    assert next(results) == 0
    assert max(started) <= 2
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_at_its_place(workers: int) -> None:
    results = in_order(lambda item: 1 // (2 - item), range(9), workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert n_workers(5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert n_workers() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= n_workers() <= 8
    with pytest.raises(InputError, match="1 or more"):
        n_workers(0)


def test_no_files_without_workers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be 1 or more"):
        write_nsd(tmp_path / "nsd", workers=0)
    assert not (tmp_path / "nsd").exists()

"""Dissimilarities as data, and the reader of the 92 images."""

import shutil

import numpy as np
import pytest

from brainkit import load
from brainkit.data.cards import load_dissimilarities, subjects
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.stimuli import Stimuli
from brainkit.errors import (
    CorruptFileError,
    InputError,
    MissingFileError,
    UnknownNameError,
)
from brainkit.evaluation.rsa import rdm

N = 6


def stack(people=3, n=N, seed=0):
    generator = np.random.default_rng(seed)
    return np.stack([rdm(generator.normal(size=(n, 10))) for _ in range(people)])


@pytest.fixture
def stimuli():
    return Stimuli(np.zeros((N, 4, 4, 3), np.uint8))


def test_regions_are_checked_and_kept_in_order(stimuli):
    early, late = stack(seed=1), stack(seed=2)
    data = Dissimilarities({"V1": early, "IT": late}, ("a", "b", "c"), stimuli)
    assert data.regions == ["V1", "IT"]
    np.testing.assert_array_equal(data["IT"], late)
    assert "3 subjects, 6 stimuli, regions V1, IT" in repr(data)
    with pytest.raises(UnknownNameError, match="Unknown region 'V2'"):
        data["V2"]


@pytest.mark.parametrize(
    ("rdms", "people", "said"),
    [
        ({}, ("a",), "at least one region"),
        ({"V1": stack(2)}, ("a", "b", "c"), r"\(2, 6, 6\), expected \(3, 6, 6\)"),
        ({"V1": stack(n=5)}, ("a", "b", "c"), r"\(3, 5, 5\), expected \(3, 6, 6\)"),
        ({"V1": stack(2)}, ("a", "a"), "different names"),
        ({"V1": 1 - stack(2)}, ("a", "b"), "region V1 is not zero on the diagonal"),
    ],
)
def test_what_does_not_fit_is_refused(stimuli, rdms, people, said):
    with pytest.raises(InputError, match=said):
        Dissimilarities(rdms, people, stimuli)


# ------------------------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "rsa92"


def test_the_92_images_and_15_people(root):
    data = load_dissimilarities("rsa92", root)
    assert data.regions == ["EVC", "IT"]
    assert data["EVC"].shape == data["IT"].shape == (15, 92, 92)
    assert data.subjects[0] == "sub-01"
    assert data.info["card"] == "rsa92"
    images = data.stimuli.read()
    assert images.shape == (92, 175, 175, 3)
    assert (images[:, 0, 0] == 128).all()  # the ground is grey
    table = data.stimuli.table
    assert table["human"].sum() == 24
    assert table["face"].sum() == 24
    assert table["animal"].sum() == 48
    # Faces stand together in IT, which tells that images and RDMs are in the same order.
    mean, face = data["IT"].mean(axis=0), table["face"].to_numpy()
    pairs = mean[np.ix_(face, face)][np.triu_indices(face.sum(), 1)]
    assert pairs.mean() < mean[np.ix_(face, ~face)].mean() - 0.1


def test_the_same_images_on_white(root):
    white = load_dissimilarities("rsa92", root, ground="white").stimuli
    grey = load_dissimilarities("rsa92", root).stimuli
    images = white.read(np.arange(0, 92, 7))
    assert images.shape[1:] == (175, 175, 3)
    assert images[:, :4, :4].min() > 220  # JPEG
    for own, other in zip(images, grey.read(np.arange(0, 92, 7)), strict=True):
        inside = (np.abs(other.astype(int) - 128) > 20).any(axis=2)
        assert np.corrcoef(own[inside].ravel(), other[inside].ravel())[0, 1] > 0.9


def test_it_is_no_recording(root):
    with pytest.raises(InputError, match="rsa92 holds dissimilarities, no recordings"):
        load("rsa92", root)
    with pytest.raises(InputError, match="rsa92 holds dissimilarities"):
        subjects("rsa92", root)
    with pytest.raises(InputError, match="digits69 holds recordings, no dissimilarities"):
        load_dissimilarities("digits69", root)
    with pytest.raises(InputError, match="no option 'colour'; it has ground"):
        load_dissimilarities("rsa92", root, colour="white")
    with pytest.raises(InputError, match="ground cannot be 'blue'"):
        load_dissimilarities("rsa92", root, ground="blue")


@pytest.mark.parametrize("name", ["fmri_IT_RDMs.npz", "Kriegeskorte_Neuron2008"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense"])
def test_missing_and_damaged_files(root, tmp_path, name, damage):
    copy = tmp_path / "rsa92"
    for part in ("92imageData", "cichy92_and_78/nb/brain_data/92images"):
        shutil.copytree(root / part, copy / part, copy_function=shutil.copyfile)
    for folder in [copy, *copy.rglob("*")]:
        folder.chmod(0o755)
    (path,) = [path for path in copy.rglob("*") if path.name.startswith(name)]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
        with pytest.raises(MissingFileError, match=path.name):
            load_dissimilarities("rsa92", copy)
        return
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"nothing")
    with pytest.raises(CorruptFileError, match=f"{path.name} cannot be read"):
        load_dissimilarities("rsa92", copy)


def test_another_shape_is_a_damaged_file(root, tmp_path):
    copy = tmp_path / "rsa92"
    brain = copy / "cichy92_and_78/nb/brain_data/92images"
    shutil.copytree(root / "92imageData", copy / "92imageData", copy_function=shutil.copyfile)
    brain.mkdir(parents=True)
    for region in ("EVC", "IT"):
        np.savez(brain / f"fmri_{region}_RDMs.npz", rdms=stack())
    with pytest.raises(CorruptFileError, match=r"RDMs have shape \(3, 6, 6\)"):
        load_dissimilarities("rsa92", copy)

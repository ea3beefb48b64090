"""Saving and loading: exact, refusing what is foreign, damaged or hostile."""

import copy
import importlib
import json
import pkgutil
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import Ridge

import brainkit
from brainkit.arrays.persistence import (
    ARRAYS,
    STRUCTURE,
    find_estimator,
    load_estimator,
    save_estimator,
    saved_name,
)
from brainkit.decoding import RidgeDecoder
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import CorruptFileError, InputError, MissingFileError, OutputError
from brainkit.features import FeatureStack, OrientedEnergy, PixelPCA, Remembered, SingleSpace

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 9)), RNG.normal(size=(50, 4))
IMAGES = RNG.integers(0, 256, size=(30, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(50, 9), (20, 40)])
@pytest.mark.parametrize("kind", [VoxelwiseRidge, RidgeDecoder])
def test_predictions_come_back_bit_for_bit(tmp_path, kind, shape, dtype):
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=shape).astype(dtype), rng.normal(size=(shape[0], 6)).astype(dtype)
    model = kind(alphas=[1.0, 10.0], n_targets_batch=4).fit(X, Y)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert type(loaded) is kind
    assert loaded.get_params() == model.get_params()
    assert set(vars(loaded)) == set(vars(model))
    for name in ("coef_", "intercept_", "alpha_", "cv_r2_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name), strict=True)
    for rows in (X, X[:1], X[3:7]):
        assert loaded.predict(rows).tobytes() == model.predict(rows).tobytes()


def test_features_come_back_bit_for_bit(tmp_path):
    stack = FeatureStack(
        [
            SingleSpace(Remembered(OrientedEnergy(side=32, frequencies=(4.0,)))),
            SingleSpace(PixelPCA(5), scale="space"),
        ]
    ).fit(IMAGES[:20])
    loaded = load_estimator(save_estimator(stack, tmp_path / "stack"))
    assert loaded.transform(IMAGES).tobytes() == stack.transform(IMAGES).tobytes()
    assert loaded.spaces[0].space.space.frequencies == (4.0,)  # a tuple is a tuple again
    pca = loaded.spaces[1].space
    np.testing.assert_array_equal(
        pca.inverse_transform(np.eye(5)), stack.spaces[1].space.inverse_transform(np.eye(5))
    )


def test_an_unfitted_estimator_and_one_fitted_to_a_data_frame(tmp_path):
    import pandas as pd

    loaded = load_estimator(save_estimator(VoxelwiseRidge(alphas=np.array([1, 2])), tmp_path / "a"))
    np.testing.assert_array_equal(loaded.alphas, np.array([1, 2]), strict=True)
    assert not hasattr(loaded, "coef_")
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(9)])
    model = VoxelwiseRidge().fit(frame, Y)
    loaded = load_estimator(save_estimator(model, tmp_path / "b"))
    np.testing.assert_array_equal(loaded.feature_names_in_, model.feature_names_in_, strict=True)
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))


VALUES = [
    np.array(3.5),
    np.zeros((0, 3), dtype=np.float32),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(5)[::-2],
    np.array([1, 256], dtype=">i2"),
    np.array([True, False]),
    np.array([["a", "bc"], ["", "é"]]),
    np.array(["a", "bc"], dtype=object),
    np.float32(0.1),
    np.int8(-3),
    (1, "x", None, [2.5, (True,)]),
    {"a": np.arange(2), 1: "one", "1": np.ones(2), "nested": {"b": (np.zeros(1),)}},
    {1: np.zeros(1), "1": np.ones(1)},
    float("nan"),
    float("inf"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(tmp_path, value):
    def same(one, other):
        if isinstance(one, dict):
            assert list(one) == list(other)
            return all(same(one[key], other[key]) for key in one)
        if isinstance(one, list | tuple):
            return type(one) is type(other) and all(map(same, one, other))
        if isinstance(one, np.ndarray):
            assert isinstance(other, np.ndarray)
            assert one.dtype.newbyteorder("=") == other.dtype
            np.testing.assert_array_equal(one, other, strict=one.dtype.byteorder != ">")
            return True
        assert type(one) is type(other)
        return repr(one) == repr(other)  # NaN too

    model = VoxelwiseRidge()
    model.extra_ = value
    loaded = load_estimator(save_estimator(model, tmp_path / "model"))
    assert same(value, loaded.extra_)


@pytest.mark.parametrize(
    "value",
    [
        Ridge(),
        np.array([1, None], dtype=object),
        np.array([b"bytes"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([1j]),
        {(1, 2): "key"},
        {1, 2},
        len,
    ],
    ids=repr,
)
def test_what_has_no_safe_format_is_refused(tmp_path, value):
    model = VoxelwiseRidge()
    model.extra_ = value
    with pytest.raises(InputError, match=r"extra_ is .*no safe file format"):
        save_estimator(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_foreign_estimator_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"The estimator is a sklearn.linear_model"):
        save_estimator(Ridge(), tmp_path / "model")


def test_a_folder_in_use_is_left_alone(tmp_path):
    folder = save_estimator(VoxelwiseRidge().fit(X, Y), tmp_path / "model")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="exists already; save the estimator to a new folder"):
        save_estimator(VoxelwiseRidge(), folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        save_estimator(VoxelwiseRidge(), tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        save_estimator(VoxelwiseRidge(), tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    assert load_estimator(save_estimator(VoxelwiseRidge(), tmp_path / "empty"))


def test_a_crash_while_saving_leaves_nothing(tmp_path, monkeypatch):
    import safetensors.numpy

    def full_disk(arrays):
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_estimator(VoxelwiseRidge().fit(X, Y), tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    return save_estimator(VoxelwiseRidge().fit(X, Y), tmp_path / "model")


@pytest.mark.parametrize("name", [STRUCTURE, ARRAYS])
def test_a_half_written_folder_is_refused(saved, name):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match="is not a readable estimator"):
        load_estimator(saved)
    (saved / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        load_estimator(saved)


def test_a_missing_array_and_a_later_format(saved):
    arrays = load_file(saved / ARRAYS)
    del arrays["coef_"]
    save_file(arrays, saved / ARRAYS)
    with pytest.raises(CorruptFileError, match=r"not a readable estimator.*coef_"):
        load_estimator(saved)
    structure = json.loads((saved / STRUCTURE).read_text())
    structure["format"] = 99
    (saved / STRUCTURE).write_text(json.dumps(structure))
    with pytest.raises(CorruptFileError, match="has format 99; this brainkit reads 1"):
        load_estimator(saved)


def entry(name, **parts):
    return {"$estimator": name, "parameters": {}, "fitted": {}, **parts}


VOXELWISE = "brainkit.encoding.voxelwise_ridge:VoxelwiseRidge"
HOSTILE = {
    "a function": (entry("os:system", parameters={"command": "true"}), "not an estimator"),
    "another package": (entry("sklearn.linear_model:Ridge"), "not an estimator of brainkit"),
    "a package like ours": (entry("brainkitty.evil:Model"), "not an estimator of brainkit"),
    "what we import": (entry("brainkit.linear.ridge_estimator:BaseEstimator"), "not an estimator"),
    "a module": (entry("brainkit.arrays.persistence:importlib"), "not an estimator"),
    "a function of ours": (entry("brainkit.arrays.persistence:save_estimator"), "not an estimator"),
    "a dotted name": (entry("brainkit.arrays.persistence:importlib.import_module"), "has no"),
    "no such class": (
        entry("brainkit.encoding.voxelwise_ridge:Evil"),
        "has no brainkit.encoding.voxelwise_ridge:Evil",
    ),
    "no such module": (entry("brainkit.evil:Evil"), "has no brainkit.evil:Evil"),
    "a relative module": (entry("brainkit..os:system"), "has no"),
    "the command line": (entry("brainkit.__main__:main"), "not an estimator of brainkit"),
    "a command": (entry("brainkit.cli.app:Guarded"), "not an estimator of brainkit"),
    "a command by its room": (entry("brainkit.cli:main"), "not an estimator of brainkit"),
    "a base class": (entry("brainkit.encoding.deep.deep_encoder:DeepEncoder"), "not an estimator"),
    "a class by another module": (
        entry("brainkit.linear.ridge_solver:VoxelwiseRidge"),
        "not an estimator",
    ),
    "a class by another room": (entry("brainkit.features:VoxelwiseRidge"), "not an estimator"),
    "a result": (entry("brainkit.encoding.judging:EncodingResult"), "not an estimator"),
    "a path": (entry("brainkit.encoding/../../evil:Evil"), "not an estimator"),
    "a path of dots": (entry("....evil:Evil"), "not an estimator"),
    "a line of its own": (entry(f"{VOXELWISE}\n"), "not an estimator"),
    "a nested class": (entry(f"{VOXELWISE}.Inner"), "not an estimator"),
    "another alphabet": (
        entry("brainkit.encoding.x:VοxelwiseRidge"),
        "not an estimator",
    ),
    "an estimator within": (
        entry(VOXELWISE, parameters={"alphas": entry("brainkit.__main__:main")}),
        "not an estimator of brainkit",
    ),
    "a state": (entry(VOXELWISE, fitted={"__dict__": {"$dict": []}}), "__dict__ is not the name"),
    "a huge shape": (
        entry(VOXELWISE, fitted={"a_": {"$strings": ["a"], "shape": [10**12], "object": True}}),
        "not a readable",
    ),
    "a shape without end": (
        entry(VOXELWISE, fitted={"a_": {"$strings": [], "shape": [10**30], "object": True}}),
        "not a readable",
    ),
    "text that fills the memory": (
        entry(
            VOXELWISE,
            fitted={
                "a_": {"$strings": ["a" * 2**16] + [""] * 2**13, "shape": [-1], "object": False}
            },
        ),
        "would not fit in memory",
    ),
    "text that is none": (
        entry(VOXELWISE, fitted={"a_": {"$strings": [1], "shape": [1], "object": True}}),
        "text that is none",
    ),
    "a deep encoder of nothing": (
        entry(
            "brainkit.encoding.readouts.spatial_readouts:LinearReadout",
            state={"$dict": [["format", 1], ["module", {"$dict": []}], ["fitted", 3]]},
        ),
        "not a readable|was saved in format",
    ),
    "a method": (entry(VOXELWISE, fitted={"predict": "x"}), "predict is not the name of a fitted"),
    "a class": (entry(VOXELWISE, fitted={"__class__": "x"}), "__class__ is not the name"),
    "a dunder": (entry(VOXELWISE, fitted={"__init__": 1}), "__init__ is not the name"),
    "an unknown parameter": (entry(VOXELWISE, parameters={"evil": 1}), "not a readable"),
    "a number for a name": (entry(5), "not a readable"),
    "no fitted part": ({"$estimator": VOXELWISE, "parameters": {}}, "not a readable"),
    "a list of parameters": (entry(VOXELWISE, parameters=[1]), "not a readable"),
    "an unknown kind": (entry(VOXELWISE, fitted={"a_": {"$eval": "1"}}), "unknown kind '.eval'"),
    "an empty entry": (entry(VOXELWISE, fitted={"a_": {}}), "unknown kind None"),
    "odd pairs": (entry(VOXELWISE, fitted={"a_": {"$dict": [[1, 2, 3]]}}), "not a readable"),
    "an array that is not there": (entry(VOXELWISE, fitted={"a_": {"$array": "x"}}), "readable"),
    "text of another shape": (
        entry(VOXELWISE, fitted={"a_": {"$strings": ["a"], "shape": [2], "object": True}}),
        "not a readable",
    ),
}


def test_a_class_is_named_by_its_room_and_found_by_any_module_of_it(saved):
    """Files that were saved before a module was renamed can still be read."""
    structure = json.loads((saved / STRUCTURE).read_text())
    assert structure["estimator"]["$estimator"] == "brainkit.encoding:VoxelwiseRidge"
    structure["estimator"]["$estimator"] = "brainkit.encoding.a_module_that_was:VoxelwiseRidge"
    (saved / STRUCTURE).write_text(json.dumps(structure))
    np.testing.assert_array_equal(
        load_estimator(saved).predict(X), VoxelwiseRidge().fit(X, Y).predict(X)
    )


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_builds_nothing(saved, case):
    content, message = HOSTILE[case]
    (saved / STRUCTURE).write_text(json.dumps({"format": 1, "estimator": content}))
    with pytest.raises(CorruptFileError, match=message):
        load_estimator(saved)


def test_a_file_runs_nothing_and_imports_nothing_that_it_names(saved, tmp_path):
    """In a process of its own, whose command line the file would like to run."""
    for name in ("brainkit.__main__:main", "brainkit.cli.job_commands:demo", "mine:Model"):
        (saved / STRUCTURE).write_text(json.dumps({"format": 1, "estimator": entry(name)}))
        (tmp_path / "mine.py").write_text("print('ran')\nclass Model:\n    get_params = None\n")
        program = f"""
            import sys
            import brainkit
            from brainkit.errors import CorruptFileError
            sys.argv = ["brainkit", "datasets"]
            try:
                brainkit.load_estimator({str(saved)!r})
            except CorruptFileError:
                print("refused", {name.partition(":")[0]!r} in sys.modules)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "refused False\n"), done.stderr


def test_importing_the_programs_module_runs_nothing(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["brainkit", "datasets"])
    sys.modules.pop("brainkit.__main__", None)
    importlib.import_module("brainkit.__main__")
    assert capsys.readouterr() == ("", "")


# What only other estimators are made from, or what is kept as another one.
BASES = {
    "CrossValidatedRidge", "DeepEncoder", "MaskReadout", "PoolingReadout", "PooledEncoder",
    "PooledSpace", "TrainableNetwork",
}  # fmt: skip


def estimators():
    """Find every class of the package that has parameters as scikit-learn's do."""
    from sklearn.base import BaseEstimator

    for module in pkgutil.walk_packages(brainkit.__path__, "brainkit."):
        for kind in vars(importlib.import_module(module.name)).values():
            its_own = isinstance(kind, type) and kind.__module__ == module.name
            if its_own and issubclass(kind, BaseEstimator) and kind.__name__ not in BASES:
                yield kind


def test_every_estimator_is_registered_and_comes_back(tmp_path):
    found = list(estimators())
    assert len(found) > 25
    for number, kind in enumerate(found):
        assert find_estimator(saved_name(kind)) is kind, kind
        try:
            made = kind()
        except TypeError:  # it is made of others
            continue
        loaded = load_estimator(save_estimator(made, tmp_path / str(number)))
        assert type(loaded) is kind
        assert repr(loaded.get_params()) == repr(made.get_params())


@pytest.mark.parametrize("kind", ["model", "feature", "aligner", "job", None])
def test_another_package_registers_its_estimators_in_so_many_words(tmp_path, monkeypatch, kind):
    (tmp_path / "theirs.py").write_text(
        "from sklearn.base import BaseEstimator\n\n"
        "class Mine(BaseEstimator):\n"
        "    def __init__(self, alpha=1.0):\n        self.alpha = alpha\n\n"
        "class Other(Mine):\n    pass\n"
    )
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    text = f"[brainkit.parts]\n{kind}.mine = theirs:Mine\n" if kind else ""
    (about / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    theirs = importlib.import_module("theirs")
    model = theirs.Mine(alpha=3.0)
    model.coef_ = np.arange(3)
    if kind in ("job", None):
        with pytest.raises(InputError, match=r"theirs\.Mine.*brainkit\.parts"):
            save_estimator(model, tmp_path / "model")
        return
    loaded = load_estimator(save_estimator(model, tmp_path / "model"))
    assert (type(loaded), loaded.alpha) == (theirs.Mine, 3.0)
    np.testing.assert_array_equal(loaded.coef_, model.coef_)
    with pytest.raises(InputError, match=r"theirs\.Other"):
        save_estimator(theirs.Other(), tmp_path / "other")


def mutated(value, generator):
    """Change one place of a JSON value at random."""
    places = []

    def walk(part, path):
        places.append(path)
        if isinstance(part, dict | list):
            for key, item in part.items() if isinstance(part, dict) else enumerate(part):
                walk(item, (*path, key))

    walk(value, ())
    *path, last = generator.choice(places[1:])
    place = value
    for key in path:
        place = place[key]
    new = generator.choice(
        [None, -1, 1e308, 10**25, "x", [], {}, [[]], {"$array": "coef_"}, {"$tuple": [1]}, True]
    )
    if isinstance(place, dict) and generator.random() < 0.3:
        place[generator.choice(["a_", "_b_", "__class__", "x", "$estimator"])] = place.pop(last)
    else:
        place[last] = new


def test_changed_files_are_read_or_refused(tmp_path):
    """240 random changes to files of four estimators, a deep one among them."""
    from brainkit.encoding import LinearReadout

    images = RNG.normal(size=(20, 4, 3)).astype(np.float32)
    made = [
        VoxelwiseRidge().fit(X, Y),
        RidgeDecoder(cv=3).fit(X, Y),
        FeatureStack([SingleSpace(PixelPCA(2))]).fit(IMAGES),
        LinearReadout(epochs=1, progress=False).fit(images, RNG.normal(size=(20, 2))),
    ]
    generator = random.Random(0)
    refused = 0
    for number, model in enumerate(made):
        folder = save_estimator(model, tmp_path / str(number))
        whole = json.loads((folder / STRUCTURE).read_text())
        for _ in range(60):
            content = copy.deepcopy(whole)
            mutated(content, generator)
            (folder / STRUCTURE).write_text(json.dumps(content))
            try:
                load_estimator(folder)
            except CorruptFileError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "{}", "", "\x00", '{"format": 1}'])
def test_json_of_another_shape(saved, text):
    (saved / STRUCTURE).write_text(text)
    with pytest.raises(CorruptFileError, match="is not a readable estimator"):
        load_estimator(saved)


def test_nesting_without_end(saved):
    deep = '{"format": 1, "estimator": ' + '{"$tuple": [' * 100_000 + "]}" * 100_000 + "}"
    (saved / STRUCTURE).write_text(deep)
    with pytest.raises(CorruptFileError, match="is not a readable estimator"):
        load_estimator(saved)


def test_bytes_that_are_not_text(saved):
    (saved / STRUCTURE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFileError, match="is not a readable estimator"):
        load_estimator(saved)


@pytest.mark.parametrize(
    "root", [5, "hello", [1, 2], None, True, {}, {"$dict": [["a", 1]]}, {"$tuple": [1]}]
)
def test_what_a_folder_holds_is_an_estimator(saved, root):
    path = saved / STRUCTURE
    structure = json.loads(path.read_text())
    path.write_text(json.dumps({**structure, "estimator": root}))
    with pytest.raises(CorruptFileError, match="holds no estimator, but a"):
        load_estimator(saved)


@pytest.mark.parametrize("form", [True, "1", 2, None])
def test_formats_that_are_none(saved, form):
    path = saved / STRUCTURE
    structure = json.loads(path.read_text())
    path.write_text(json.dumps({**structure, "format": form}))
    with pytest.raises(CorruptFileError, match=f"has format {form!r}; this brainkit reads 1"):
        load_estimator(saved)

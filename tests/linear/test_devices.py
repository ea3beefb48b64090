"""Linear estimators on a device of torch, whose processor stands in for a GPU, beside NumPy."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from brainkit.arrays import devices
from brainkit.arrays.devices import (
    device_name,
    free_bytes,
    pick_device,
    solver_device,
    to_device,
    to_numpy,
)
from brainkit.decoding import RidgeDecoder
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.linear import ridge_estimator

MODELS = [
    VoxelwiseRidge(),
    VoxelwiseRidge(cv="loo"),
    VoxelwiseRidge(cv="gcv", standardise=True),
    VoxelwiseRidge(alpha_per_target=False, fit_intercept=False),
    RidgeDecoder(),
    KernelRidge(),
    KernelRidge("rbf"),
    KernelRidge("rbf", cv="gcv"),
    BandedRidge([4, 8, 18], draws=6),
    BandedRidge([4, 8, 18], draws=6, racing=True, standardise="bands"),
    ReducedRankRidge(ranks=(1, 3)),
]


def problem(n, dtype):
    rng = np.random.default_rng(n)
    X = (rng.normal(size=(n, 30)) * rng.uniform(0.3, 3, 30) + 5).astype(dtype)
    Y = X @ rng.normal(size=(30, 7)) / 3 + rng.normal(size=(n, 7)) + 50
    return X, Y.astype(dtype)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("n", [90, 24])  # more samples than features, and fewer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_device_of_torch_gives_what_numpy_gives(monkeypatch, model, n, dtype):
    X, Y = problem(n, dtype)
    expected = clone(model).set_params(device="cpu").fit(X, Y)
    assert expected.device_ == "cpu"
    # As with a GPU, whose arrays are tensors too.
    monkeypatch.setattr(ridge_estimator, "solver_device", lambda name: torch.device("cpu"))
    seen = []
    monkeypatch.setattr(
        ridge_estimator, "to_device", lambda x, d: seen.append(d) or to_device(x, d)
    )
    found = clone(model).fit(X, Y)
    assert seen == [torch.device("cpu")]
    assert found.device_ == "cpu"
    assert found.dtype_ == expected.dtype_
    for name, value in vars(found).items():
        assert not isinstance(value, torch.Tensor), name
    np.testing.assert_allclose(found.alpha_, expected.alpha_)
    rtol = 2e-3 if dtype == np.float32 else 1e-7
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=rtol)
    np.testing.assert_allclose(found.cv_r2_, expected.cv_r2_, rtol=rtol, atol=rtol)
    assert found.predict(X).dtype == dtype


def test_repeats_are_averaged_on_the_device_too(monkeypatch):
    X, Y = problem(40, np.float64)
    X, shown = np.repeat(X, 3, axis=0), np.repeat(np.arange(40), 3)
    Y = np.repeat(Y, 3, axis=0) + np.random.default_rng(0).normal(size=(120, 7))
    expected = ReducedRankRidge(ranks=(1, 3), device="cpu").fit(X, Y, groups=shown)
    monkeypatch.setattr(ridge_estimator, "solver_device", lambda name: torch.device("cpu"))
    found = ReducedRankRidge(ranks=(1, 3)).fit(X, Y, groups=shown)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6, atol=1e-9)


def test_what_ran_is_said():
    X, Y = problem(90, np.float32)
    assert VoxelwiseRidge(alphas=[10.0]).fit(X, Y).dtype_ == "float32"
    # So small a penalty beside so large an eigenvalue is beyond single precision.
    X[:, 0] *= 1e4
    assert VoxelwiseRidge(alphas=[1e-3]).fit(X, Y).dtype_ == "float64"
    assert VoxelwiseRidge(alphas=[10.0]).fit(X.astype(float), Y).dtype_ == "float64"


def test_auto_is_the_processor_where_there_is_no_gpu(monkeypatch):
    if not torch.cuda.is_available():
        assert solver_device("auto") is None
    assert solver_device("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(InputError, match=r"There are 1 GPUs.*'cuda:1' is not one"):
        pick_device("cuda:1")


def test_torch_is_not_loaded_to_learn_that_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "Path", lambda *parts: tmp_path.joinpath(*parts[1:]))
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.delitem(devices.sys.modules, "torch")
    assert not devices._may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert devices._may_have_gpu()


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "'gpu' is no device"),
        ("mps", "no double precision"),
        (3, "device must be a name"),
        (None, "device must be a name"),
    ],
)
@pytest.mark.parametrize("kind", [VoxelwiseRidge, KernelRidge, BandedRidge, ReducedRankRidge])
def test_devices_that_cannot_be_are_refused(kind, device, said):
    with pytest.raises(InputError, match=said):
        kind(device=device).fit(*problem(90, np.float64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="There is no GPU for device='cuda:0'"):
        VoxelwiseRidge(device="cuda:0").fit(*problem(90, np.float64))


def test_memory_is_measured_on_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 << 20, 9 << 20))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 << 20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 20)
    assert free_bytes(torch.device("cuda:0")) == 4 << 20
    assert free_bytes("cpu") > 4 << 20


def test_arrays_go_there_and_back(monkeypatch):
    values = np.arange(3.0)
    assert to_device(values, None) is values
    np.testing.assert_array_equal(to_numpy(to_device(values, torch.device("cpu"))), values)
    assert device_name(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_name(torch.device("cuda")) == "cuda:1"
    assert device_name(torch.device("cuda:0")) == "cuda:0"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_gpu_gives_what_numpy_gives(model):
    X, Y = problem(90, np.float64)
    expected = clone(model).set_params(device="cpu").fit(X, Y)
    found = clone(model).set_params(device="cuda").fit(X, Y)
    assert found.device_ == "cuda:0"
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-6)

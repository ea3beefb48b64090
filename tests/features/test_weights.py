"""Where weights are found, how they are loaded, converted and told apart."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from brainkit.errors import (
    CorruptFileError,
    DownloadError,
    InputError,
    MissingFileError,
    UnknownNameError,
)
from brainkit.features.weights import (
    find_hub_file,
    find_model,
    find_safetensors,
    load_state,
    may_download,
    read_state,
    weights_hash,
)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def test_load_is_exact_and_counted(tmp_path: Path) -> None:
    source, target = network(), network()
    torch.nn.init.zeros_(target[0].weight)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    counts = load_state(target, tmp_path / "w.safetensors")
    assert counts == {"loaded": 7, "missing": 0, "unexpected": 0}
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_half_precision_is_cast(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in network().state_dict().items()}
    target = network()
    load_state(target, state)
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, state["0.weight"].float())


def test_without_strictness_something_must_still_fit() -> None:
    state = {"0.weight": torch.ones(4, 3), "other": torch.ones(1)}
    counts = load_state(network(), state, strict=False)
    # The seventh, the number of batches seen, torch takes for 0 where it is not said.
    assert counts == {"loaded": 1, "missing": 5, "unexpected": 1}
    with pytest.raises(InputError, match="0 were found"):
        load_state(network(), {"other": torch.ones(1)}, strict=False)


def test_hash_tells_values_types_and_names() -> None:
    plain = weights_hash(network())
    assert plain == weights_hash(network())
    assert len(plain) == 64
    changed = network()
    with torch.no_grad():
        changed[0].weight[0, 0] += 1e-6
    renamed = torch.nn.Sequential(torch.nn.Identity(), *network())
    hashes = {plain, weights_hash(changed), weights_hash(renamed), weights_hash(network().half())}
    assert len(hashes) == 4


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".ckpt"])
def test_pickles_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(network().state_dict(), path)
    with pytest.raises(InputError, match=r"pickled.*safetensors\.torch\.save_file"):
        read_state(path)
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file"):
        find_safetensors(tmp_path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match="truncated or damaged"):
        read_state(path)
    with pytest.raises(MissingFileError, match=r"no\.safetensors"):
        read_state(tmp_path / "no.safetensors")
    with pytest.raises(MissingFileError, match="holds no weights"):
        find_safetensors(Path(__file__).parent)


def test_several_files_of_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="several files of weights"):
        find_safetensors(tmp_path, ["c.safetensors"])
    assert find_safetensors(tmp_path, ["b.safetensors"]).name == "b.safetensors"


def test_find_folders(tmp_path: Path) -> None:
    assert find_model(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(MissingFileError, match="There is no folder"):
        find_model("./no-such-folder")
    with pytest.raises(UnknownNameError, match="tiny model 'clop'"):
        find_model("tiny/clop")


@pytest.mark.parametrize("download", [False, True])
def test_offline_hub_says_what_where_and_how(download: bool) -> None:
    expected = (
        r"hf:org/name is needed.*local cache .*hub.*"
        "hf download org/name"
    )
    with pytest.raises(DownloadError, match=expected):
        find_model("hf:org/name", download=download)
    with pytest.raises(DownloadError, match=r"x\.safetensors was looked for"):
        find_hub_file("org/name", "x.safetensors", download=download)


def test_downloads_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAINKIT_DOWNLOAD", raising=False)
    assert not may_download()
    assert may_download(True)
    monkeypatch.setenv("BRAINKIT_DOWNLOAD", "1")
    assert may_download()
    assert not may_download(False)

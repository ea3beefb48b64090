"""Where weights are found, how they are loaded, converted and told apart."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from brainkit.errors import (
    CorruptFileError,
    DownloadError,
    InputError,
    MissingFileError,
    UnknownNameError,
)
from brainkit.features.weights import (
    convert_weights,
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
    with pytest.raises(InputError, match=r"brainkit weights convert .*w\.safetensors"):
        read_state(path)
    with pytest.raises(InputError, match="brainkit weights convert"):
        find_safetensors(tmp_path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match="damaged or incomplete"):
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


@pytest.mark.parametrize("wrapped", [False, True])
def test_convert(tmp_path: Path, wrapped: bool) -> None:
    state = network().state_dict()
    content: dict[str, object] = dict(state)
    if wrapped:
        renamed = {f"module.{name}": value for name, value in state.items()}
        content = {"state_dict": renamed, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    report = convert_weights(tmp_path / "w.pth", tmp_path / "new" / "w.safetensors")
    assert report == {"tensors": 7, "values": 12 + 4 * 5 + 1, "left_out": []}
    converted = load_file(tmp_path / "new" / "w.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[name], value) for name, value in state.items())
    (tmp_path / "plain").touch()
    assert (tmp_path / "new" / "w.safetensors").stat().st_mode == (
        tmp_path / "plain"
    ).stat().st_mode


def test_convert_copies_shared_memory_and_names_what_is_left_out(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": shared, "b": shared.T, "epoch": 3}, tmp_path / "w.pt")
    report = convert_weights(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert report["left_out"] == ["epoch"]
    converted = load_file(tmp_path / "w.safetensors")
    assert torch.equal(converted["b"], shared.T)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def test_convert_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Harmful()))
    torch.save({"x": Harmful()}, tmp_path / "z.pth")
    for name in ("w.pth", "z.pth"):
        with pytest.raises(InputError, match="would run code"):
            convert_weights(tmp_path / name, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_convert_bad_input(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(InputError, match="no tensors"):
        convert_weights(tmp_path / "w.pth", tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"must be called \*.safetensors"):
        convert_weights(tmp_path / "w.pth", tmp_path / "w.pt")
    with pytest.raises(MissingFileError, match=r"no\.pth"):
        convert_weights(tmp_path / "no.pth", tmp_path / "w.safetensors")
    with pytest.raises(CorruptFileError, match="cannot be read as weights"):
        convert_weights(tmp_path / "bad.pth", tmp_path / "w.safetensors")

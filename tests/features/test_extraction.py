"""Extraction: stimuli of every kind, several layers, the store, and bad input."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

from brainkit.data.rgb import as_rgb, open_image
from brainkit.data.stimuli import Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError, UnknownNameError
from brainkit.features import Backbone, FeatureStore, TorchModel, extract
from brainkit.features.extraction import ModelInputs
from brainkit.features.fingerprint import fingerprint

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 8, 8, 3), dtype=np.uint8)
PROBE = [3, 3, 1, 1, 1]  # images in the passes that look whether a model is frozen


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(4, 5, 3, stride=2)
    )


def by_hand(images: np.ndarray) -> list[np.ndarray]:
    """Outputs of all parts of `network`, one image at a time."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    out = []
    with torch.no_grad():
        for part in network():
            x = torch.cat([part(row.clone()[None]) for row in x])
            out.append(x.clone().numpy())
    return out


def test_layers_equal_the_modules_own_outputs() -> None:
    features = extract(network(), IMAGES, layers=["0", "1", "2"], batch_size=4)
    for name, expected in zip("012", by_hand(IMAGES), strict=True):
        tokens = expected.reshape(21, expected.shape[1], -1).transpose(0, 2, 1)
        assert features[name].dtype == np.float32
        np.testing.assert_allclose(features[name], tokens, rtol=1e-5, atol=1e-6)


def test_one_array_or_a_dict() -> None:
    assert extract(network(), IMAGES[:2], pool="mean").shape == (2, 5)
    assert extract(network(), IMAGES[:2], layers="0", pool="mean").shape == (2, 4)
    assert list(extract(network(), IMAGES[:2], layers=["0"])) == ["0"]
    assert list(extract(network(), IMAGES[:2], layers=["2", "0"])) == ["2", "0"]


def test_all_kinds_of_image_stimuli_agree(tmp_path: Path) -> None:
    paths = []
    for number, image in enumerate(IMAGES[:5]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    stack = IMAGES[:5].copy()
    expected = extract(network(), stack, pool="flatten")
    np.testing.assert_array_equal(stack, IMAGES[:5])
    kinds: list[Any] = [
        stack / 255,
        (stack / np.float32(255)).astype(np.float32),
        list(stack),
        [Image.fromarray(image) for image in stack],
        [Image.open(path) for path in paths],
        paths,
        [str(path) for path in paths],
        np.array([str(path) for path in paths]),
        Stimuli(stack),
        Stimuli.from_files(paths),
    ]
    for stimuli in kinds:
        np.testing.assert_array_equal(extract(network(), stimuli, pool="flatten"), expected)


def test_half_precision() -> None:
    whole = extract(network(), IMAGES, pool="mean")
    half = extract(network(), IMAGES, pool="mean", dtype="float16")
    np.testing.assert_array_equal(half, whole.astype(np.float16))


def test_store_gives_the_same_and_is_not_computed_twice(tmp_path: Path) -> None:
    calls: list[int] = []
    model = counted(network(), calls)
    plain = extract(network(), IMAGES, layers=["0", "2"], batch_size=4)
    stored = extract(model, IMAGES, layers=["0", "2"], batch_size=4, store=tmp_path / "s")
    for layer, values in plain.items():
        assert isinstance(stored[layer], np.memmap)
        np.testing.assert_array_equal(stored[layer], values)
    # First the probe, then one image to find the shapes.
    assert calls == [*PROBE, 1, 4, 4, 4, 4, 4, 1]
    calls.clear()
    again = extract(model, IMAGES, layers=["2", "0"], batch_size=4, store=tmp_path / "s")
    np.testing.assert_array_equal(again["2"], plain["2"])
    assert calls == []
    extract(model, IMAGES, layers=["1", "2"], batch_size=4, store=FeatureStore(tmp_path / "s"))
    assert len(calls) == len(PROBE) + 7


def counted(module: torch.nn.Module, calls: list[int]) -> TorchModel:
    """A backbone of a module that notes the size of every batch."""
    module.register_forward_pre_hook(lambda part, inputs: calls.append(len(inputs[0])))
    return TorchModel(module, name="counted")


def test_anything_that_changes_numbers_is_another_entry(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "s")
    other = network()
    with torch.no_grad():
        other[0].bias += 1
    variants: list[dict[str, Any]] = [
        {},
        {"pool": "mean"},
        {"dtype": "float16"},
        {"batch_size": 3},
        {"layers": "0"},
    ]
    for settings in variants:
        extract(network(), IMAGES[:4], store=store, **settings)
    extract(other, IMAGES[:4], store=store)
    extract(network(), IMAGES[1:5], store=store)
    assert len(store.entries()) == len(variants) + 2
    extract(network(), IMAGES[:4], store=store)
    assert len(store.entries()) == len(variants) + 2


class Interrupted(TorchModel):
    """Fails at one batch, like a process that is stopped there."""

    fails_at = -1

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise KeyboardInterrupt
        return super().run(batch, layers)


@pytest.mark.parametrize("fails_at", [1, 5, 6, 7, 14, 17])
def test_resumes_bit_identically(tmp_path: Path, fails_at: int) -> None:
    # Chunks are eight batches of three, the last one shorter.
    images = RNG.integers(0, 256, (67, 8, 8, 3), dtype=np.uint8)
    settings: dict[str, Any] = {"layers": ["0", "2"], "batch_size": 3, "store": tmp_path / "s"}
    whole = extract(network(), images, layers=["0", "2"], batch_size=3)
    model = Interrupted(network())
    model.fails_at = fails_at
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, **settings)
    assert not any(entry.complete for entry in FeatureStore(tmp_path / "s").entries())
    resumed = extract(Interrupted(network()), images, **settings)
    for layer, values in whole.items():
        np.testing.assert_array_equal(resumed[layer], values)


def test_only_missing_batches_are_computed_on_resuming(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (67, 8, 8, 3), dtype=np.uint8)
    model = Interrupted(network(), name="counted")
    model.fails_at = len(PROBE) + 12  # after the first chunk of eight batches
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, batch_size=3, store=tmp_path / "s")
    calls: list[int] = []
    extract(counted(network(), calls), images, batch_size=3, store=tmp_path / "s")
    assert sum(calls) == sum(PROBE) + 1 + 67 - 24


def test_mixed_modes_and_sizes_become_rgb(vit_folder: Path, tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
    colour = RNG.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    pairs = {
        "grey": (Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)),
        "sixteen": (
            Image.fromarray(grey.astype(np.uint16) * 257),
            np.repeat(grey[..., None], 3, 2),
        ),
        "float": (
            Image.fromarray(grey.astype(np.float32) / np.float32(255)),
            np.repeat(grey[..., None], 3, 2),
        ),
        "opaque": (Image.fromarray(colour).convert("RGBA"), colour),
        "cmyk": (
            Image.fromarray(255 - np.dstack([colour, colour[..., :1] * 0 + 255]), "CMYK"),
            colour,
        ),
        "bilevel": (
            Image.fromarray(grey > 99),
            np.repeat((grey > 99)[..., None] * np.uint8(255), 3, 2),
        ),
    }
    for name, (image, expected) in pairs.items():
        np.testing.assert_array_equal(np.asarray(as_rgb(image)), expected, err_msg=name)
    features = extract(f"open_clip:{vit_folder}", [image for image, _ in pairs.values()])
    plain = extract(f"open_clip:{vit_folder}", [array for _, array in pairs.values()])
    np.testing.assert_array_equal(features, plain)
    path = tmp_path / "sixteen.png"
    pairs["sixteen"][0].save(path)
    np.testing.assert_array_equal(np.asarray(open_image(path)), pairs["sixteen"][1])


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    expected = np.full((2, 2, 3), 255, dtype=np.uint8)
    expected[0, 0] = (10, 20, 30)
    np.testing.assert_array_equal(np.asarray(as_rgb(Image.fromarray(pixels))), expected)
    palette = Image.new("P", (1, 2))
    palette.putpalette([9, 8, 7, 1, 2, 3])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=1)
    shown = np.asarray(open_image(tmp_path / "p.png"))
    np.testing.assert_array_equal(shown[:, 0], [[9, 8, 7], [255, 255, 255]])


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number:02}.jpg")
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(paths[-1])
    paths[5].write_bytes(paths[5].read_bytes()[:700])  # truncated
    paths[11].write_bytes(b"no image at all")
    with pytest.raises(CorruptFileError, match=r"2 of 12 images.*05\.jpg.*11\.jpg") as caught:
        extract(network(), paths, batch_size=2)
    assert "02.jpg" not in str(caught.value)
    assert "); " in str(caught.value)
    assert ".," not in str(caught.value)
    opened = [Image.open(path) for path in paths[4:6]]
    with pytest.raises(CorruptFileError, match=r"1 of 2 images cannot be read: stimulus 1"):
        extract(network(), opened)
    with pytest.raises(MissingFileError, match="1 of 2 image files are not there"):
        extract(network(), [paths[0], tmp_path / "gone.jpg"])


def test_truncated_images_are_never_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match="LOAD_TRUNCATED_IMAGES is on"):
        extract(network(), [tmp_path / "a.png"])


class Words(Backbone):
    """A model of text that counts letters."""

    spec, modality = "letters", "text"

    def identity(self) -> dict[str, Any]:
        return {"source": "letters"}

    def layers(self) -> list[str]:
        return ["length"]

    def default_layer(self) -> str:
        return "length"

    def prepare(self, items: Sequence[Any]) -> torch.Tensor:
        return torch.tensor([[len(item)] for item in items])

    def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"length": batch.float()}

    def to(self, device: Any) -> None:
        pass


def test_texts() -> None:
    texts = ["a", "bcd", ""]
    for stimuli in (texts, np.array(texts), Stimuli(np.array(texts), kind="caption")):
        np.testing.assert_array_equal(extract(Words(), stimuli), [[1], [3], [0]])
    with pytest.raises(InputError, match="of kind 'image'"):
        extract(Words(), Stimuli(IMAGES))
    with pytest.raises(InputError, match="takes strings; got int in rows 1"):
        extract(Words(), ["a", 3])
    with pytest.raises(InputError, match="of kind 'caption'"):
        extract(network(), Stimuli(np.array(texts), kind="caption"))


@pytest.mark.parametrize("stimuli", ["one.png", Path("one.png"), 3, None])
def test_one_stimulus_is_no_sequence(stimuli: Any) -> None:
    with pytest.raises(InputError, match="must be a sequence"):
        extract(network(), stimuli)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stimuli"):
        extract(network(), IMAGES[:0])
    with pytest.raises(InputError, match=r"\(n, height, width\).* got shape \(2, 3, 8, 8\)"):
        extract(network(), np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(InputError, match="got values from"):
        extract(network(), np.full((2, 8, 8, 3), 7.5))
    with pytest.raises(InputError, match="got int in rows 1"):
        extract(network(), [IMAGES[0], 3])
    with pytest.raises(UnknownNameError, match="layer of module:Sequential '3'"):
        extract(network(), IMAGES, layers="3")
    with pytest.raises(UnknownNameError, match="way of pooling"):
        extract(network(), IMAGES, pool="average")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device None cannot be used"):
        extract(network(), IMAGES, device=None)  # type: ignore[arg-type]
    for batch_size in (0, 2.5, "8", np.inf, np.nan, True):
        with pytest.raises(InputError, match=f"batch_size must be .* got {batch_size!r}"):
            extract(network(), IMAGES, batch_size=batch_size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dtype must be"):
        extract(network(), IMAGES, dtype="float64")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device 'gpu' cannot be used"):
        extract(network(), IMAGES, device="gpu")
    with pytest.raises(InputError, match="got list"):
        extract(["open_clip:tiny"], IMAGES)  # type: ignore[arg-type]


def test_features_that_are_not_finite_are_named() -> None:
    broken, large = network(), network()
    with torch.no_grad():
        broken[2].bias[0] = torch.nan
        large[2].bias[0] = 1e6
    with pytest.raises(InputError, match=r"layer 2, are not finite for 2 .*stimulus 0, stimulus 1"):
        extract(broken, IMAGES[:2])
    with pytest.raises(InputError, match="exceed float16"):
        extract(large, IMAGES[:2], dtype="float16")
    assert extract(large, IMAGES[:2]).max() > 1e5


def test_integers_beyond_sixteen_bits() -> None:
    with pytest.raises(InputError, match="up to 65535"):
        as_rgb(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)))


def test_memory_does_not_grow_with_the_stimuli(tmp_path: Path) -> None:
    """What is alive at once, counted exactly: images that have been read and not let go."""
    alive = set()
    most = 0

    class Lazy:
        """A source of stimuli that counts the rows in memory."""

        def __init__(self, n: int) -> None:
            self.n = n

        def __len__(self) -> int:
            return self.n

        def read(self, rows: np.ndarray) -> np.ndarray:
            nonlocal most
            alive.update(rows.tolist())
            most = max(most, len(alive))
            return np.zeros((len(rows), 8, 8, 3), np.uint8)

    class Noted(TorchModel):
        """Marks a batch's rows as let go once they have been through the model."""

        done = -len(PROBE)

        def run(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
            if self.done < 0:
                self.done += 1
            else:
                alive.difference_update(range(self.done, self.done + len(batch)))
                self.done += len(batch)
            return super().run(batch, layers)

    peaks = []
    for n_stimuli in (160, 1600):
        alive.clear()
        most = 0
        stimuli = Stimuli(Lazy(n_stimuli))
        # The fingerprint reads all rows in turn and keeps none of them.
        extract(Noted(network()), stimuli, batch_size=4)
        peaks.append(most)
    readers = min(os.cpu_count() or 1, 8)
    assert max(peaks) <= 4 * (readers + 2)


def test_progress_tells_the_rate(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("brainkit.arrays.progress.DELAY", 0.0)
    monkeypatch.setattr("brainkit.arrays.progress.LOG_INTERVAL", 0.0)
    extract(network(), IMAGES, batch_size=2)
    shown = capsys.readouterr().err
    assert "features of module:Sequential" in shown
    assert "stimuli/s" in shown
    extract(network(), IMAGES, batch_size=2, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("stimuli", "message"),
    [
        (pd.DataFrame({"a face": ["x", "y"]}), r"a DataFrame.*table\['a face'\]"),
        ({"a face": "x"}, r"a dict: .*d\.values\(\)"),
        ({"x", "y"}, "a set: give a list"),
        (np.ma.masked_array(["x", "y"], mask=[False, True]), "1 of 2 values masked"),
        (np.ma.masked_array(IMAGES, mask=IMAGES > 9), "values masked"),
    ],
    ids=["table", "dict", "set", "masked text", "masked images"],
)
def test_what_has_no_items_in_an_order(stimuli: Any, message: str) -> None:
    for modality in ("image", "text"):
        with pytest.raises(InputError, match=message):
            ModelInputs(stimuli, modality)
        with pytest.raises(InputError, match=message):
            fingerprint(stimuli, modality)


def test_paths_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ein Häuschen.png"
    Image.fromarray(IMAGES[0]).save(path)
    expected = extract(network(), [path])
    for form in ([os.fsencode(path)], np.array([os.fsencode(path)]), np.array([path], object)):
        np.testing.assert_array_equal(extract(network(), form), expected)
        assert fingerprint(form, "image") == fingerprint([path], "image")

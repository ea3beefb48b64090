"""One conversion from any picture to what models get, by every door."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from brainkit.data.rgb import as_float, as_images, as_rgb, as_uint8, open_image
from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.decoding.image_decoding import RetrievalBank
from brainkit.errors import CorruptFileError, InputError
from brainkit.features import OrientedEnergy, PixelPCA, extract
from brainkit.features.backbones.torch_module import to_tensor
from brainkit.features.backbones.torchvision import CaffeBGR
from brainkit.features.fingerprint import fingerprint
from brainkit.generators.conditioning import clip_pixels
from brainkit.reporting.widgets import thumbnail

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (64, 48), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (64, 48, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (64, 48), dtype=np.uint8)


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


def with_palette() -> tuple[Image.Image, np.ndarray]:
    indices = RNG.integers(0, 4, (64, 48), dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    colours = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
    image.putpalette(colours.ravel().tolist())
    image.info["transparency"] = 2
    shown = colours[indices]
    shown[indices == 2] = 255
    return image, shown


def alpha_palette() -> tuple[Image.Image, np.ndarray]:
    image, shown = with_palette()
    colours = np.c_[np.reshape(image.getpalette(), (-1, 3))[:4], [255, 255, 0, 255]]
    image.putpalette(colours.astype(np.uint8).tobytes(), "RGBA")
    del image.info["transparency"]
    return image, shown


def transparent_sixteen() -> tuple[Image.Image, np.ndarray]:
    image = Image.fromarray(GREY.astype(np.uint16) * 257)
    image.info["transparency"] = int(GREY[3, 3]) * 257
    return image, repeated(np.where(GREY[3, 3] == GREY, 255, GREY).astype(np.uint8))


def opaque(mode: str) -> Callable[[], tuple[Image.Image, np.ndarray]]:
    return lambda: (Image.fromarray(COLOUR).convert(mode), COLOUR)


# The order of resampling and of mixing channels changes the last bits.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SIXTEEN = RNG.integers(0, 65536, (64, 48), dtype=np.uint16)
BRIGHT = np.rint(SIXTEEN / 257).astype(np.uint8)
PICTURES: dict[str, Callable[[], tuple[Image.Image, np.ndarray]]] = {
    "L": lambda: (Image.fromarray(GREY), repeated(GREY)),
    "RGB": lambda: (Image.fromarray(COLOUR), COLOUR),
    "1": lambda: (Image.fromarray(GREY > 99), repeated((GREY > 99) * np.uint8(255))),
    "I;16": lambda: (Image.fromarray(SIXTEEN), repeated(BRIGHT)),
    "I": lambda: (Image.fromarray(SIXTEEN.astype(np.int32)), repeated(BRIGHT)),
    "F": lambda: (Image.fromarray(GREY.astype(np.float32) / 255), repeated(GREY)),
    "LA": lambda: (
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]),
        over_white(repeated(GREY), ALPHA),
    ),
    "RGBA": lambda: (
        Image.fromarray(np.dstack([COLOUR, ALPHA])), over_white(COLOUR, ALPHA)
    ),
    "P": with_palette,
    "P with alpha": alpha_palette,
    "I;16 transparent": transparent_sixteen,
    "CMYK": lambda: (
        Image.fromarray(255 - np.dstack([COLOUR, COLOUR[..., :1] * 0 + 255]), "CMYK"), COLOUR
    ),
    "RGBX": opaque("RGBX"),
}  # fmt: skip
FORMATS = {"P with alpha": None, "F": "tiff", "I": "tiff", "CMYK": "tiff", "RGBX": None}
ARRAYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "uint8": (COLOUR, COLOUR),
    "grey": (GREY, GREY),
    "uint16": (SIXTEEN, BRIGHT),
    "uint16 big-endian": (SIXTEEN.astype(">u2"), BRIGHT),
    "bool": (GREY > 99, (GREY > 99) * np.uint8(255)),
    "float32": (COLOUR.astype(np.float32) / 255, COLOUR),
    "float64": (COLOUR / 255, COLOUR),
    "float16": ((GREY > 99).astype(np.float16), (GREY > 99) * np.uint8(255)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_the_same_by_every_door(kind: str, tmp_path: Path) -> None:
    image, expected = PICTURES[kind]()
    rounding = 1 if kind in ("LA", "RGBA") else 0  # how Pillow rounds a mixture
    shown = np.asarray(as_rgb(image))
    assert shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - expected).max() <= rounding
    several = np.empty(1, object)
    several[0] = image
    doors: list[Any] = [[image], several, Stimuli([image]), Stimuli((image,)), Stimuli(several)]
    for stimuli in doors[2:]:
        np.testing.assert_array_equal(stimuli.read(), shown[None])
    np.testing.assert_array_equal(as_uint8([image]), shown[None])
    np.testing.assert_array_equal(as_float([image]), as_float(shown[None]))
    np.testing.assert_array_equal(np.asarray(as_images([image])[0]), shown)
    np.testing.assert_array_equal(
        OrientedEnergy().transform([image]), OrientedEnergy().transform(shown[None])
    )
    ending = FORMATS.get(kind, "png")
    if ending is not None:
        path = tmp_path / f"x.{ending}"
        options = (
            {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
        )
        image.save(path, **options)
        np.testing.assert_array_equal(np.asarray(open_image(path)), shown)
        stimuli = Stimuli.from_files([path])
        np.testing.assert_array_equal(stimuli.read(), shown[None])
        np.testing.assert_array_equal(stimuli.select([0]).read([0]), shown[None])
        doors += [[path], [str(path)], stimuli, [Image.open(path)]]
        for listed in ([path], [str(path)], np.array([str(path)]), [os.fsencode(path)]):
            doors.append(Stimuli(listed))
            np.testing.assert_array_equal(doors[-1].read(), shown[None])
            assert fingerprint(doors[-1])["by"] == "files"
    energy = OrientedEnergy(colour=True).transform(shown[None])
    for door in doors:
        got = extract("builtin:oriented-energy@colour-energy", door)
        np.testing.assert_allclose(got, energy, **CLOSE)
    np.testing.assert_array_equal(
        to_tensor(image).numpy(), np.moveaxis(as_float(shown[None])[0], 2, 0)
    )
    np.testing.assert_array_equal(CaffeBGR()(image), CaffeBGR()(Image.fromarray(shown)))


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_is_the_same_by_every_door(kind: str, tmp_path: Path) -> None:
    array, expected = ARRAYS[kind]
    given = array[None].copy()
    np.testing.assert_array_equal(as_uint8(given)[0], expected)
    np.testing.assert_allclose(as_float(given)[0], expected / 255, atol=3e-7)
    rgb = expected if expected.ndim == 3 else repeated(expected)
    np.testing.assert_array_equal(np.asarray(as_images(given)[0]), rgb)
    energy = OrientedEnergy().transform(rgb[None])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = given
    np.save(tmp_path / "x.npy", given)
    doors: list[Any] = [
        given,
        list(given),
        Stimuli(given),
        Stimuli(HDF5Stimuli.open(tmp_path / "x.h5", "x")),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
    ]
    for door in doors:
        got = extract("builtin:oriented-energy", door)
        np.testing.assert_allclose(got, energy, **CLOSE)
    np.testing.assert_array_equal(given, array[None])
    # Where we compute ourselves, floating point keeps its precision.
    np.testing.assert_allclose(OrientedEnergy().transform(given), energy, **CLOSE)
    several = np.concatenate([given, np.flip(given, 1), np.flip(given, 2)])
    found, plain = PixelPCA(2).fit(several), PixelPCA(2).fit(as_uint8(several))
    np.testing.assert_allclose(
        found.transform(several), plain.transform(as_uint8(several)), **CLOSE
    )
    bank = RetrievalBank(Stimuli(given), np.array([0]), np.ones((1, 2)))
    np.testing.assert_allclose(bank.images(np.ones((1, 2)))[0], expected / 255, atol=3e-7)
    pictures: list[Any] = []
    clip_pixels(lambda images, return_tensors: pictures.extend(images) or Pixels, given)
    np.testing.assert_array_equal(np.asarray(pictures[0]), rgb)
    assert str(thumbnail(array, "x")) == str(thumbnail(expected, "x"))


class Pixels:
    pixel_values = torch.zeros(1)


@given(value=st.integers(0, 65535))
@pytest.mark.filterwarnings("ignore:Images of 16 bits")
def test_sixteen_bits_are_rounded_to_the_nearest_of_eight(value: int) -> None:
    images = np.full((1, 1, 1), value, np.uint16)
    assert abs(int(as_uint8(images)[0, 0, 0]) - value / 257) <= 0.5


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.full((2, 4, 4), 255.0), "values from 255 to 255. Divide by their range"),
        (np.full((2, 4, 4), -1.0), "values from -1 to -1"),
        (np.full((2, 4, 4), np.nan), "values from nan to nan"),
        (np.zeros((2, 4, 4), np.int64), "uint8 or floating point in .0, 1.; got int64"),
        (np.zeros((2, 4, 4), np.uint32), "got uint32. Convert them to the type whose range"),
        (np.zeros((2, 4, 4), np.complex64), "got complex64"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"got shape \(., 4, 4, 4\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"\(n, height, width, 3\); got shape"),
    ],
)
def test_arrays_without_a_place_in_eight_bits_are_refused(picture: Any, message: str) -> None:
    for door in (
        as_uint8,
        as_float,
        lambda images: extract("builtin:oriented-energy", images),
        lambda images: extract("builtin:oriented-energy", Stimuli(images)),
        OrientedEnergy().transform,
        PixelPCA(1).fit,
    ):
        with pytest.raises(InputError, match=message):
            door(picture)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 70000, np.int32), "up to 65535"),
        (np.full((4, 4), -1, np.int32), "values from -1 to 0"),
        (np.full((4, 4), 200, np.int32), "up to 200, which may be meant as 8 bits or as 16"),
        (np.full((4, 4), 255, np.float32), "values from 255 to 255"),
        (np.full((4, 4), np.nan, np.float32), "values from nan"),
    ],
)
def test_files_without_a_place_in_eight_bits_are_refused(
    values: np.ndarray, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.tiff"
    Image.fromarray(values).save(path)
    for door in (
        open_image,
        lambda p: Stimuli.from_files([p]).read(),
        lambda p: extract("builtin:oriented-energy", [p]),
        lambda p: extract("builtin:oriented-energy", [Image.open(p)]),
    ):
        with pytest.raises(InputError, match=message):
            door(path)


def test_what_resampling_overshoots_is_cut_off() -> None:
    images = np.array([[[-0.0005, 1.0005]]])
    np.testing.assert_array_equal(as_float(images), [[[0, 1]]])
    np.testing.assert_array_equal(as_uint8(images), [[[0, 255]]])


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.png")), COLOUR)


def test_no_images_and_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"x\.png cannot be read as an image"):
        open_image(tmp_path / "x.png")
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"more pixels than Pillow takes for safe"):
        open_image(tmp_path / "x.png")


def test_the_ground_of_a_mean_image_is_that_of_its_type() -> None:
    from brainkit.decoding.image_decoding import _mean_image

    for array, expected in ARRAYS.values():
        np.testing.assert_allclose(_mean_image(array[None]), expected / 255, atol=1e-6)


def test_pictures_of_several_sizes_are_no_array() -> None:
    pictures = [Image.new("P", (4, 4)), Image.new("RGB", (5, 4))]
    for door in (Stimuli, as_uint8, PixelPCA(1).fit):
        with pytest.raises(InputError, match=r"several sizes, \(4, 4, 3\), \(4, 5, 3\)"):
            door(pictures)
    assert len(extract("builtin:oriented-energy", pictures)) == 2


@pytest.mark.parametrize("depth", [3, 4])
def test_one_image_in_colour_is_no_set_of_grey_ones(depth: int) -> None:
    image = np.zeros((16, 16, depth), dtype=np.uint8)
    doors: list[Any] = [
        Stimuli, as_uint8, as_float, PixelPCA(1).fit, OrientedEnergy().transform,
        lambda one: extract("builtin:oriented-energy", one),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(InputError, match=r"one image in colour, image\[None\] a set of one"):
            door(image)
    narrow = np.zeros((16, 4, depth), dtype=np.uint8)
    assert as_uint8(narrow).shape == narrow.shape  # small ones may be grey


DARK = np.arange(256, dtype=np.uint16).reshape(1, 16, 16)


def test_sixteen_bits_that_hold_eight_are_told_of(tmp_path: Path) -> None:
    Image.fromarray(DARK[0]).save(tmp_path / "dark.png")
    doors: list[Any] = [
        lambda: as_uint8(DARK),
        lambda: as_float(DARK),
        lambda: PixelPCA(1).fit(np.concatenate([DARK, DARK.swapaxes(1, 2)])),
        lambda: OrientedEnergy().transform(DARK),
        lambda: extract("builtin:oriented-energy", DARK),
        lambda: extract("builtin:oriented-energy", Stimuli(DARK)),
        lambda: as_rgb(Image.fromarray(DARK[0])),
        lambda: open_image(tmp_path / "dark.png"),
    ]
    for door in doors:
        with pytest.warns(UserWarning, match=r"no value above 255, of 65535.*astype") as caught:
            door()
        assert len(caught) == 1


def test_dark_images_among_others_are_what_they_are() -> None:
    several = np.concatenate([np.repeat(DARK, 70, axis=0), DARK * 100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_uint8(several).max() == 99
        as_float(np.zeros_like(DARK))
        extract("builtin:oriented-energy", several, batch_size=16)
        OrientedEnergy().transform(several)

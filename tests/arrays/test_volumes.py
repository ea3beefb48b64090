"""Volume readers against the whole file read by h5py or nibabel, in every layout."""

import gzip
import itertools
import tracemalloc

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit.arrays import volumes
from brainkit.arrays.sources import Stacked
from brainkit.arrays.volumes import HDF5Volumes, NiftiVolumes, read_volume
from brainkit.errors import CorruptFileError, InputError, MissingFileError

GRID = (5, 4, 3)  # x, y, z, all different
TRIALS = 7

LAYOUTS = {
    "contiguous": {},
    "voxel": {"chunks": (TRIALS, 1, 1, 1)},
    "voxel-gzip": {"chunks": (TRIALS, 1, 1, 1), "compression": "gzip"},
    "voxel-lzf-shuffle": {"chunks": (TRIALS, 1, 1, 1), "compression": "lzf", "shuffle": True},
    "voxel-shuffle": {"chunks": (TRIALS, 1, 1, 1), "shuffle": True},
    "voxel-checksum": {"chunks": (TRIALS, 1, 1, 1), "fletcher32": True},
    "voxel-scaleoffset": {"chunks": (TRIALS, 1, 1, 1), "scaleoffset": 0},
    "voxel-half": {"chunks": (4, 1, 1, 1)},
    "block": {"chunks": (TRIALS, 2, 2, 2), "compression": "gzip"},
    "volume": {"chunks": (1, 3, 4, 5), "compression": "gzip"},
    "some-trials": {"chunks": (3, 2, 3, 2)},
    "guessed": {"chunks": True},
}
KINDS = ["<i2", ">i2", "<u2", "<f4", ">f8"]
LAYOUTS_AND_KINDS = [
    pair
    for pair in itertools.product(LAYOUTS, KINDS)
    if pair[0] != "voxel-scaleoffset" or pair[1] in ("<i2", "<u2")
]


def write_h5(path, data, layout, dtype, name="betas"):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data.astype(dtype), **LAYOUTS[layout])


@pytest.fixture(scope="module")
def h5_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h5")
    # (trials, z, y, x), each value different
    data = np.random.default_rng(0).permutation(TRIALS * 60).reshape(TRIALS, 3, 4, 5)
    for layout, dtype in LAYOUTS_AND_KINDS:
        write_h5(folder / f"{layout}-{dtype[1:]}-{dtype[0] == '>'}.h5", data, layout, dtype)
    return folder, data


VOXELS = st.lists(st.integers(0, 59), min_size=0, max_size=12).map(
    lambda values: np.array(values, dtype=np.int64)
)


@pytest.mark.parametrize(("layout", "dtype"), LAYOUTS_AND_KINDS)
@settings(max_examples=25)
@given(
    voxels=VOXELS,
    rows=st.none() | st.lists(st.integers(0, TRIALS - 1), max_size=9),
    data=st.data(),
)
def test_hdf5_equals_the_file(h5_files, layout, dtype, voxels, rows, data):
    folder, whole = h5_files
    path = folder / f"{layout}-{dtype[1:]}-{dtype[0] == '>'}.h5"
    columns = data.draw(
        st.none() | st.lists(st.integers(0, len(voxels) - 1), max_size=6)
        if len(voxels)
        else st.none()
    )
    rows = None if rows is None else np.array(rows, dtype=np.int64)
    columns = None if columns is None else np.array(columns, dtype=np.int64)
    source = HDF5Volumes(path, "betas", voxels, GRID, 0.5)
    got = source.read(rows, columns)
    wanted = range(TRIALS) if rows is None else rows
    expected = np.empty((len(wanted), len(voxels)))
    for column, voxel in enumerate(voxels):  # flat C-order index of (x, y, z) by hand
        x, y, z = voxel // 12, voxel // 3 % 4, voxel % 3
        for row, trial in enumerate(wanted):
            expected[row, column] = 0.5 * whole[trial, z, y, x]
    assert source.shape == (TRIALS, len(voxels))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected if columns is None else expected[:, columns])


@pytest.mark.parametrize("layout", ["voxel", "voxel-gzip", "block", "volume", "contiguous"])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path, layout):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        shape = (TRIALS, 3, 4, 5)
        data = file.create_dataset("betas", shape, "<i2", fillvalue=9, **LAYOUTS[layout])
        data[:, 1, 2, 3] = np.arange(TRIALS)
    voxels = np.ravel_multi_index(([0, 3, 4], [0, 2, 2], [0, 1, 1]), GRID)
    got = HDF5Volumes(path, "betas", voxels, GRID).read()
    np.testing.assert_array_equal(got[:, 0], np.full(TRIALS, 9))
    np.testing.assert_array_equal(got[:, 1], np.arange(TRIALS))
    np.testing.assert_array_equal(got[:, 2], np.full(TRIALS, 9))


def test_a_dataset_that_was_never_written_or_has_a_block_before_it(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_dataset("betas", (TRIALS, 3, 4, 5), "<i2", fillvalue=3)
    got = HDF5Volumes(tmp_path / "empty.h5", "betas", np.arange(60), GRID).read()
    np.testing.assert_array_equal(got, np.full((TRIALS, 60), 3))
    data = np.arange(TRIALS * 60).reshape(TRIALS, 3, 4, 5)
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file.create_dataset("betas", data=data)
    got = HDF5Volumes(tmp_path / "block.h5", "betas", np.arange(60), GRID).read()
    np.testing.assert_array_equal(got, data.transpose(0, 3, 2, 1).reshape(TRIALS, 60))


def bytes_read(action):
    """Count the bytes that this thread asks the system for while `action` runs."""

    def count():
        lines = open("/proc/thread-self/io").read().splitlines()  # noqa: PTH123, SIM115
        return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))

    before = count()
    action()
    return count() - before


@pytest.mark.parametrize("layout", ["voxel", "voxel-gzip", "contiguous"])
def test_a_region_is_read_without_the_rest(tmp_path, layout):
    grid, trials = (30, 20, 10), 50
    generator = np.random.default_rng(1)
    data = generator.integers(-9000, 9000, (trials, 10, 20, 30), dtype=np.int16)
    options = {
        "voxel": {"chunks": (trials, 1, 1, 1)},
        "voxel-gzip": {"chunks": (trials, 1, 1, 1), "compression": "gzip"},
        "contiguous": {},
    }[layout]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("betas", data=data, **options)
    voxels = np.ravel_multi_index((np.array([2, 28]), np.array([7, 7]), np.array([4, 4])), grid)
    source = HDF5Volumes(tmp_path / "x.h5", "betas", voxels, grid)
    out = []
    asked = bytes_read(lambda: out.append(source.read()))
    np.testing.assert_array_equal(out[0], data[:, 4, 7, [2, 28]])
    assert asked < 0.1 * data.nbytes


def test_two_far_voxels_of_a_line_do_not_read_those_between(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    write_h5(path, np.zeros((TRIALS, 3, 4, 5)), "voxel-gzip", "<i2")
    asked = []
    whole = h5py.Dataset.__getitem__

    def watch(self, key, *args):
        asked.append(key)
        return whole(self, key, *args)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watch)
    voxels = np.ravel_multi_index(([4, 0, 1], [2, 2, 2], [1, 1, 1]), GRID)
    HDF5Volumes(path, "betas", voxels, GRID).read()
    assert [key[3] for key in asked] == [slice(0, 2), slice(4, 5)]


def test_hdf5_bad_files(tmp_path):
    path, voxels = tmp_path / "betas_session01.hdf5", np.arange(3)
    with pytest.raises(MissingFileError, match="betas_session01"):
        HDF5Volumes(path, "betas", voxels, GRID)
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(CorruptFileError, match="truncated or damaged"):
        HDF5Volumes(path, "betas", voxels, GRID)
    write_h5(path, np.zeros((TRIALS, 3, 4, 5)), "voxel", "<i2", name="other")
    with pytest.raises(CorruptFileError, match=r"no dataset 'betas'.*other"):
        HDF5Volumes(path, "betas", voxels, GRID)
    write_h5(path, np.zeros((TRIALS, 5, 4, 3)), "contiguous", "<i2")
    with pytest.raises(CorruptFileError, match="grid of the region masks"):
        HDF5Volumes(path, "betas", voxels, GRID)


@pytest.mark.parametrize("layout", ["voxel", "contiguous", "voxel-gzip"])
def test_a_truncated_hdf5_file_never_gives_numbers(tmp_path, layout):
    path = tmp_path / "betas_session01.hdf5"
    write_h5(path, np.ones((TRIALS, 3, 4, 5)), layout, "<i2")
    whole = path.read_bytes()
    source = HDF5Volumes(path, "betas", np.arange(60), GRID)
    for share in (0.02, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CorruptFileError, match="betas_session01"):
            source.read()  # truncated after it was opened
        with pytest.raises(CorruptFileError, match="betas_session01"):
            HDF5Volumes(path, "betas", np.arange(60), GRID).read()


def test_a_chunk_beyond_the_end_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "betas_session01.hdf5"
    write_h5(path, np.ones((TRIALS, 3, 4, 5)), "voxel", "<i2")
    source, size = HDF5Volumes(path, "betas", np.arange(4), GRID), path.stat().st_size
    for beyond in (size - 1, size, 10 * size):
        monkeypatch.setattr(
            volumes, "chunk_addresses", lambda data, offsets, at=beyond: np.array([0, 0, at, 0])
        )
        with pytest.raises(CorruptFileError, match=r"betas_session01.*beyond the end"):
            source.read()


def test_chunks_that_the_library_looks_up_hold_the_same(tmp_path, monkeypatch):
    """The plain way behind `brainkit.arrays.volumes`, for indexes that it does not read."""
    path = tmp_path / "betas_session01.hdf5"
    data = np.random.default_rng(7).integers(-900, 900, (TRIALS, 3, 4, 5), dtype=np.int16)
    write_h5(path, data, "voxel", "<i2")
    voxels = np.random.default_rng(8).permutation(60)
    source = HDF5Volumes(path, "betas", voxels, GRID)
    by_index = source.read()
    monkeypatch.setattr(volumes, "chunk_addresses", lambda data, offsets: np.full(len(offsets), -1))
    np.testing.assert_array_equal(source.read(), by_index)
    np.testing.assert_array_equal(
        by_index, data.transpose(0, 3, 2, 1).reshape(TRIALS, -1)[:, voxels]
    )


def test_voxels_are_read_in_blocks_without_a_second_copy(tmp_path):
    grid, trials = (20, 20, 20), 400
    shape = (trials, 20, 20, 20)
    data = np.random.default_rng(5).integers(-900, 900, shape, dtype=np.int16)
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    for path in paths:
        with h5py.File(path, "w") as file:
            stored = file.create_dataset("betas", shape, "<i2", chunks=(trials, 1, 1, 1))
            for z, y, x in np.ndindex(20, 20, 20):
                stored.id.write_direct_chunk((0, z, y, x), data[:, z, y, x].tobytes())
    voxels = np.random.default_rng(6).permutation(8000)[:6000]
    source = Stacked([HDF5Volumes(path, "betas", voxels, grid) for path in paths])
    tracemalloc.start()
    got = source.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = data.transpose(0, 3, 2, 1).reshape(trials, -1)[:, voxels]
    np.testing.assert_array_equal(got, np.concatenate([expected, expected]))
    assert peak < 1.5 * got.nbytes


def test_a_damaged_chunk_is_named(tmp_path):
    path = tmp_path / "x.h5"
    write_h5(path, np.ones((TRIALS, 3, 4, 5)), "voxel-checksum", "<i2")
    with h5py.File(path) as file:
        place = file["betas"].id.get_chunk_info_by_coord((0, 0, 0, 0)).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    with pytest.raises(CorruptFileError, match=r"x\.h5"):
        HDF5Volumes(path, "betas", np.arange(60), GRID).read()


# -- NIfTI ----------------------------------------------------------------------------------


def write_nifti(path, data, slope=None, inter=None):
    image = nibabel.Nifti1Image(data, np.diag([2.0, 2, 2, 1]))
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", "<f4", "<f8", "<u1", ">i2"])
@pytest.mark.parametrize("scaling", [None, (0.25, 3.0)])
def test_nifti_equals_nibabel(tmp_path, suffix, dtype, scaling):
    path = tmp_path / f"x.{suffix}"
    generator = np.random.default_rng(2)
    stored = generator.integers(0, 200, (*GRID, TRIALS)).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    image = nibabel.Nifti1Image(stored, np.eye(4), header)
    if scaling:
        image.header.set_slope_inter(*scaling)
    image.to_filename(path)
    # nibabel scales on writing; read its own idea of the values.
    whole = nibabel.load(path).get_fdata()
    voxels = generator.integers(0, 60, 9)
    rows, columns = np.array([6, 0, 0, 3]), np.array([8, 8, 1])
    source = NiftiVolumes(path, voxels, GRID, 2.0)
    assert source.shape == (TRIALS, 9)
    flat = 2 * whole.reshape(60, TRIALS).T[:, voxels]
    np.testing.assert_allclose(source.read(), flat, rtol=1e-6)
    np.testing.assert_allclose(source.read(rows, columns), flat[rows][:, columns], rtol=1e-6)
    assert source.read(np.arange(0)).shape == (0, 9)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_stored_slope_and_intercept_are_applied(tmp_path, suffix):
    """A file whose header scales the stored integers, as scanners write them."""
    path = tmp_path / "x.nii"
    stored = np.arange(60 * TRIALS, dtype=np.int16).reshape(*GRID, TRIALS)
    write_nifti(path, stored)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([0.5, -10.0], "<f4").tobytes()  # scl_slope, scl_inter
    if suffix == "nii.gz":
        path = tmp_path / "x.nii.gz"
        path.write_bytes(gzip.compress(bytes(raw)))
    else:
        path.write_bytes(raw)
    got = NiftiVolumes(path, np.arange(60), GRID).read()
    np.testing.assert_allclose(got, stored.reshape(60, TRIALS).T * 0.5 - 10)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_single_volume_is_one_trial(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write_nifti(path, np.arange(60, dtype=np.float32).reshape(GRID))
    source = NiftiVolumes(path, np.array([59, 0]), GRID)
    assert source.shape == (1, 2)
    np.testing.assert_array_equal(source.read(), [[59, 0]])
    np.testing.assert_array_equal(source.read(np.array([0, 0])), [[59, 0], [59, 0]])


def test_an_uncompressed_nifti_is_mapped_not_read(tmp_path):
    path = tmp_path / "x.nii"
    grid, trials = (40, 40, 20), 20
    data = np.random.default_rng(3).normal(size=(*grid, trials)).astype(np.float32)
    write_nifti(path, data)
    source = NiftiVolumes(path, np.array([5, 31_999]), grid)
    out = []
    assert bytes_read(lambda: out.append(source.read())) < 0.01 * data.nbytes
    np.testing.assert_array_equal(out[0], data.reshape(-1, trials)[[5, 31_999]].T)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_bad_nifti_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(MissingFileError, match=r"x\.nii"):
        NiftiVolumes(path, np.arange(3), GRID)
    write_nifti(path, np.random.default_rng(4).normal(size=(*GRID, TRIALS)))
    with pytest.raises(CorruptFileError, match="grid"):
        NiftiVolumes(path, np.arange(3), (5, 4, 4))
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.97):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CorruptFileError, match=r"x\.nii"):
            NiftiVolumes(path, np.arange(60), GRID).read()
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(CorruptFileError, match=r"x\.nii"):
        NiftiVolumes(path, np.arange(60), GRID)


def test_a_volume_has_three_axes(tmp_path):
    path = tmp_path / "mask.nii.gz"
    write_nifti(path, np.ones((*GRID, 1), dtype=np.uint8))
    labels, affine = read_volume(path, "The mask")
    assert labels.shape == GRID
    np.testing.assert_array_equal(affine, np.diag([2.0, 2, 2, 1]))
    write_nifti(path, np.ones((*GRID, 2), dtype=np.uint8))
    with pytest.raises(CorruptFileError, match="3-D"):
        read_volume(path, "The mask")
    with pytest.raises(MissingFileError, match="The mask is missing"):
        read_volume(tmp_path / "other.nii", "The mask")
    whole = gzip.compress(np.zeros(500).tobytes())
    path.write_bytes(whole[:-20])
    with pytest.raises(CorruptFileError, match="mask"):
        read_volume(path, "The mask")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", [(1, 5), (5, 1), (1, 5, 1), (1, 1), (5,), (1,)])
def test_axes_of_length_one_are_dropped(tmp_path, suffix, axes):
    volume = np.random.default_rng(0).normal(size=(4, 3, 2, *axes)).astype(np.float32)
    path = tmp_path / f"x{suffix}"
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    voxels = np.array([3, 0, 17])
    source = NiftiVolumes(path, voxels, (4, 3, 2))
    expected = volume.reshape(24, -1)[voxels].T
    assert source.shape == expected.shape
    np.testing.assert_array_equal(source.read(), expected)
    np.testing.assert_array_equal(source.read(np.array([len(expected) - 1])), expected[-1:])
    if np.prod(axes) == 1:
        np.testing.assert_array_equal(read_volume(path, "A mask")[0], volume.reshape(4, 3, 2))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["complex numbers", "colours"])
def test_volumes_of_no_real_numbers(tmp_path, suffix, kind):
    dtype = np.complex64 if kind == "complex numbers" else [(c, "u1") for c in "RGB"]
    path = tmp_path / f"x{suffix}"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 3, 2), dtype), np.eye(4)), path)
    with pytest.raises(InputError, match=f"holds {kind}; responses are real numbers"):
        NiftiVolumes(path, np.arange(2), (4, 3, 2))
    two = tmp_path / f"two{suffix}"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 3, 2, 2, 5)), np.eye(4)), two)
    with pytest.raises(CorruptFileError, match=r"expected \(X, Y, Z, trials\)"):
        NiftiVolumes(two, np.arange(2), (4, 3, 2))

"""The data folders of the package are found in a checkout and in an installed wheel."""

import pytest

from brainkit.arrays import files
from brainkit.errors import MissingFileError, UnknownNameError


@pytest.mark.parametrize("name", ["datasets", "models"])
def test_a_checkout_uses_the_folders_beside_the_package(name, repository):
    assert files.share_folder(name) == repository / name


def test_the_folder_inside_the_package_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "brainkit"
    beside = tmp_path / "datasets"
    beside.mkdir(parents=True)
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert files.share_folder("datasets") == beside
    inside = package / "_share" / "datasets"
    inside.mkdir(parents=True)
    assert files.share_folder("datasets") == inside


def test_unknown_folder_says_which_exist():
    with pytest.raises(UnknownNameError, match="'datasets' and 'models'"):
        files.share_folder("notebooks")


def test_missing_folder_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "brainkit")
    with pytest.raises(MissingFileError, match="_share"):
        files.share_folder("models")

"""Set-up shared by all tests: few threads, no display, no network, and the real recordings."""

import os

# Read by the numeric libraries when they are first imported, hence before everything else.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MNE_DONTWRITE_HOME", "true")

from pathlib import Path

import hypothesis
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)


def shared_is_required() -> bool:
    """Whether real recordings have to be there, rather than being skipped where they are not."""
    return os.environ.get("BRAINKIT_REQUIRE_SHARED", "") not in ("", "0")


hypothesis.settings.load_profile(
    "ci" if shared_is_required() or os.environ.get("CI") else "local",
)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings: ``data`` in $BRAINKIT_SHARED (default: ``../shared``).

    Where it is missing the test is skipped, or fails if BRAINKIT_REQUIRE_SHARED=1.
    """
    root = Path(os.environ.get("BRAINKIT_SHARED") or "../shared")
    folder = (REPOSITORY / root / "data").resolve()
    if folder.is_dir():
        return folder
    message = f"the real recordings are not there: {folder} ($BRAINKIT_SHARED/data) is no folder"
    if shared_is_required():
        pytest.fail(f"{message}, and BRAINKIT_REQUIRE_SHARED=1", pytrace=False)
    pytest.skip(message)


@pytest.fixture(
    params=[
        [], [1.0, -1.0], [np.nan], [np.inf], "many", "1", ["1", "10"], [b"1"], [True],
        [[1.0, 2.0]], [1j], None, [None], [[1.0], [1.0, 2.0]],
    ],
    ids=repr,
)  # fmt: skip
def bad_penalties(request):
    """What no solver takes for its grid of penalties."""
    return request.param

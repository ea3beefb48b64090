"""The report in a real browser: headless Chromium, Debian's package ``chromium``.

Skipped where there is none, unless BRAINKIT_REQUIRE_CHROMIUM=1.
"""

import os
import shutil
import subprocess

import pytest

from brainkit.reporting import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        message = "no Chromium is installed (Debian: apt-get install chromium)"
        if os.environ.get("BRAINKIT_REQUIRE_CHROMIUM", "") not in ("", "0"):
            pytest.fail(f"{message}, and BRAINKIT_REQUIRE_CHROMIUM=1", pytrace=False)
        pytest.skip(message)
    return found


def browse(chromium, folder, *arguments):
    profile = folder / "profile"
    run = subprocess.run(
        [chromium, *QUIET, f"--user-data-dir={profile}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    return run.stdout, said


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 700])
def test_the_page_renders_and_says_nothing_on_the_console(chromium, make_results, tmp_path, width):
    from PIL import Image

    path = tmp_path / "report.html"
    write_report(
        path,
        {"s1": make_results(colour=True).report},
        title="Seen & decoded",
        manifest={},
        metrics={},
    )
    dom, said = browse(chromium, tmp_path, "--dump-dom", path.as_uri())
    assert "<title>Seen &amp; decoded</title>" in dom
    assert said == []
    picture = tmp_path / "page.png"
    browse(
        chromium, tmp_path, f"--window-size={width},4000", f"--screenshot={picture}", path.as_uri()
    )
    with Image.open(picture) as page:
        assert page.size == (width, 4000)
        grey = page.convert("L")
        # Content reaches down the page, and nothing is cut off at the right edge.
        assert grey.crop((0, 3000, width, 4000)).getextrema()[0] < 100
        assert grey.crop((width - 8, 0, width, 4000)).getextrema()[0] > 200

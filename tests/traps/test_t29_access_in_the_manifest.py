"""T29: what was known of the tested person, and whether test trials standardised themselves."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.jobs import read_recipe, run_recipe

QUICK = {
    "encode": ("protocol.permutations=0", "protocol.shuffles=1", "protocol.ceiling=none"),
    "decode": (),
    "labels": ("protocol.permutations=0", "protocol.shuffles=1", "protocol.target=label"),
}
RECIPES = {
    "encode": "encode-pixel-components",
    "decode": "decode-pixel-components",
    "labels": "labels-logistic",
}


def recording() -> Recording:
    """Two sessions; of the last, nothing trains."""
    rng = np.random.default_rng(29)
    shown = np.arange(60)
    images = rng.random((60, 6, 6)).astype(np.float32)
    values = images.reshape(60, -1) @ rng.normal(size=(36, 8)) + rng.normal(size=(60, 8))
    trials = pd.DataFrame(
        {"stimulus": shown, "session": shown // 40, "label": np.array(["a", "b"])[shown % 2]}
    )
    return Recording.from_arrays(values, trials=trials, stimuli=Stimuli(images))


@pytest.mark.parametrize("job", QUICK)
@pytest.mark.parametrize(
    ("test", "settings", "access"),
    [
        (np.arange(30, 40), ("protocol.zscore=recording",), "labelled-30"),
        (np.arange(40, 60), ("protocol.unseen=session-unlabelled",), "transductive"),
    ],
)
def test_every_job_names_the_access(job, test, settings, access):
    space = () if job == "labels" else ("features.0.settings.n_components=5",)
    zscore = ("protocol.zscore=session", "protocol.seeds=[0]")
    recipe = read_recipe(RECIPES[job], (*QUICK[job], *space, *zscore, *settings))
    object.__setattr__(recipe.protocol, "split", [(np.arange(30), test)])
    assert run_recipe(recording(), recipe).facts["access"] == access

"""Kills and several writers: the store stays whole, and extraction gives the same bits."""

import os
import random
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

# Each program forks its writers from a process that has imported everything once.
COMMON = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from brainkit.errors import CorruptFileError, MissingFileError
from brainkit.features.store import FeatureStore

def start(work, *arguments):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work(*arguments)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fill(entry, values, chunk, order=None):
    entry.begin(len(values), values.shape[1:], values.dtype, chunk)
    chunks = entry.missing()
    if order is not None:
        order.shuffle(chunks)
    for rows in chunks:
        entry.write(rows.start, values[rows.start : rows.stop])
    entry.finish()
"""

KILL_EVERYWHERE = """
folder = Path(sys.argv[1])
values = np.arange(60, dtype=np.float64).reshape(10, 6)

def die_at(step, store):
    '''Fill an entry and be killed before the step-th thing that reaches the disk.'''
    count = 0
    def counted(real):
        def call(*arguments, **named):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        return call
    os.fsync, os.unlink, os.open = counted(os.fsync), counted(os.unlink), counted(os.open)
    os.rename, os.replace, os.mkdir = counted(os.rename), counted(os.replace), counted(os.mkdir)
    Path.replace, Path.mkdir = counted(Path.replace), counted(Path.mkdir)
    fill(store.entry({"a": 1}), values, 4)

step, states = 0, set()
while True:
    step += 1
    store = FeatureStore(folder / str(step))
    code = ended(start(die_at, step, store))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    entry = FeatureStore(store.folder).entry({"a": 1})
    try:
        found = np.array(entry.read())
        states.add("whole")
    except MissingFileError:
        found = None
        states.add("incomplete" if entry.layout else "not begun")
    assert found is None or np.array_equal(found, values), step
    for other in FeatureStore(store.folder).entries():
        assert other.layout is None or other.verify() == [], step
    fill(entry, values, 4)
    assert np.array_equal(entry.read(), values), step
    assert entry.verify() == [], step
    names = sorted(path.name for path in entry.folder.iterdir())
    assert names == ["complete.json", "key.json", "layout.json", "lock", "values.npy"], step
print(step, *sorted(states))
"""

SEVERAL_WRITERS = """
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
n_writers = 4
shape = (101, 64, 64)
ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 1000

def write(writer, store):
    '''Fill the entry of all, with values of one's own, then an entry of one's own.'''
    order = random.Random(seed + writer)
    fill(store.entry({"all": 1}), ramp + 1000 * writer, 5, order)
    fill(store.entry({"writer": writer}), ramp + 1000 * writer, 5, order)

store = FeatureStore(folder)
children = [start(write, writer, store) for writer in range(n_writers)]
assert [ended(child) for child in children] == [0] * n_writers
assert store.verify() == {}
assert len(store.entries()) == n_writers + 1
for writer in range(n_writers):
    assert np.array_equal(store.entry({"writer": writer}).read(), ramp + 1000 * writer)
offsets = store.entry({"all": 1}).read() - ramp
authors = set()
for first in range(0, 101, 5):
    author = np.unique(offsets[first : first + 5])
    assert len(author) == 1, (first, author)  # a chunk is one writer's, whole
    authors.add(float(author[0]))
assert authors <= {1000.0 * writer for writer in range(n_writers)}
print(len(authors))
"""

EXTRACTION = """
from torch import nn
import torch
from brainkit.features.backbones.torch_module import TorchModel, random_weights
from brainkit.features.extraction import extract

class Small(nn.Module):
    '''A small network that takes its time, so that a kill falls in the middle.'''
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16 * 16, 32)

    def forward(self, x):
        time.sleep(0.004)
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))

torch.set_num_threads(1)
with random_weights(0):
    network = Small()
images = np.random.default_rng(0).integers(0, 256, (333, 16, 16, 3), dtype=np.uint8)
LAYERS = ["conv", "head"]

def work(store):
    found = extract(TorchModel(network), images, layers=LAYERS, store=store, batch_size=2,
                    device="cpu", progress=False)
    assert all(isinstance(values, np.memmap) for values in found.values())

def state(folder):
    return len(list(folder.glob("*/*/chunks/[0-9]*.json")))

def same(store, other):
    mine, theirs = ({e.key["layer"]: e for e in s.entries()} for s in (store, other))
    assert sorted(mine) == sorted(theirs) == sorted(LAYERS)
    for layer in LAYERS:
        a, b = mine[layer].read(), theirs[layer].read()
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), layer
        assert np.ptp(a) > 0
        assert mine[layer].verify() == []

def undisturbed(folder):
    store = FeatureStore(folder / "undisturbed")
    assert ended(start(work, store)) == 0
    return store
"""

KILLED = """
folder, chance = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
store, n_kills = FeatureStore(folder / "killed"), 0
for _ in range(3):
    child = start(work, store)
    before = state(store.folder)
    goal = before + chance.randint(1, 8)  # of 42 chunks in two layers
    while state(store.folder) < goal:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    for entry in store.entries():
        assert not entry.complete
        assert entry.layout is None or entry.verify() == []
    n_kills += 1
left = 42 - state(store.folder)
assert ended(start(work, store)) == 0
same(store, undisturbed(folder))
print(n_kills, left)
"""

TOGETHER = """
folder, chance = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
store = FeatureStore(folder / "together")
children = [start(work, store) for _ in range(3)]
while state(store.folder) < 6:
    time.sleep(0.001)
time.sleep(chance.uniform(0, 0.03))
os.kill(children[0], signal.SIGKILL)  # the others go on
assert [ended(child) for child in children] == [-signal.SIGKILL, 0, 0]
same(store, undisturbed(folder))
print("same")
"""


def run(program, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout.split()


@pytest.fixture
def seed():
    return random.SystemRandom().randrange(10**9)  # a failure says which it was


def test_a_writer_killed_at_any_step_leaves_a_whole_store(tmp_path):
    n_steps, *states = run(KILL_EVERYWHERE, tmp_path)
    assert int(n_steps) > 30
    assert states == ["incomplete", "not", "begun", "whole"]


def test_writers_at_once_neither_tear_nor_lose_chunks(tmp_path, seed):
    run(SEVERAL_WRITERS, tmp_path, seed)


@pytest.mark.slow
def test_an_extraction_killed_three_times_gives_the_same_bits(tmp_path, seed):
    n_kills, left = run(EXTRACTION + KILLED, tmp_path, seed)
    assert int(n_kills) == 3
    assert int(left) > 0


@pytest.mark.slow
def test_extractions_at_once_give_the_same_bits_though_one_is_killed(tmp_path, seed):
    assert run(EXTRACTION + TOGETHER, tmp_path, seed) == ["same"]

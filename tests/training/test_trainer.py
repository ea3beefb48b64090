"""The trainer: exact resumption, early stopping, what is trained and what is not."""

import json
import re
import time
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from brainkit.arrays import progress
from brainkit.errors import CorruptFileError, InputError
from brainkit.training import Report, Schedule, run_folder, train
from brainkit.training.trainer import CHECKPOINT, read_header

SCHEDULE = Schedule(
    steps=12, learning_rate=0.05, warmup=2, checkpoint_every=4, validate_every=3, average=0.9
)

DATA = {"data": "drawn anew at each step"}


def checkpoint(folder):
    """Return the one checkpoint in a folder of runs."""
    (found,) = folder.glob(f"run-*/{CHECKPOINT}")
    return found


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def regression(module, step):
    x = torch.randn(16, 5, generator=step.generator)
    return (module(x) - x.sum(dim=1, keepdim=True)).square().mean()


class StopError(Exception):
    """The process is killed here."""


def stopping_at(number):
    def loss(module, step):
        if step.number == number:
            raise StopError
        return regression(module, step)

    return loss


@pytest.mark.parametrize("stop", [5, 8, 11])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, stop):
    whole, broken = network(), network()
    report = train(whole, regression, SCHEDULE, folder=tmp_path / "whole", identity=DATA)
    with pytest.raises(StopError):
        train(broken, stopping_at(stop), SCHEDULE, folder=tmp_path / "broken", identity=DATA)
    taken_up = network(seed=1)  # its own weights do not matter
    again = train(taken_up, regression, SCHEDULE, folder=tmp_path / "broken", identity=DATA)
    assert again.steps == report.steps == 12
    for name, value in whole.state_dict().items():
        assert torch.equal(value, taken_up.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = network()
    train(first, regression, SCHEDULE, folder=tmp_path, identity=DATA)
    second = network(seed=1)
    train(second, stopping_at(0), SCHEDULE, folder=tmp_path, identity=DATA)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_numbers_do_not_depend_on_the_global_generator():
    results = []
    for noise in (1, 2):
        module = network()
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        train(module, regression, SCHEDULE)
        assert torch.equal(before, torch.random.get_rng_state())
        results.append(module.state_dict())
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_it_learns_a_linear_map():
    torch.manual_seed(0)
    module = nn.Linear(5, 1)
    schedule = Schedule(steps=400, learning_rate=0.05, weight_decay=0.0, warmup=10)
    report = train(module, regression, schedule)
    assert torch.allclose(module.weight, torch.ones(1, 5), atol=1e-3)
    assert report.losses[-1][1] < 1e-3
    assert report.trained == {"weight": 5, "bias": 1}


def test_early_stopping_keeps_the_best_weights():
    module = nn.Linear(5, 1)
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.1])
    seen = []

    def validate(current):
        seen.append(current.weight.detach().clone())
        return next(scores)

    schedule = Schedule(steps=100, warmup=1, validate_every=2, patience=2)
    report = train(module, regression, schedule, validate=validate)
    assert report.best_step == 4
    assert report.steps == 8
    assert torch.equal(module.weight, seen[1])


def test_an_early_stop_stays_stopped(tmp_path):
    schedule = Schedule(steps=50, warmup=1, validate_every=2, checkpoint_every=2, patience=1)
    for _ in range(2):
        module = nn.Linear(5, 1)
        validate = iter([0.9, 0.1]).__next__
        report = train(
            module,
            regression,
            schedule,
            folder=tmp_path,
            identity=DATA,
            validate=lambda _, score=validate: score(),
        )
        assert report.steps == 4


def test_the_average_is_what_is_left(tmp_path):
    torch.manual_seed(0)
    module = nn.Linear(5, 1)
    history = []

    def loss(current, step):
        history.append(current.weight.detach().clone())
        return regression(current, step)

    schedule = Schedule(steps=6, learning_rate=0.05, final=1.0, warmup=1, average=0.5)
    train(module, loss, schedule, folder=tmp_path, identity=DATA)
    last = load_file(checkpoint(tmp_path))["module.weight"]
    expected = history[0]
    for number, weight in enumerate([*history[1:], last]):
        expected = expected.lerp(weight, 1 - min(0.5, (1 + number) / (10 + number)))
    assert torch.allclose(module.weight, expected, atol=1e-6)
    assert not torch.allclose(module.weight, last, atol=1e-3)


def test_parts_without_trained_parameters_stay_in_evaluation_mode():
    module = network()
    module[1].requires_grad_(False)
    before = module[1].running_mean.clone()
    report = train(module, regression, SCHEDULE)
    assert torch.equal(module[1].running_mean, before)
    assert report.frozen == {"1": 16}


def test_a_parameter_without_a_gradient_is_an_error():
    module = nn.ModuleDict({"used": nn.Linear(5, 1), "forgotten": nn.Linear(5, 1)})
    with pytest.raises(InputError, match=r"forgotten\.weight"):
        train(module, lambda m, step: regression(m["used"], step), SCHEDULE)


def test_nothing_to_train_is_an_error():
    with pytest.raises(InputError, match="nothing to train"):
        train(network().requires_grad_(False), regression, SCHEDULE)


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(InputError, match="loss is nan at step 0"):
        train(network(), lambda m, step: regression(m, step) * float("nan"), SCHEDULE)


def frozen_first(seed):
    module = network(seed=0)
    torch.manual_seed(seed)
    torch.nn.init.normal_(module[0].weight)
    module[0].requires_grad_(False)
    return module


OTHERS = {
    "another schedule": (network, replace(SCHEDULE, learning_rate=0.04), DATA),
    "more steps": (network, replace(SCHEDULE, steps=13), DATA),
    "other data": (network, SCHEDULE, {"data": "else"}),
    "more to depend on": (network, SCHEDULE, {**DATA, "first weights": 0}),
    "another module": (lambda: network()[:3].append(nn.Linear(8, 1, bias=False)), SCHEDULE, DATA),
    "a part frozen": (lambda: frozen_first(0), SCHEDULE, DATA),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_run_in_the_same_folder_begins_anew(tmp_path, case):
    build, schedule, identity = OTHERS[case]
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)
    alone, beside = build(), build()
    train(alone, regression, schedule)
    train(beside, regression, schedule, folder=tmp_path, identity=identity)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, beside.state_dict()[name]), name
    train(network(), stopping_at(0), SCHEDULE, folder=tmp_path, identity=DATA)  # still there
    assert len(list(tmp_path.iterdir())) == 2


def test_frozen_weights_are_part_of_a_run(tmp_path):
    for seed in (1, 2):
        module = frozen_first(seed)
        before = module[0].weight.clone()
        train(module, regression, SCHEDULE, folder=tmp_path, identity=DATA)
        assert torch.equal(module[0].weight, before)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_run_is_taken_up_whatever_the_order_of_its_identity(tmp_path):
    identity = {"data": "a", "size": (3, 4)}
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=identity)
    same = {"size": [3, 4], "data": "a"}
    train(network(), stopping_at(0), SCHEDULE, folder=tmp_path, identity=same)
    assert run_folder(tmp_path, network(), SCHEDULE, same) == checkpoint(tmp_path).parent


def test_a_folder_without_an_identity_is_refused(tmp_path):
    with pytest.raises(InputError, match="say by `identity` what the weights depend on"):
        train(network(), regression, SCHEDULE, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_state_put_in_the_place_of_another_is_named(tmp_path):
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)
    place = run_folder(tmp_path, network(), SCHEDULE, {"data": "else"})
    checkpoint(tmp_path).parent.rename(place)
    with pytest.raises(CorruptFileError, match=r"state of another run belongs.*data"):
        train(network(), regression, SCHEDULE, folder=tmp_path, identity={"data": "else"})


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)
    path = checkpoint(tmp_path)
    header = {**read_header(path), "format": 99}
    save_file(load_file(path), path, metadata={"brainkit": json.dumps(header)})
    with pytest.raises(CorruptFileError, match="format 99; this brainkit reads 2"):
        train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)


@pytest.mark.parametrize("stop", [4, 7])
def test_early_stopping_survives_an_interruption(tmp_path, stop):
    schedule = Schedule(
        steps=40, learning_rate=0.05, warmup=2, checkpoint_every=3, validate_every=2, patience=3
    )

    def validate(module):
        return -abs(float(module[3].weight.sum()) - 0.5)

    whole, broken, resumed = network(), network(), network(seed=1)
    report = train(whole, regression, schedule, validate=validate)
    with pytest.raises(StopError):
        train(
            broken, stopping_at(stop), schedule, folder=tmp_path, identity=DATA, validate=validate
        )
    again = train(resumed, regression, schedule, folder=tmp_path, identity=DATA, validate=validate)
    assert (again.steps, again.best_step, again.scores) == (
        report.steps, report.best_step, report.scores,
    )  # fmt: skip
    assert report.steps > report.best_step
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_running_statistics_are_those_of_the_best_weights():
    module, seen = network(), []

    def validate(current):
        seen.append({name: value.clone() for name, value in current.state_dict().items()})
        return [0.1, 0.9, 0.3, 0.2][len(seen) - 1]

    schedule = Schedule(steps=100, warmup=1, validate_every=2, patience=2)
    assert train(module, regression, schedule, validate=validate).best_step == 4
    for name, value in module.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_loss_and_score_are_shown(monkeypatch, capsys):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    schedule = Schedule(steps=60, warmup=1, checkpoint_every=1, validate_every=1)

    def slow(module, step):
        time.sleep(0.005)
        return regression(module, step)

    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.05)
    report = train(network(), slow, schedule, validate=lambda module: 0.25, description="it")
    shown = capsys.readouterr().err
    assert re.search(r"it: .*loss [0-9.]+, score 0.25", shown)
    assert report.state() == f"loss {report.losses[-1][1]:.4g}, score 0.25"
    train(network(), slow, schedule, progress=False)
    assert capsys.readouterr().err == ""


def test_a_report_comes_back_from_json():
    report = train(network(), regression, SCHEDULE, validate=lambda module: 0.5)
    assert Report.from_dict(json.loads(json.dumps(asdict(report)))) == report


def test_a_broken_checkpoint_is_named(tmp_path):
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)
    path = checkpoint(tmp_path)
    assert read_header(path)["report"]["steps"] == 12
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptFileError, match=CHECKPOINT):
        train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 1, "precision": "float16"}])
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(InputError):
        Schedule(**wrong)


def test_the_rate_warms_up_and_falls():
    schedule = Schedule(steps=110, learning_rate=2.0, warmup=10, final=0.1)
    assert schedule.rate(0) == pytest.approx(0.2)
    assert schedule.rate(9) == pytest.approx(2.0)
    assert schedule.rate(60) == pytest.approx(1.1)
    assert schedule.rate(110) == pytest.approx(0.2)


def test_checkpoints_stand_under_the_users_umask(tmp_path):
    train(network(), regression, SCHEDULE, folder=tmp_path, identity=DATA)
    (tmp_path / "plain").touch()
    assert (checkpoint(tmp_path)).stat().st_mode == (tmp_path / "plain").stat().st_mode

"""What widgets say of a result."""

from brainkit.reporting.widgets import chance_alarm


def at(low, high, **more):
    return {"value": (low + high) / 2, "ci": [low, high], "direction": "higher", **more}


class TestChanceAlarm:
    def test_it_is_given_where_every_interval_holds_its_chance(self):
        metrics = {"a": at(0.4, 0.6, chance=0.5), "b": at(0.0, 0.02, chance=0.01)}
        text = str(chance_alarm(metrics).html())
        for cause in ("another order", "another person", "another session"):
            assert cause in text

    def test_one_metric_above_chance_silences_it(self):
        metrics = {"a": at(0.4, 0.6, chance=0.5), "b": at(0.02, 0.04, chance=0.01)}
        assert chance_alarm(metrics) is None

    def test_a_score_below_chance_is_no_success(self):
        assert chance_alarm({"a": at(0.2, 0.3, chance=0.5)}) is not None

    def test_of_a_distance_the_lower_side_counts(self):
        below = {"a": at(0.2, 0.3, chance=0.5) | {"direction": "lower"}}
        above = {"a": at(0.7, 0.8, chance=0.5) | {"direction": "lower"}}
        assert chance_alarm(below) is None
        assert chance_alarm(above) is not None

    def test_without_chance_the_shuffled_brain_decides(self):
        null = {"shuffled_brain": {"value": 0.1, "ci": [0.05, 0.2]}}
        assert chance_alarm({"a": at(0.3, 0.4, above_nulls=null)}) is None
        null["shuffled_brain"]["ci"] = [-0.05, 0.2]
        assert chance_alarm({"a": at(0.3, 0.4, above_nulls=null)}) is not None

    def test_metrics_without_intervals_have_no_say(self):
        assert chance_alarm({"a": {"value": 0.5, "chance": 0.5}}) is None
        assert chance_alarm({}) is None

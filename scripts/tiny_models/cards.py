"""The cards of the tiny models: what each is, was trained on, reaches, and is not good for."""

from pathlib import Path
from typing import Any

from brainkit.arrays.atomic import write_text

LIMITS = (
    "Trained on the painted scenes of the simulated world alone. It knows five categories of "
    "object, six backgrounds and some seventy words, and nothing of photographs: outside that "
    "world its output means nothing. It exists so that every part of brainkit runs, is tested and "
    "is shown without a download. For research, put a model of your field in its place."
)
PARTS = {"diffusion": ("autoencoder", "diffusion")}


def write_cards(models: Path, scores: dict[str, Any], training: dict[str, Any]) -> None:
    """Write ``README.md`` beside each model that was scored."""
    for name, found in scores.items():
        write_text(models / name / "README.md", card(name, found, training))


def card(name: str, scores: dict[str, Any], training: dict[str, Any]) -> str:
    """Return a card in Markdown."""
    about = (Path(__file__).parent / "about" / f"{name}.md").read_text(encoding="utf-8")
    lines = [about, "## Training", ""]
    for part in PARTS.get(name, (name,)):
        if part in training:
            report = training[part]
            trained = sum(report["trained"].values())
            lines.append(
                f"- {part}: {trained:,} weights, {report['steps']:,} steps, "
                f"{report['seconds'] / 60:.0f} minutes on two cores that did other work too"
            )
    lines += [
        "",
        "Painted scenes of `brainkit.world`, version 1: world seed 90001, or 90011 for the "
        "judges. Fixed seeds; rerun with `python scripts/train_tiny_models.py`.",
        "",
        "## Scores",
        "",
        "On scenes of world seed 90003, which no model was trained on (simulated; 95 % intervals "
        "by bootstrap over scenes). Rerun with `python scripts/score_tiny_models.py`.",
        "",
        "| measure | value | interval | n |",
        "|---|---|---|---|",
    ]
    lines += [_row(measure, value) for measure, value in scores.items()]
    lines += ["", "## Limits", "", LIMITS, "", "Licence: that of brainkit.", ""]
    return "\n".join(lines)


def _row(measure: str, value: Any) -> str:
    words = measure.replace("_", " ")
    if not isinstance(value, dict):
        return f"| {words} | {value:.2g} | | |"
    low, high = value["ci"]
    return f"| {words} | {value['value']:.3f} | {low:.3f} to {high:.3f} | {value['n']:,} |"

"""`loss.png`: the losses of a run over its steps."""

from __future__ import annotations

from pathlib import Path


def points(records: list[dict], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the records that have `key`."""
    having = [r for r in records if key in r]
    return [r["step"] for r in having], [r[key] for r in having]


def draw_loss(records: list[dict], path: Path, title: str) -> None:
    """Draw training and held-out loss; nothing is drawn where no loss was logged."""
    draw(records, {"loss": "training", "eval_loss": "held out"}, "loss (nats per token)", path, title)


def draw_memory(records: list[dict], path: Path, title: str) -> None:
    """Draw memory in MB over steps, from zero, so that growth and flatness both show."""
    scaled = [{**r, "memory": r["memory"] / 1e6} for r in records if "memory" in r]
    draw(scaled, {"memory": "memory"}, "memory in use (MB)", path, title, from_zero=True)


def draw(records: list[dict], keys: dict[str, str], label: str, path: Path, title: str,
         from_zero: bool = False) -> None:
    """One line a key, named by its value, into a PNG. matplotlib is imported here: it takes a second."""
    from matplotlib.figure import Figure

    if not any(key in record for record in records for key in keys):
        return
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for key, name in keys.items():
        steps, values = points(records, key)
        if steps:
            axes.plot(steps, values, label=name, linewidth=1.6, marker="o" if len(steps) < 30 else None, markersize=3)
    axes.set(xlabel="step", ylabel=label, title=title)
    if from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")

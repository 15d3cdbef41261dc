"""Pictures of runs for tests that do not look at them: layout and pixels would take a third of a tiny run's time."""

from pathlib import Path

from matplotlib.figure import Figure


_savefig = Figure.savefig


def save_sketch(figure: Figure, file: Path, **options) -> None:
    """Draw everything once, at few pixels, as a stand-in for `Figure.savefig`."""
    _savefig(figure, file, format="png", dpi=60)

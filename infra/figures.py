"""How plots are drawn and written: matplotlib (extra `demo`) if it is there, each figure as PNG and as SVG."""

import hashlib
import re
from pathlib import Path
from typing import Any

MISSING = "no plot: matplotlib is not installed; pip install 'bestbefore[demo]'"


def pyplot() -> Any | None:
    """Matplotlib without a window; None where it is not installed."""
    try:
        import matplotlib  # noqa: PLC0415 -- optional
    except ImportError:
        return None
    matplotlib.use("Agg")
    # Text stays text in an SVG: it can be searched and read aloud. The same figure gives the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bestbefore"})
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- as above

    return plt


def write(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write `name`.png and `name`.svg into an existing folder, and forget the figure."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    for file in files:
        figure.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else None)
    found = pyplot()
    if found is not None:
        found.close(figure)
    return files


def file_name(*parts: str) -> str:
    """A name of a file for names that came with telemetry, and may hold anything.

    >>> file_name("digits", "1")
    'digits-1'
    >>> file_name("../../etc", "1")
    '.._.._etc-1-8635f5'
    """
    plain = "-".join(parts)
    safe = re.sub(r"[^\w.-]", "_", plain)[:100]
    if safe == plain and not safe.startswith("."):
        return safe
    return f"{safe}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:6]}"

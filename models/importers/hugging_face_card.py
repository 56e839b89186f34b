"""Model cards of Hugging Face: the YAML at the head of a README.md. What its author states, not what was measured.

Source: Hugging Face model card metadata, `model-index`. The prose below the head is not read.
"""

import re

from models.importers.document import Node
from models.importers.part import Tree, Trees, stamped

_FORMAT = "Hugging Face model card"
_HEAD = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_METRICS = {"accuracy": "Accuracy", "f1": "F1 Score", "precision": "PPV"}
_LIBRARIES = {
    "transformers": "Transformers", "sklearn": "scikit-learn", "scikit-learn": "scikit-learn", "pytorch": "PyTorch",
    "keras": "Keras", "tensorflow": "TensorFlow", "onnx": "ONNX", "timm": "timm", "fastai": "fastai",
}  # fmt: skip
_PROBLEMS = (
    ("classification", "Classification"), ("detection", "Detection"), ("generation", "Content Generation"),
    ("summarization", "Summarization"), ("forecasting", "Forecasting"), ("text-to-", "Content Generation"),
)  # fmt: skip


def head(content: bytes) -> bytes | None:
    """The YAML between the two lines `---` at the head of a README.md, or None where there is none."""
    found = _HEAD.match(content)
    return found.group(1) if found else None


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """trained_model and system_context of one card. Raises ValueError with the place of what is wrong."""
    yaml = head(content)
    if yaml is None:
        raise ValueError(f"{_FORMAT}: line 1: expected YAML between two lines ---; add it, or leave the file out")
    root = Node.of(_FORMAT, b"\n" + yaml)  # lines are those of the file
    models = root["model-index"].objects()
    if len(models) > 1:
        notes.append(f"model-index: {len(models)} models, only the first is taken")
    tag = root["pipeline_tag"].text()
    problem = next((known for word, known in _PROBLEMS if word in tag), "Other")
    library = root["library_name"].text()
    base = root["base_model"].texts()
    if not models:
        notes.append("model-index: there is none, so the card names no results of an evaluation")
    return stamped(
        {
            "system_context": {
                "ml_problem_type": {"ml_problem": problem, "other_problem": tag if problem == "Other" else ""}
                if tag
                else {}
            },
            "trained_model": {
                "model_name": models[0]["name"].text() if models else "",
                "ml_frameworks": [_LIBRARIES.get(library, library)],
                "evaluation_metrics": _results(models[0]["results"], notes) if models else [],
                "model_composition_details": f"Fine-tuned from {', '.join(base)}" if base else "",
            },
        },
        "Hugging Face model card",
    )


def _results(results: Node, notes: list[str]) -> list[Tree]:
    """Metrics of the first data set by TEC's names; those of others carry the name of their data set."""
    found: list[Tree] = []
    first = ""
    for result in results.objects():
        dataset = " ".join(filter(None, (result["dataset"]["name"].text(), result["dataset"]["split"].text())))
        first = first or dataset
        for one in result["metrics"].objects():
            name = one["name"].text() or one["type"].name()
            kind = _METRICS.get(one["type"].name().lower())
            value = one["value"]
            if isinstance(value.value, bool) or not isinstance(value.value, int | float):
                notes.append(f"{value.path}: {name[:40]} is no number, left out")
                continue
            taken = any(row["metric"] == kind for row in found)
            plain = kind is not None and dataset == first and not taken
            other = name if dataset == first and kind is None else f"{name} on {dataset or 'another data set'}"
            row = {"metric": kind if plain else "Other", "other_metric": "" if plain else other}
            found.append({**row, "result": value.number()})
            if kind and abs(value.value) > 1:
                notes.append(
                    f"{value.path}: {name[:40]} of {str(value.value)[:20]} looks like percent; it is kept as written"
                )
    return found

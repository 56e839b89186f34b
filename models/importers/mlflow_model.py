"""MLflow's `MLmodel` file: signature, flavours with their versions, run.

Source: MLflow model format. The signature stands in it as JSON inside of YAML. It may be missing without any message
at the time of logging (nullable columns are one cause), so its absence is noted and nothing is guessed.
"""

import json
import re

from models.importers.document import Node
from models.importers.item_types import item, of_dtype, of_mlflow, tensor
from models.importers.part import Tree, Trees, stamped

_FORMAT = "MLmodel"
_FLAVORS = {
    "sklearn": "scikit-learn", "pytorch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras", "onnx": "ONNX",
    "xgboost": "XGBoost", "lightgbm": "LightGBM", "catboost": "CatBoost", "spark": "Spark MLlib",
    "statsmodels": "statsmodels", "transformers": "Transformers", "prophet": "Prophet", "fastai": "fastai",
}  # fmt: skip
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PACKAGES = {"pytorch": "torch", "sklearn": "scikit-learn"}


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """trained_model and data_pipeline of one MLmodel file (YAML). Raises ValueError with the place of what is wrong."""
    root = Node.of(_FORMAT, content)
    frameworks, dependencies = _flavors(root["flavors"], notes)
    inputs, taken = _side(root, "inputs", notes)
    outputs, given = _side(root, "outputs", notes)
    if not isinstance(root["signature"].value, dict) or not (taken or given):
        notes.append("signature: there is none, so inputs and outputs are unknown; log the model again with one")
    if root["signature"]["params"].value not in (None, "", "[]", "null"):
        notes.append("signature.params: parameters of a call have no place in the descriptors, left out")
    logged = _DAY.match(root["utc_time_created"].text())
    if logged:
        notes.append("utc_time_created: is when the model was logged, taken as its training date")
    return stamped(
        {
            "trained_model": {
                "training_date": logged.group() if logged else "",
                "ml_frameworks": frameworks,
                "system_dependencies": dependencies,
                "output_spec": given,
                "documentation": [
                    {"description": what, "location": root[key].text()}
                    for key, what in (("run_id", "MLflow run"), ("model_uuid", "MLflow model"))
                    if root[key].text()
                ],
                "bestbefore": {"signature": {"inputs": inputs, "outputs": outputs}},
            },
            "data_pipeline": {"input_spec": taken},
        },
        "MLflow",
    )


def _side(root: Node, side: str, notes: list[str]) -> tuple[list[Tree], list[Tree]]:
    """Tensors and items of one side of the signature; columns of a table are items but no tensors."""
    node = root["signature"][side]
    if node.value in (None, "", "null"):
        return [], []
    text = node.value if isinstance(node.value, str) else json.dumps(node.value)
    try:
        listed = Node.of(f"{_FORMAT}: {node.path}", b'{"%s": %s}' % (side.encode(), text.encode()), as_json=True)[side]
    except UnicodeEncodeError:
        raise node.wrong("JSON text") from None
    tensors, items = [], []
    for i, one in enumerate(listed.objects()):
        name = one["name"].text() or f"{side}_{i}"
        if not one["name"].text():
            notes.append(f"signature.{one.path}: has no name and is called {name} here")
        spec = one["tensor-spec"]
        if spec.value is not None:
            found = of_dtype(spec["dtype"].name())
            tensors.append(tensor(name, found.dtype, spec["shape"].shape()))
            items.append(item(name, found.item_type))
            continue
        kind = one["type"].name()
        if kind in ("array", "object", "map"):
            notes.append(f"signature.{one.path}: {name} is an {kind}, taken as type Other")
        items.append(item(name, of_mlflow(kind).item_type))
        if one["required"].value is False:
            notes.append(f"signature.{one.path}: {name} may be missing; say what that means in raw_data.schema")
    return tensors, items


def _flavors(flavors: Node, notes: list[str]) -> tuple[list[str], list[str]]:
    """Frameworks, and packages with versions."""
    frameworks, dependencies = [], []
    for flavor, about in flavors.entries():
        if flavor == "python_function":
            python = about["python_version"].text()
            dependencies += [f"python=={python}"] if python else []
            continue
        frameworks.append(_FLAVORS.get(flavor, flavor))
        for key, value in about.entries():
            package = key.removesuffix("_version")
            if key.endswith("_version") and isinstance(value.value, str | int | float):
                dependencies.append(f"{_PACKAGES.get(package, package)}=={value.text()}")
            if key == "pickled_model" or str(value.value).endswith((".pkl", ".pickle", ".joblib")):
                notes.append(f"{value.path}: {str(value.value)[:80]} is pickled, so it is not opened")
    return frameworks, dependencies

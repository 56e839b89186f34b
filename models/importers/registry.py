"""All importers by name, and one reader for whatever file it is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from models.importers import (
    croissant,
    hugging_face_card,
    inference_protocol,
    mlflow_model,
    mlte_card,
    odcs,
    onnx_file,
)
from models.importers.detection import detect
from models.importers.part import Imported, Trees

Importer = Callable[[bytes, list[str]], Trees]
IMPORTERS: Mapping[str, Importer] = MappingProxyType(
    {
        "onnx_file": onnx_file.trees_of,
        "inference_protocol": inference_protocol.trees_of,
        "mlflow_model": mlflow_model.trees_of,
        "odcs": odcs.trees_of,
        "mlte_card": mlte_card.trees_of,
        "croissant": croissant.trees_of,
        "hugging_face_card": hugging_face_card.trees_of,
    }
)


def read(name: str, content: bytes) -> Imported:
    """The facts of one artefact; which format it is shows its content. `name` is the file's, for messages.

    Raises ValueError that names format and place for what is unknown, pickled or malformed.
    """
    found = detect(name, content)
    notes: list[str] = []
    return Imported(IMPORTERS[found](content, notes), notes, found, name)

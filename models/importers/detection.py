"""Which format an artefact has: from its content, since people name files as they like."""

import re
from typing import Any

from models.importers.document import Node
from models.importers.hugging_face_card import head

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PICKLED_NAMES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")
_ARCHIVES = (".pt", ".pth", ".ckpt")
_KNOWN = (
    "an ONNX file, Open Inference Protocol metadata, an MLmodel file, a data contract (ODCS), an MLTE card, a "
    "Croissant description, or a model card with YAML at its head"
)


def detect(name: str, content: bytes) -> str:
    """The name of the importer for the content; `name` of the file counts only where it must be refused.

    Raises ValueError for pickled content, which runs code when it is read, and for what no importer knows.

    >>> detect("contract.yaml", b"apiVersion: v3.1.0\\nkind: DataContract")
    'odcs'
    """
    lower = name.lower()
    if _PICKLE.match(content) or lower.endswith(_PICKLED_NAMES):
        raise ValueError(f"{name} is pickled; a pickle runs code when it is read, so export the model to ONNX instead")
    if lower.endswith(_ARCHIVES) or (content.startswith(b"PK\x03\x04") and b"data.pkl" in content[:4096]):
        raise ValueError(f"{name} holds a pickle, which runs code when it is read; export the model to ONNX instead")
    if not content.strip():
        raise ValueError(f"{name} is empty; give {_KNOWN}")
    if lower.endswith(".onnx") or _binary(content):
        return "onnx_file"
    if head(content) is not None:
        return "hugging_face_card"
    found = _by_keys(Node.of(name, content, as_json=content.lstrip().startswith(b"{")).value)
    if not found:
        raise ValueError(f"{name}: none of the formats known here; give {_KNOWN}")
    return found


def _binary(content: bytes) -> bool:
    """ONNX is the one binary format here. It begins with its field `ir_version`: byte 8, which no text has."""
    if content.startswith(b"\x08"):
        return True
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return True
    return b"\x00" in content


def _by_keys(tree: dict[str, Any]) -> str:
    conforms = str(tree.get("conformsTo") or tree.get("dct:conformsTo") or "")
    if "@context" in tree and ("croissant" in conforms or "recordSet" in tree or "cr:recordSet" in tree):
        return "croissant"
    if tree.get("kind") == "DataContract" or {"apiVersion", "schema"} <= tree.keys():
        return "odcs"
    if "flavors" in tree:
        return "mlflow_model"
    body = tree.get("body")
    if "header" in tree and isinstance(body, dict) and "artifact_type" in body:
        return "mlte_card"
    if "name" in tree and tree.keys() & {"platform", "versions", "inputs", "outputs"}:
        return "inference_protocol"
    return ""

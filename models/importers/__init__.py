"""Descriptors from what is there already: model files, server metadata, contracts, cards. Partial, and never invented.

>>> detect("metadata.json", b'{"name": "digits", "platform": "onnx_onnxv1", "inputs": []}')
'inference_protocol'
"""

from models.importers.detection import detect
from models.importers.merging import merge
from models.importers.part import Imported
from models.importers.registry import read

__all__ = ["Imported", "detect", "merge", "read"]

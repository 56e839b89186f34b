"""All adapters by name."""

from streams.adapters import kserve, open_inference
from streams.adapters.contract import Adapter

ADAPTERS: dict[str, Adapter] = {one.name: one for one in (kserve.ADAPTER, open_inference.ADAPTER)}

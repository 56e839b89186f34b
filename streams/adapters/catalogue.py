"""All adapters by name."""

from streams.adapters import (
    azure_ml,
    bentoml,
    confluent_avro,
    databricks,
    kserve,
    open_inference,
    own_json,
    sagemaker,
    tensorflow_serving,
    triton,
    vertex,
)
from streams.adapters.contract import Adapter

ADAPTERS: dict[str, Adapter] = {
    module.ADAPTER.name: module.ADAPTER
    for module in (
        kserve, open_inference, triton, bentoml, tensorflow_serving, sagemaker, azure_ml, databricks, vertex,
        confluent_avro, own_json,
    )
}  # fmt: skip

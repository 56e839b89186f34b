"""bestbefore-client: records what a model server predicts and streams it to Kafka.

A `Recorder` takes single inferences, whole batches, sampled inputs and late labels; it never blocks or raises in the
server. `RecorderMiddleware` and `observed` record what a web server or a function infers. `encode_frame` is the frame
format for whoever brings a producer of their own, `sampled` the sampling that all sides share.
"""

from bestbefore_client.asgi import RecorderMiddleware
from bestbefore_client.columns import Repeated, Strings
from bestbefore_client.decorator import observed
from bestbefore_client.frame import CONTENT_TYPE, encode_frame
from bestbefore_client.heartbeat import HEARTBEAT
from bestbefore_client.ledger import Stats
from bestbefore_client.noting import inference_id, note
from bestbefore_client.recorder import Recorder
from bestbefore_client.sampling import sampled, sampled_many, u64, u64_many, unit
from bestbefore_client.security import Security

__all__ = [
    "CONTENT_TYPE",
    "HEARTBEAT",
    "Recorder",
    "RecorderMiddleware",
    "Repeated",
    "Security",
    "Stats",
    "Strings",
    "encode_frame",
    "inference_id",
    "note",
    "observed",
    "sampled",
    "sampled_many",
    "u64",
    "u64_many",
    "unit",
]

"""Which checks of live traffic stay `unknown` while events lack a field, for whoever wires a server."""

from typing import NamedTuple


class Need(NamedTuple):
    """One field, the checks that look at it, and what to do where a server does not send it."""

    field: str
    checks: tuple[str, ...]
    remedy: str


NEEDS: tuple[Need, ...] = (
    Need(
        "features",
        (
            "domain-and-schema", "missing-and-special-values", "unit-scale-encoding", "covariate-drift",
            "failure-and-default-output",
        ),
        "let the server log requests, and name the columns with `features:`",
    ),
    Need(
        "output",
        ("label-and-prediction-shift", "failure-and-default-output", "quality-and-time-to-threshold", "cause-and-cure"),
        "let the server log responses",
    ),
    Need(
        "output.scores",
        ("calibration-and-concept", "quality-and-time-to-threshold"),
        "let the model return probabilities and say `output: {scores: …}`; without them quality needs labels",
    ),
    Need("latency_ms", ("latency-rate-buffering",), "let both request and response be logged, each with its time"),
    Need("digest", ("model-identity",), "records of other servers have none; golden records are replayed instead"),
    Need(
        "labels",
        ("quality-and-time-to-threshold", "calibration-and-concept", "label-and-prediction-shift"),
        "send the truth, once it is known, to the topic `labels` under the id that is shown here; or name it with "
        "`truth:` where it is logged",
    ),
    Need(
        "sampled inputs",
        ("embedding-drift", "pipeline-skew"),
        "send a sample to the topic `inputs`, with bestbefore-client or headers of your own",
    ),
)  # fmt: skip

"""BentoML's own monitor, as a service uses it: `bentoml_monitor.py default FOLDER` or `otlp URL`."""

import sys

import bentoml
from bentoml._internal.monitoring.api import _MONITOR_INSTANCES

kind, where = sys.argv[1:]
options = {"endpoint": where} if kind == "otlp" else {"log_path": where}
for number in range(3):
    with bentoml.monitor("iris", monitor_class=kind, monitor_options=options) as monitor:
        monitor.log(4.9 + number, name="sepal_len", role="feature", data_type="numerical")
        monitor.log("rome", name="site", role="feature", data_type="categorical")
        monitor.log([0.25, 0.75], name="embedding", role="feature", data_type="numerical_sequence")
        monitor.log("setosa", name="pred", role="prediction", data_type="categorical")
with bentoml.monitor("iris", monitor_class=kind, monitor_options=options) as monitor:
    for name, role, values in (
        ("sepal_len", "feature", [1.5, 2.5]),
        ("site", "feature", ["oslo", "bern"]),
        ("embedding", "feature", [[0.5, 0.5], [1.0, 0.0]]),
        ("pred", "prediction", ["virginica", "setosa"]),
    ):
        monitor.log_batch(values, name=name, role=role, data_type="numerical")
provider = getattr(_MONITOR_INSTANCES["iris"], "logger_provider", None)
if provider is not None:
    provider.shutdown()

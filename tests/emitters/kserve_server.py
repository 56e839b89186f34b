"""KServe's own model server with one model: `kserve_server.py PORT`."""

import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Loan(Model):  # type: ignore[misc]  # KServe has no types
    """Answers version 1 and version 2 of the protocol."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """A score for each row: the share of the first column."""
        if not isinstance(payload, InferRequest):
            return {"predictions": [[1 - row[0] / 100, row[0] / 100] for row in payload["instances"]]}
        rows = payload.inputs[0].as_numpy()
        scores = [value for row in rows for value in (1 - row[0] / 100, row[0] / 100)]
        output = InferOutput("output", [len(rows), 2], "FP64", data=scores)
        return InferResponse(payload.id, self.name, [output], model_version="4")


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([Loan("loan")])

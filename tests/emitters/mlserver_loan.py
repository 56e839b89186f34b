"""A model for MLServer."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Loan(MLModel):  # type: ignore[misc]  # MLServer has no types
    """Answers with a class and two scores."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The share of the first column."""
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        scores = np.stack([1 - rows[:, 0] / 100, rows[:, 0] / 100], 1)
        outputs = [
            NumpyCodec.encode_output("predict", scores.argmax(1)), NumpyCodec.encode_output("predict_proba", scores)
        ]  # fmt: skip
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

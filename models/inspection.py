"""What is found when a model file is really loaded: its digest and signature, the runtime, golden records replayed."""

import msgspec


class TensorFact(msgspec.Struct, frozen=True):
    """One input or output of a model file; an open axis is -1 or has a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()


class GoldenResult(msgspec.Struct, frozen=True):
    """One golden record replayed: the largest relative error of its scores, and whether the label agrees."""

    index: int
    error: float | None = None
    tolerance: float = 1e-3
    label: str | None = None
    expected: str | None = None
    reason: str = ""  # why it could not be replayed


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one model file and the runtime that loaded it. `error` says why it could not be loaded.

    `policy` is what was asked of the runtime: under `cpu` an accelerator was not even tried.
    """

    digest: str = ""
    opset: dict[str, int] = {}
    ir_version: int = 0
    producer: str = ""
    inputs: tuple[TensorFact, ...] = ()
    outputs: tuple[TensorFact, ...] = ()
    runtime: str = ""  # onnxruntime's version
    newest_opset: int = 0  # that the installed runtime can run
    newest_ir: int = 0
    providers: tuple[str, ...] = ()  # active, in order of preference
    golden: tuple[GoldenResult, ...] = ()
    error: str = ""
    fetched: bool = True  # whether the file could be read at all
    at_us: int = 0
    policy: str = ""

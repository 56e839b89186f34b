"""Who acts, left to right:

ingest   inference -> profiles, kept predictions
embed    inputs    -> ONNX Runtime -> profiles
label    labels    -> join with the kept prediction -> profiles
assess   profiles  -> estimates, verdicts, forecast, decision: one store transaction
publish  outbox    -> mismatches, retrain-triggers, status
"""

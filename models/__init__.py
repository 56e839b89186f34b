"""What is computed, and nothing else: no Kafka, no SQL, no clock.

    columns ─> Profile (per subject and window, mergeable) ─> assessor ─> estimates, verdicts, forecast, decision

An estimator has one verb, `update`, and properties to read; its state is a plain, versioned Struct.
A profile has two verbs, `add` and `merge`, and holds integers only, so that any order of merging gives the same bits.
"""

"""The profile of one subject in one window: everything the estimators need, in a bounded set of integers.

Integers, because integer sums are associative: partitions, batches and replays may add in any order and arrive at
the same bits. Reals are therefore added in fixed point: WEIGHT for shares of an event, UNIT for sums of reals.
A profile is mergeable (`merge`), so windows can be joined and partitions added up. Names in it:

| table | names |
|---|---|
| counts | n, weight, weight_squared, not_live, failed, abstained, answered, capped, late, beyond_segments, scored, scores_unusable, ids_sampled, ids_repeated, outputs_sampled, outputs_repeated, n_input, input_weight, skew_dimension, embedding_not_finite, supported, dropped, dropped_weight, sampled_out, audit.*, asked.*, feedback.* |
| histograms | feature.<f>, latency_ms, value, confidence, embedding, embedding.<class>, skew.<origin>, audit.confidence |
| sums | feature.<f>, fine.<f>, wide.<f>, value, wide.value, wider.value, widest.value, confidence, embedding, kernel, kernel.class.<class>, kernel.segment.<segment>, cosine.<origin>, audit.confidence, audit.confident, audit.bins, audit.moments, cbpe |
| categories | feature.<f>, violations.<f>, special.<f>, label, truth, audit.label, audit.cells, asked.cells, filled, filled.answered, status, digest, version, digest.<version>, dropped |
| samples | any, failed, slow, violations.<f>, special.<f>, wide.<f>; trace.<any of these> |
"""  # noqa: E501 -- a table

from models.columns import Embedded, Inferences, Losses, Outcomes, Served
from models.fixed_point import CLIP, UNIT, WEIGHT, squares, total, weights
from models.grid import Grid
from models.profile_audits import add_asked
from models.profile_inputs import add_categorical, add_numeric, moments
from models.profile_late import (
    AUDIT_BINS,
    SKEW_EDGES,
    add_embedded,
    add_losses,
    add_outcomes,
    add_served,
    standardised,
)
from models.profile_outputs import (
    CONFIDENCE_EDGES,
    ID_SAMPLE,
    LATENCY_EDGES,
    MAX_IDS,
    Repeats,
    add_outputs,
    value_moments,
)
from models.reference import Reference
from models.tables import (
    MAX_BYTES,
    MAX_CATEGORIES,
    MAX_COUNT,
    MAX_FEATURES,
    MAX_GROUPS,
    MAX_NAME_BYTES,
    MISSING,
    OTHER,
    SAMPLES,
    Tables,
    short_name,
)

__all__ = [  # noqa: RUF022 -- sorted as strings sort
    "AUDIT_BINS", "CLIP", "CONFIDENCE_EDGES", "ID_SAMPLE", "LATENCY_EDGES", "MAX_BYTES", "MAX_CATEGORIES",
    "MAX_COUNT", "MAX_FEATURES", "MAX_GROUPS", "MAX_IDS", "MAX_NAME_BYTES", "MISSING", "OTHER", "Profile", "SAMPLES",
    "SKEW_EDGES", "UNIT", "WEIGHT", "moments", "short_name", "standardised", "value_moments",
]  # fmt: skip


class Profile(Tables):
    """Counts, histograms, sums, categories and samples of one subject in one window; see the module for their names."""

    __slots__ = ("_grid", "_repeats")

    def __init__(self) -> None:
        super().__init__()
        self._grid: Grid | None = None
        self._repeats = Repeats()  # sampled hashes of ids; they stay behind when the profile travels

    @property
    def n(self) -> int:
        """Inference events, each counted once whatever its weight."""
        return self.counts.get("n", 0)

    def add(self, columns: Inferences | Embedded | Outcomes | Served | Losses, reference: Reference) -> None:
        """Add rows, measured on the grids of `reference`."""
        if not len(columns):
            return
        if isinstance(columns, Inferences):
            self._add_inferences(columns, reference)
        elif isinstance(columns, Embedded):
            add_embedded(self, columns, reference)
        elif isinstance(columns, Outcomes):
            add_outcomes(self, columns)
        elif isinstance(columns, Losses):
            add_losses(self, columns)
        else:
            add_served(self, columns)

    def _add_inferences(self, rows: Inferences, reference: Reference) -> None:
        if rows.live is not None and not rows.live.all():
            self.count("not_live", int((~rows.live).sum()))
            rows = rows.take(rows.live.nonzero()[0])
        if not len(rows):
            return
        self.count("n", len(rows))
        weight = weights(rows.weight)
        self.count("weight", total(weight, len(rows)))
        self.count("weight_squared", squares(rows.weight, len(rows)))
        for name in ("failed", "abstained", "capped"):
            flags = getattr(rows, name)
            if flags is not None:
                self.count(name, int(flags.sum()))
                if name != "capped":
                    self.count(f"{name}_weight", total(None if weight is None else weight[flags], int(flags.sum())))
        add_asked(self, rows)
        if rows.id_hash is not None:
            sampled = (rows.id_hash < (1 << 64) // ID_SAMPLE).nonzero()[0]
            self._repeats.add(self, rows, sampled)
            self.sample("any", rows, sampled)
            if rows.traces is not None:  # of so few requests that none may be among those sampled
                self.sample_traces(rows)
        if rows.numeric:
            names = tuple(rows.numeric)
            if self._grid is None or self._grid.names != names:
                self._grid = Grid(names, reference.numeric)
            add_numeric(self, rows, weight, reference, self._grid)
        add_categorical(self, rows, weight, reference)
        self.drop_features()
        add_outputs(self, rows, weight, reference)

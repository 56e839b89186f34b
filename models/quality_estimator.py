"""The registered estimator of quality without labels, as it travels inside a reference; unpacked once per process."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from models.induced_quality import InducedQuality

PATH = "training_data.bestbefore.quality_estimator"
KEPT = 16  # unpacked estimators; one takes about as much memory as its file


class QualityEstimator(msgspec.Struct, frozen=True, kw_only=True):
    """What `training_data.bestbefore.quality_estimator` says, and the bytes of the file.

    `digest` is the SHA-256 of the file, `model` that of the model file it was fitted on, both in hexadecimal. `content`
    is empty until the file was read; with it workers need no file.
    """

    file: str
    digest: str
    model: str = ""
    n: int = 0
    families: tuple[str, ...] = ()
    level: float = 0.9
    content: bytes = b""

    @classmethod
    def from_descriptor(cls, section: Mapping[str, Any]) -> "QualityEstimator":
        """Read the section; ValueError names the key that cannot be used."""
        known = {name: section[name] for name in cls.__struct_fields__ if name != "content" and name in section}
        for name in ("digest", "model"):
            known[name] = bare(str(known.get(name) or ""))
        try:
            found = msgspec.convert(known, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"{PATH}: {error}; `bestbefore induce` writes this section") from error
        if not found.digest:
            raise ValueError(f"{PATH}: digest is missing; `bestbefore induce` writes this section")
        return found

    def speaks_of(self, model: str) -> bool:
        """Whether it was fitted on the model file of this digest; where one of the two is unknown it may be."""
        return not model or not self.model or model == self.model

    def unpacked(self) -> InducedQuality:
        """The estimator. Raises ValueError where the bytes are not those of `digest`, or of a newer version."""
        return _unpacked(self.content, self.digest)


def bare(digest: str) -> str:
    """A digest as it is compared: hexadecimal, without the name of the hash."""
    return digest.strip().lower().removeprefix("sha256:")


@lru_cache(maxsize=KEPT)
def _unpacked(content: bytes, digest: str) -> InducedQuality:
    return InducedQuality.unpack(content, digest)

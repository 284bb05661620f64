"""What a study returns: frozen values, and the tables made of them."""

from __future__ import annotations

from alphakeel.results.parts import Books, FoldResult, ModelResult
from alphakeel.results.study import Study
from alphakeel.roster import LABELS

__all__ = ["LABELS", "Books", "FoldResult", "ModelResult", "Study"]

"""MongoDB's aggregation pipelines over documents in hand: a stated set of stages, in bounded memory. Pure."""

from docferry.core.mql.pipelines.memory import Memory
from docferry.core.mql.pipelines.stages import STAGES, UPDATE_STAGES, Pipeline, compile_pipeline, update_pipeline

__all__ = ["STAGES", "UPDATE_STAGES", "Memory", "Pipeline", "compile_pipeline", "update_pipeline"]

"""The boxes of the pipeline, one frozen record each: read this to learn the domain.

    text -> AST -> Spec -> Model -> Space -> Library -> Plan -> checkpoint + runtime

`Spec` is what the user asked for, `Model` what the parent is (config and headers; of its
weights only hashes), `Space` every legal alternative of every site of every layer with its costs,
`Plan` one alternative per site. Not here: any behaviour beyond small derived properties. Sequences
are tuples, numbers are exact (`int`, `Fraction`), lengths are tokens, sizes are bytes.
"""

from surgery.ir.lengths import Lengths
from surgery.ir.merging import Merging, merging_of
from surgery.ir.model import (
    Attention,
    Block,
    Experts,
    Ffn,
    Layer,
    Linear,
    Model,
    OfExpert,
    Scales,
    TensorFile,
    TensorSpec,
)
from surgery.ir.plan import (
    Decision,
    Evidence,
    Plan,
)
from surgery.ir.site import (
    FacetKind,
    Site,
)
from surgery.ir.space import (
    TIME_SOURCES,
    Candidate,
    Cost,
    Measured,
    SiteOptions,
    Space,
    TimePhase,
    TimeSource,
    Timing,
)
from surgery.ir.spec import (
    Alternative,
    Choice,
    Dataset,
    Emit,
    Facet,
    InputValue,
    Machine,
    ModelDecl,
    NotYet,
    Objective,
    Ranking,
    Requirement,
    Rope,
    Scenario,
    Score,
    Spec,
    Trace,
)

__all__ = [
    "TIME_SOURCES",
    "Alternative",
    "Attention",
    "Block",
    "Candidate",
    "Choice",
    "Cost",
    "Dataset",
    "Decision",
    "Emit",
    "Evidence",
    "Experts",
    "Facet",
    "FacetKind",
    "Ffn",
    "InputValue",
    "Layer",
    "Lengths",
    "Linear",
    "Machine",
    "Measured",
    "Merging",
    "Model",
    "ModelDecl",
    "NotYet",
    "Objective",
    "OfExpert",
    "Plan",
    "Ranking",
    "Requirement",
    "Rope",
    "Scales",
    "Scenario",
    "Score",
    "Site",
    "SiteOptions",
    "Space",
    "Spec",
    "TensorFile",
    "TensorSpec",
    "TimePhase",
    "TimeSource",
    "Timing",
    "Trace",
    "merging_of",
]

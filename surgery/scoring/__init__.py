"""Measuring on real weights: what one swapped block does to a model's predictions.

In: a space, text, and the parent's weights. Out: damages (KL), rankings, and the judgement of an
assembled child. Inside `surgery`, torch runs here, in the measuring halves of `passes/rank.py` and
`passes/score.py`, and in the import of GGUF files, and is imported only when one of these does: a
run that finds everything in the library loads none of it.
"""

import os

# Read by OpenMP when torch loads it. Its threads wait by spinning, which on a machine that does
# anything else takes the very cores they wait for: a ranking took 85 s instead of 12 on two busy
# cores. Whoever sets these keeps their own values; how many threads run is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

"""What blocks cost in time on the machine at hand, measured with the models of `surgery_runtime`.

In: a parent, shapes of blocks, loads. Out: seconds by block and phase, to be kept in a library.
`keys.py` says what exactly was measured and needs no torch; `clock.py` is the only file that knows
whether blocks run on a CPU or a GPU; `stack.py` holds the layers, `rounds.py` runs and times them,
`figures.py` makes figures of times. Not here: what is measured for a spec (`passes/bench.py`), and
what engines other than PyTorch take.
"""

"""What serving costs on a machine: how it is shared out, bytes per GPU, seconds.

In: machines, loads and layers (`surgery.ir`). Out: bytes and seconds, each with the terms that it
is the sum of. Every module is plain arithmetic; `fit.py` alone needs numpy and scipy, to find the
factors that the others read from `fitted.json`. Not here: what tensors weigh (`sizes.py`), which
costs a spec asks for (`facts.py`).
"""

"""surgery: a declarative model-surgery language and compiler.

`surgery.pipeline` runs the passes, `surgery.ir` holds the boxes between them, `surgery.cli` is the
command line.
"""

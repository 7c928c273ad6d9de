"""The linter: a text in, findings out; levels of a project; applying fixes.

`run.py` looks, `levels.py` weighs, `fixing.py` mends. The rules themselves are in `rules/`.
"""

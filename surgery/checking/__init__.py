"""The parts of the check pass: modules and names, values and types, and one file per kind of act.

`passes/check.py` puts them together; `tables.py` is the vocabulary of the language as data.
"""

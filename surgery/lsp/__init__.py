"""The language server: what an editor asks, answered by the passes that the command line runs.

In: requests of the Language Server Protocol. Out: answers, and diagnostics as one types. An
adapter only: text is checked by `grammar`, `passes` and `linting`, every finding comes from the
one catalogue, and words come from `checking/tables.py`. `server.py` is the only file that knows
pygls, and `positions.py` the only one that counts in the units of a client.
"""

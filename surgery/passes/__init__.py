"""The passes: one file per arrow of the data flow, each with a `run` that makes the next box."""

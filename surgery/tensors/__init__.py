"""Checkpoints as bytes: headers read, slices cut, shards written, content hashed. No torch.

`headers.py` reads what there is, `ops.py` carries out `surgery.ops` in memory, `stream.py` the same
on disk in constant memory, `layout.py` knows every size before `write.py` writes the first byte,
`digest.py` hashes what there is.
"""

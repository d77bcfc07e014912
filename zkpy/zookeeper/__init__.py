"""Apache ZooKeeper's data, in and out, for `zkpy import` and `zkpy export`.

records.py    what its files are made of, in jute
files.py      a snapshot or log: bytes in, bytes out
tree.py       the tree that they tell of, and how a log is replayed on it
directory.py  which files of a data directory count
convert.py    that tree into the replicated state, and back
"""

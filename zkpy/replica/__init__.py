"""The one object that shells drive: state, zab and pipeline, composed.

core.py    Replica: inputs with `now`, outputs as data
links.py   the client connections of this server
status.py  facts and counters for whoever watches
"""

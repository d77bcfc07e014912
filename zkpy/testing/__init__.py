"""Tools for tests, which ship with zkpy: the simulator of whole ensembles, and real servers."""

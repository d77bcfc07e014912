"""Patterns on top of kazoo alone, for zkpy and Apache ZooKeeper alike.

`locks`, `election`, `barriers`, `counter`, `config`, `membership`, `tasks`, `queue` and `kafka`
are for programs; docs/recipes has a page for each.  `base`, `loop`, `once` and `giveback` are
what these share.
"""

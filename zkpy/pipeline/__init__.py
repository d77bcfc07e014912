"""Requests in, replies out: what a server does with a client's request.

Knows the tree (`zkpy.state`) and the wire's records, and nothing of zab: a write
leaves here as a transaction, and comes back as a committed one.

    request.py     what a write carries from its server to the leader
    optable.py     one row per opcode
    prepare.py     leader: a write -> transaction, against tree and pending changes
    pending.py     what is prepared but not yet applied
    reads.py       answers from the tree
    gate.py        order per connection; commits matched to waiting requests
    watches.py     who is told of which change
    expiry.py      leader: which sessions are due
    auth.py        identities of a connection
    digest_md5.py  SASL: the exchange of tokens that earns one
"""

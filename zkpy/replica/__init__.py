"""The one object that shells drive: state, zab and pipeline, composed.

core.py        Replica: inputs with `now`, outputs as data
clients.py     handshakes, requests, replies and events of this server's clients
audit.py       who asked for which change, and what came of it
links.py       their connections, and what is to be written to them
local.py       the same with sessions that this server alone knows
counts.py      what clients and sessions have met with
throttle.py    how many handshakes are let in
images.py      images of the state: made for the disk and for learners, and received
office.py      what differs by role, as a protocol
leading.py     the office of the leader
learning.py    that of followers and observers, and of those without a leader
reading.py     that of a member without a quorum that still serves reads
membership.py  between voter sets, which zab counts, and configurations, which clients read
status.py      facts and counters for whoever watches
"""

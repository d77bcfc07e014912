"""The broadcast core: one log, agreed by a quorum, over opaque payloads.

For who drives it (the replica).  Each input carries `now` in monotonic
milliseconds; all effects are data.  One pass of the driver is

    inputs    link_up, link_down, receive, receive_vote, saved, handle_timer
    snap      for event in zab.take_snap(): a SNAP coming in, see below
    commits   for entry in zab.take_committed(): apply it (all kinds; TXN enters the tree,
              CONFIG is mirrored, EPOCH only advances the zxid)
    messages  for sid, data in zab.take_upper(): what replicas send each other by `send`
    touches   for sid, data in zab.take_pings(): payloads that came with pings
    proposals zab.propose(EntryKind.TXN, data) while zab.serving and zab.role is LEADING
    effects   ready = zab.ready(state.zxid, state.digest), after everything committed was applied

*Boot.*  Read image and log, load the state from the image, make
`Window(image_zxid, image_chain, entries, committed)` and
`Zab(me, identity, window, options, rng, now, suspect=...)`.  The first `take_committed()`
replays what is known to be committed; the tail behind it waits for a leader.

*Roles.*  `role`, `leader`, `epoch` and `serving` are plain attributes, valid after each
input.  `serving` of a leader: established by a quorum, may propose; of a learner: up to
date, may serve clients.  A change of `(role, leader, epoch)` means: throw away what
was under way.  `paused` says that this process stood still for longer than a tick
and has not yet heard its quorum again: answer no client meanwhile (rule C13).
A learner's shell keeps a link to `zab.dial` (its leader, or None) and redials.  A link that
was dialed is reported only if then `zab.dial == sid`, an accepted one only if not (else close
it without a word).  There is at most one link per server id, the newest wins, and each
`link_up` is followed by exactly one `link_down`, also after a `peer_closes`.

*Commit and durability.*  `take_committed` returns entries that are committed and
durable here, in order, each once.  Nothing that depends on a write is ever queued:
messages are derived from what is durable, so `saved` sets them free.

*Linearizable sync.*  `token = zab.confirm_leadership()`; it is confirmed once
`zab.confirmed >= token`: a quorum answered a round begun after the call.  Tokens die with the
leadership.

*Digests.*  Frames carry the leader's digest at a zxid.  While applying, pop the zxid of
each entry from `zab.digests`; on a difference call `zab.on_digest_mismatch(now)`.

*SNAP, going out.*  `ready.images` names learners for whom an image must be begun *now*,
of the state at `digest_zxid` (what was passed to `ready`).  Then, slice by slice: while
`zab.image_room(sid) > 0`, call `zab.image_chunk(sid, data)`; at the end
`zab.image_end(sid, digest)`.  When `zab.image_room(sid)` is None, forget that image.
*Coming in.*  `take_snap()` yields SnapStarted, SnapData, SnapFinished: decode into a state beside
the old one; when the finished one was verified call `zab.snap_loaded(now)` (or
`on_digest_mismatch`).  SnapAdopted: swap it in, before the next `take_committed`.
SnapAborted: forget it, the old state stays in force.

*Voter sets.*  CONFIG entries hold `VoterSet.encode()`; `note` in it is for the upper layers.
`zab.propose_voters(new)` starts a change; joint and final entries follow by themselves.

Modules: window (the log in memory), quorum and standing (who counts), member (what a member
holds whatever its role), election, outlook (whether one can end), sync (plan_sync), leader,
learner, counts (for whoever watches), zab (the object above).
"""

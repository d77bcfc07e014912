"""Patterns on top of kazoo alone, for zkpy and Apache ZooKeeper alike.

`locks`, `election`, `barriers`, `counter`, `config`, `membership`, `registry`, `tasks`, `queue` and
`kafka` are for programs; docs/recipes has a page for each.  The others are what these share.

    base        waits that end, nodes whose create may lose its answer
    alarm       a watch for one wait
    once        multis that happen at most once
    giveback    a claim that is taken away
    loop        a thread that keeps up with what a server holds
    children    what the znodes under a path hold, read by a loop
    listeners   who is told of what happens
    liveview    the last three as one: a view of znodes, with listeners
"""

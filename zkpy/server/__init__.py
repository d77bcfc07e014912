"""The shell: the only place with sockets, threads, signals and real time.

app.py          starts a server, runs it, stops it in order
boot.py         the parts of it, from a Config and a data directory
founding.py     by whose word a data directory comes to be, and when a start is refused
recover.py      one member goes on alone, when the majority is lost for good
transfer.py     a ZooKeeper's data taken over, and handed back
driver.py       inputs -> core; once per pass of the loop its outputs -> the world
clients.py      client connections: limits, back-pressure
secure.py       those over TLS: who may have one
sealed.py       a TLS connection between a socket and what speaks over it
tls.py          contexts for TLS, from zoo.cfg and its files
keystore.py     Java's key stores
certificates.py what a certificate says of itself
ensemble.py     the ties to the other members, as one thing
addresses.py    where these are: names looked up again and again
peers.py        links with them, over TCP
peer_tls.py     these links over TLS: which certificate is which member's
votes.py        election datagrams, over UDP
complaints.py   one log line for many, about what others do
sockets.py      bound to the own ports; the addresses that sockets take
admin_ports.py  the ports that speak HTTP, and when a server goes without
admin_http.py   connections to them
dynamic.py      the committed membership as a file beside zoo.cfg
log_disk.py     makes log batches durable
disk_thread.py  threads for what may block: log batches, images
space.py        room on the disk: watched, and waited for
clock.py        time and randomness
"""

"""The shell: the only place with sockets, threads, signals and real time.

app.py          builds everything, runs it, stops it in order
driver.py       inputs -> core; once per pass of the loop its outputs -> the world
clients.py      client connections: limits, back-pressure
disk_thread.py  the threads that write log batches and images
clock.py        time and randomness
"""

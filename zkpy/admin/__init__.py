"""What operators ask a running server: commands, their text form, and metrics.

commands.py    one table: name, four-letter word, function of a `ServerView`
fourletter.py  answers of commands as the text ZooKeeper gives
documents.py   answers of commands as the JSON that ZooKeeper's AdminServer gives
prometheus.py  all figures as Prometheus reads them
web.py         what a request over HTTP is answered, and who may have it
metrics.py     counters and summaries that the shell keeps
"""

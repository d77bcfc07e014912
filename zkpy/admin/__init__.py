"""What operators ask a running server: commands, their text form, and metrics.

commands.py    one table: name, four-letter word, function of a `ServerView`
fourletter.py  answers of commands as the text ZooKeeper gives
metrics.py     counters and summaries that the shell keeps
"""

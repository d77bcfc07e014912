"""ZooKeeper's wire format, without IO: codecs and connection objects."""

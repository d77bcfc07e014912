"""zoo.cfg and command line -> one frozen `Config`.

In: the text of a zoo.cfg (a Java properties file, with the keys of ZooKeeper 3.9),
settings from the command line, and what lies beside them (`myid`, the file that
`dynamicConfigFile` names; for who serves that of `java.security.auth.login.config`, too).
Out: a `Config`, valid as a whole, with `Limits` filled and a list of warnings for the log.

Every key of ZooKeeper 3.9 is known.  It is honoured (table `HONOURED`), or one
warning line names it and says why it has no effect.  Any other key is kept as a
property and warned of.  A key may be written with or without `zookeeper.` in front:
so a system property of ZooKeeper (`-D zookeeper.snapCount=5000`) and a line of the
file (`snapCount=5000`) are one thing.  The command line wins over the file.

Values never appear in a warning, and those of secrets not even in an error.

    properties.py  settings as they are written
    values.py      text -> value
    keys.py        which key is honoured, and what is said of the others
    ensemble.py    server, group and weight lines
    jaas.py        JAAS files: sections, login modules, options
    sasl.py        the users in such a file
    tls.py         what is said of TLS, together
    build.py       all of them together -> Config
"""

from zkpy.config.build import (
    ADMIN_PORT,
    CLIENT_PORT,
    LOOPBACK,
    Config,
    load,
    parse,
    read_myid,
    standalone,
)
from zkpy.config.properties import Setting, option_setting, read_properties
from zkpy.membership import ANY_ADDRESS, ClientAddress, PeerAddress, ServerSpec, parse_server

__all__ = [
    "ADMIN_PORT",
    "ANY_ADDRESS",
    "CLIENT_PORT",
    "LOOPBACK",
    "ClientAddress",
    "Config",
    "PeerAddress",
    "ServerSpec",
    "Setting",
    "load",
    "option_setting",
    "parse",
    "parse_server",
    "read_myid",
    "read_properties",
    "standalone",
]

"""What a server keeps on disk: log, images, identity.  Knows zxids and bytes only."""

from zkpy.storage.disk import Storage, StorageOptions
from zkpy.storage.fs import File, FileSystem, Lock, OsFileSystem

__all__ = ["File", "FileSystem", "Lock", "OsFileSystem", "Storage", "StorageOptions"]

"""Everything replicated: the tree, sessions, what ends by itself, quotas, digest, images.  No IO."""

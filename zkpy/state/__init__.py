"""Everything replicated: the tree, sessions, lifetimes, quotas, digest, images.  No IO."""

//! Torrents cross between the tools of others and ours: same fields, same info-hash.

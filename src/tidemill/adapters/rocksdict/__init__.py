"""RocksDB through the package `rocksdict`: state of streams that is large, or changes fast."""

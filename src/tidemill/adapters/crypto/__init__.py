"""AES by the package `cryptography`: keys, secrets in a store, files, and values of columns."""

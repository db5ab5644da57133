"""Adapters of the port `places` on servers that hold files in folders: FTP, SFTP."""

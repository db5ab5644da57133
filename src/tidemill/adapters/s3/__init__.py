"""Adapters of ports on S3-compatible object stores, through obstore; code by boto3."""

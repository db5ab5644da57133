"""Adapters of ports on S3-compatible object stores, through boto3."""

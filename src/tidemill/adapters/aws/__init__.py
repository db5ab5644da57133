"""Adapters of ports on Amazon's services, through boto3."""

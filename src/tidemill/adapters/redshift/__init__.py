"""Amazon Redshift: batches by COPY from a bucket, tables by UNLOAD into one."""

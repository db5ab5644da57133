"""Records as archive files: JSON Lines and Avro."""

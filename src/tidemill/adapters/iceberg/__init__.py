"""Tables of the lake as Iceberg tables, through PyIceberg."""

"""The stream engine by Polars: the steps of frames on rows that come a few at a time."""

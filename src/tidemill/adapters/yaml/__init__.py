"""YAML by the package PyYAML."""

"""The settings: their schema, the checks of their values, the registries of choices, and the groups of YAML files."""

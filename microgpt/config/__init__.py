"""The settings: their schema and the checks, the registries of choices, and the folder of YAML files."""

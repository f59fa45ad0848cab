"""The commands: one module each, with its settings, its help and its `main`; `microgpt.__main__` lists them.

Only this folder and the callback of sweeps import Hydra. A command imports torch only when it runs, so that its --help
is fast.
"""

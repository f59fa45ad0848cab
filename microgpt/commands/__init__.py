"""The commands: one module each, with its settings, its help and its `main`; `microgpt.__main__` lists them.

Only here, and in the callback of sweeps, is Hydra known. A command imports what needs torch when it runs, so that its
--help answers at once.
"""

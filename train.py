"""Train a character-level GPT: `python train.py dataset=names model.n_embd=64`; --help lists all settings.

Kept short on purpose: the settings are in conf/, and what a run does is in microgpt/training/run.py.
"""

import sys

from microgpt.errors import packages_needed

with packages_needed():
    from microgpt.commands import train

if __name__ == "__main__":
    train.main(sys.argv[1:])

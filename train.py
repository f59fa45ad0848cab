"""Train a character-level GPT: `python train.py dataset=names model.n_embd=64`; --help lists all settings.

Kept short on purpose: conf/ says what can be set, microgpt/training/run.py what a run is.
"""

import sys

from microgpt.commands import train

if __name__ == "__main__":
    train.main(sys.argv[1:])

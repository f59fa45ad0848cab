"""Sample from a trained run: `python sample.py run=latest prompt=ka`; --help lists all settings."""

import sys

from microgpt.errors import packages_needed

with packages_needed():
    from microgpt.commands import sample

if __name__ == "__main__":
    sample.main(sys.argv[1:])

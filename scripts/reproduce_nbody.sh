#!/usr/bin/env bash
# Train the five models of Table 1 on the N-body task, then print the table.
# Words of the command line go to every run: scripts/reproduce_nbody.sh preset=quick, or seed=1 trainer.accelerator=gpu.
# A line that was interrupted goes on where it stopped, because of resume=true; what has finished is not trained again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make --no-print-directory install
for model in linear deepset tfn set_transformer se3_transformer; do
  .venv/bin/se3t train experiment=nbody model="$model" resume=true "$@"
done
.venv/bin/se3t table

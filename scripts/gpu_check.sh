#!/usr/bin/env bash
# Everything to be known of a GPU in a quarter of an hour: correctness, tile sizes, speed, and a trained network.
#
#   scripts/gpu_check.sh                         14 minutes on the GPU of this machine
#   scripts/gpu_check.sh --minutes 30            all limits in proportion; what is left over goes to the training
#   scripts/gpu_check.sh --device cpu --minutes 5   the same phases without a GPU, small, the Triton kernel interpreted
#   scripts/gpu_check.sh --only tests,qm9        some phases: versions tests tiles qm9 steps sh scaling train
#   scripts/gpu_check.sh --data data --wheels wheels --out results/gpu
#
# --data DIR    folder of prepared data; with DIR/qm9/qm9.h5 it trains HOMO, without one N-body
# --wheels DIR  packages that this Python lacks, installed for this check alone: hydra_core, omegaconf and
#               antlr4_python3_runtime where torch, torch-geometric, lightning, h5py, jaxtyping, rich and pytest are there
# --python EXE  default: .venv/bin/python of the checkout if there is one, else python3; the checkout need not be installed
#
# A phase that fails or takes too long does not stop the next. Results, at most 8 files of 16 MB in --out: log.txt,
# summary.json, tiles.json, qm9.json, steps.json, sh.json, scaling.json, run.tar.gz (record and best weights; unpack it in
# a checkout and `se3t table 3` reads it). Status 1 when a phase failed.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

device=cuda minutes=14 only=versions,tests,tiles,qm9,steps,sh,scaling,train data=data wheels="" out=results/gpu python=""
while (($#)); do
  case "$1" in
    --device | --minutes | --only | --data | --wheels | --out | --python)
      (($# > 1)) || { echo "$0: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "$0: $1 is unknown; expected --device, --minutes, --only, --data, --wheels, --out or --python" >&2; exit 2 ;;
  esac
done
[[ "$device" == cuda || "$device" == cpu ]] || { echo "$0: --device $device: expected cuda or cpu" >&2; exit 2; }
[[ "$minutes" =~ ^[1-9][0-9]*$ ]] || { echo "$0: --minutes $minutes: expected a whole number above 0" >&2; exit 2; }
for name in ${only//,/ }; do
  [[ " versions tests tiles qm9 steps sh scaling train " == *" $name "* ]] ||
    { echo "$0: --only $name is unknown; expected versions, tests, tiles, qm9, steps, sh, scaling, train" >&2; exit 2; }
done
if [[ -z "$python" ]]; then
  python="$here/.venv/bin/python"
  [[ -x "$python" ]] || python=python3
fi
command -v "$python" > /dev/null || { echo "$0: --python $python: there is no such program" >&2; exit 2; }
[[ -z "$wheels" || -n "$(compgen -G "$wheels/*.whl")" ]] || { echo "$0: --wheels $wheels: holds no .whl" >&2; exit 2; }

mkdir -p "$out" || exit 2
out="$(cd "$out" && pwd)" data="$(realpath -m "$data")" wheels="${wheels:+$(realpath "$wheels")}"
rm -f "$out"/{log.txt,summary.json,tiles.json,qm9.json,steps.json,sh.json,scaling.json,run.tar.gz}
work="$(mktemp -d)" started=$SECONDS child=""
trap 'rm -rf "$work"' EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
cd "$here"
export PYTHONPATH="$work/site:$here/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 WANDB_MODE=disabled
export SE3T_TILES="$out/tiles.json" SE3T_TEST_DEVICE="$device"
[[ "$device" == cuda ]] || export TRITON_INTERPRET=1

say() { echo "$*" | tee -a "$out/log.txt"; }

left() { echo $((60 * minutes - SECONDS + started)); } # seconds to the end of all

stop() { # stop <status>: a signal ends the phase at work as well
  trap '' HUP INT TERM
  [[ -z "$child" ]] || { kill -TERM "$child" 2> /dev/null && wait "$child"; }
  say "stopped"
  exit "$1"
}

record() { # record <phase> <status> <seconds> <limit> <last line>: one more entry of summary.json
  printf '%s\t' "$@" >> "$work/phases.tsv"
  echo >> "$work/phases.tsv"
  "$python" - "$work/phases.tsv" "$out/summary.json" "$device" "$minutes" << 'PYTHON'
import json, pathlib, sys

table, summary, device, minutes = sys.argv[1:]
names = ("phase", "result", "seconds", "limit", "line")
rows = [dict(zip(names, line.split("\t"), strict=False)) for line in pathlib.Path(table).read_text().splitlines()]
for row in rows:
    row |= {"seconds": int(row["seconds"]), "limit": int(row["limit"])}
content = {"device": device, "minutes": int(minutes), "phases": rows}
pathlib.Path(summary).write_text(json.dumps(content, indent=1) + "\n")
PYTHON
}

failures=0
phase() { # phase <name> <seconds of whole> <function> <arguments …>: within its limit and that of all
  local name=$1 limit=$(($2 * 60 * minutes / whole)) begun=$SECONDS status=0 result
  shift 2
  [[ ",$only," == *",$name,"* ]] || return 0
  local most=$(($(left) - 12)) # for summary, archive and a process that does not end at once
  ((limit >= 5)) || limit=5
  ((limit <= most)) || limit=$most
  if ((most < 5)); then
    say "== $name: not run, the time is up"
    record "$name" "not run" 0 0 ""
    ((++failures))
    return 0
  fi
  say "== $name, at most $limit s: ${*//$'\n'/ }"
  : > "$work/output"
  { declare -p python data out work device small limit; declare -f versions tests bench train; printf '%q ' "$@"; } > "$work/phase.sh"
  timeout --kill-after=8 "$limit" bash "$work/phase.sh" < /dev/null > >(tee -a "$out/log.txt" "$work/output") 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=""
  sleep 0.2 # the last lines
  case $status in
    0) result=ok ;;
    124 | 137) result="time limit" ;;
    *) result="failed, status $status" ;;
  esac
  [[ "$result" == ok ]] || ((++failures))
  local line
  line="$(grep -v '^[[:space:]]*$' "$work/output" | tail -n 1 | tr -d '\t' | cut -c 1-200)"
  say "== $name: $result, $((SECONDS - begun)) s: $line"
  record "$name" "$result" $((SECONDS - begun)) "$limit" "$line"
}

versions() {
  command -v nvidia-smi > /dev/null && nvidia-smi
  "$python" -m se3t doctor --root "$data"
}

tests() { "$python" -m pytest -m gpu -p no:cacheprovider -n0 tests/gpu; }

train() { # HOMO in the way that was the fastest in phase qm9; some of the time is for what is not training
  local seconds=$((limit > 100 ? limit - 50 : limit / 2)) words=(experiment=nbody preset=quick)
  if [[ -f "$data/qm9/qm9.h5" ]]; then
    words=(experiment=qm9 task=homo)
    [[ "$device" == cuda ]] && words+=(preset=fast trainer.eval_every=1000) || words+=(preset=smoke)
    [[ ! -f "$out/qm9.json" ]] || mapfile -t -O ${#words[@]} words < <("$python" -c '
import json, sys
print(*json.load(open(sys.argv[1]))["facts"]["fastest_settings"]["qm9"], sep="\n")' "$out/qm9.json")
  else
    echo "no $data/qm9/qm9.h5: trains N-body instead; se3t data prepare qm9 data.root=$data makes one"
  fi
  [[ "$device" == cuda ]] && words+=(trainer.accelerator=gpu) || words+=(trainer.accelerator=cpu)
  "$python" -m se3t train "${words[@]}" data.root="$data" runs="$work/runs" logger.wandb=disabled trainer.progress=false \
    trainer.max_steps=10000000 trainer.max_time="$(printf '%02d:%02d:%02d' $((seconds / 3600)) $((seconds / 60 % 60)) $((seconds % 60)))"
}

archive() { # the run as far as it got: the newest checkpoint only where there are no best weights
  local folder
  folder="$(find "$work/runs" -name config.yaml -printf '%h\n' -quit 2> /dev/null)"
  [[ -n "$folder" ]] || return 0
  [[ ! -f "$folder/checkpoints/best.ckpt" ]] || rm -f "$folder"/checkpoints/step-*.ckpt
  tar -C "$work" -czf "$out/run.tar.gz" "runs/${folder#"$work/runs/"}"
  if (($(stat -c %s "$out/run.tar.gz") > 16000000)); then
    tar -C "$work" --exclude='*.ckpt' -czf "$out/run.tar.gz" "runs/${folder#"$work/runs/"}"
    say "the checkpoint is larger than 16 MB and was left out"
  fi
}
[[ -z "$wheels" ]] || "$python" -m pip install -q --no-index --no-deps --disable-pip-version-check \
  --target "$work/site" "$wheels"/*.whl || exit 2

bench() { # bench <what> <flags …>
  "$python" -m se3t bench "$@" --device "$device" "${small[@]}"
}
small=()
[[ "$device" == cuda ]] || small=(--quick)

# Limits are those of 14 minutes on a GPU, or of 5 without one; the Triton kernel is slow when it is interpreted.
if [[ "$device" == cuda ]]; then
  whole=840
  phase versions 30 versions
  phase tests 210 tests
  phase tiles 120 bench tiles --num-graphs 240 --seconds $((90 * minutes / 14))
  phase qm9 80 bench step --workload qm9 --num-graphs 240 --precision 32 tf32 bf16 --no-memory --seconds 40 \
    --json "$out/qm9.json"
  phase steps 80 bench step --workload nbody nbody_attentive qm9_complete pointcloud pointcloud_deg3 pointcloud_k10 \
    --precision tf32 bf16 --no-memory --seconds 8 --json "$out/steps.json"
  phase sh 25 bench sh --seconds 1 --json "$out/sh.json"
  phase scaling 50 bench scaling --no-memory --seconds 2 --json "$out/scaling.json"
else
  whole=300
  phase versions 15 versions
  phase tests 130 tests
  phase tiles 50 bench tiles --workload nbody --num-graphs 1 --seconds $((6 * minutes))
  phase qm9 30 bench step --workload qm9 --contenders auto edge_frame --repetitions 1 --no-memory --json "$out/qm9.json"
  phase steps 60 bench step --workload nbody pointcloud --num-graphs 1 --contenders auto edge_frame --repetitions 1 \
    --no-memory --json "$out/steps.json"
  phase sh 25 bench sh --seconds 1 --json "$out/sh.json"
  phase scaling 25 bench scaling --contenders native edge_frame --repetitions 1 --max-edges 2000 --no-memory --seconds 1 \
    --json "$out/scaling.json"
fi
phase train "$whole" train
[[ ",$only," != *,train,* ]] || archive
say "done in $((SECONDS - started)) s of $((60 * minutes)): $(du -sh "$out" | cut -f 1) in $out, $failures phases failed"
((failures == 0))

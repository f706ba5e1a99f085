#!/usr/bin/env bash
# Everything from data to report: data, the trainings of Tables 1 to 3 and of the ablations, tables, figures, one HTML
# file. Rerun it after an interruption: finished trainings, figures and measurements are skipped.
#
#   scripts/reproduce_paper.sh                               all, preset reduced: many hours on a CPU
#   scripts/reproduce_paper.sh --preset paper --seeds 0,1,2  the budgets of the paper: GPUs, or days
#   scripts/reproduce_paper.sh --only 1,ablations            N-body alone: about two hours on two cores
#   scripts/reproduce_paper.sh --only 2 data=shapes15        synthetic scans, where the real ones are not at hand
#   scripts/reproduce_paper.sh --only 3 task=homo            one property of QM9
#   scripts/reproduce_paper.sh --plan                        what it would run, and for how long
#
# Words with "=" go to every training of the tables that were chosen (data.root=…, data.raw=…, trainer.accelerator=gpu).
# Results: runs/ (records), results/ (tables as Markdown, CSV, LaTeX and JSON, figures, report.html).
set -euo pipefail
cd "${SE3T_FOLDER:-$(dirname "${BASH_SOURCE[0]}")/..}"

preset=reduced only=1,2,3,ablations seeds="" jobs="" plan=no out=results
words=()
while (($#)); do
  case "$1" in
    --preset | --only | --seeds | --jobs | --out)
      (($# > 1)) || { echo "$0: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --plan) plan=yes; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *=*) words+=("$1"); shift ;;
    *) echo "$0: $1 is unknown; expected --preset, --only, --seeds, --jobs, --out, --plan or key=value" >&2; exit 2 ;;
  esac
done
for name in ${only//,/ }; do
  [[ " 1 2 3 ablations " == *" $name "* ]] || { echo "$0: --only $name is unknown; expected 1, 2, 3, ablations" >&2; exit 2; }
done

if [[ -z "${SE3T:-}" ]]; then
  make --no-print-directory install
  SE3T=.venv/bin/se3t
fi
flags=(--preset "$preset")
[[ -z "$seeds" ]] || flags+=(--seeds "$seeds")
[[ -z "$jobs" ]] || flags+=(--jobs "$jobs")

failed=() child=""
stop() { # stop <status>: a signal ends the command at work as well, which saves what a training needs to resume
  trap '' HUP INT TERM
  [[ -z "$child" ]] || { kill -TERM "$child" 2>/dev/null && wait "$child"; } || true
  echo "$0: stopped; rerun the command to resume" >&2
  exit "$1"
}
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM

step() { # step <what> <command …>: print what runs, continue after a failure, and record it; not after a signal
  echo "== $1"
  shift
  local status=0
  "$@" & # while bash waits for a command in the foreground, it receives no signal
  child=$!
  wait "$child" || status=$?
  child=""
  if ((status == 129 || status == 130 || status == 143)); then # SIGHUP, Ctrl-C, SIGTERM
    stop "$status"
  fi
  ((status == 0)) || failed+=("${*//$'\n'/ }")
}

if [[ "$plan" == yes ]]; then
  for name in ${only//,/ }; do
    step "table $name" "$SE3T" table "$name" --plan "${flags[@]}" "${words[@]}"
  done
  ((${#failed[@]} == 0))
  exit
fi

mkdir -p "$out"
for name in ${only//,/ }; do
  step "trainings of table $name" "$SE3T" table "$name" --run "${flags[@]}" "${words[@]}"
  for format in md csv tex json; do
    step "table $name as $format" "$SE3T" table "$name" --preset "$preset" --out "$out/table_$name.$format"
  done
done
case ",$only," in *,1,*)
  step "Figure 3" "$SE3T" figure 3 --gif --out "$out/figure3"
  step "learning curves" "$SE3T" figure curves --experiment nbody --preset "$preset" --out "$out/curves" ;;
esac
case ",$only," in *,2,*)
  on=scanobjectnn
  [[ " ${words[*]} " != *" data=shapes15 "* ]] || on=shapes15
  step "Figure 4" "$SE3T" figure 4 --on "$on" --so3 --out "$out/figure4" ;;
esac
step "spherical harmonics" "$SE3T" figure sh --out "$out/harmonics" ${SE3T_QUICK:+--quick}
report=("$SE3T" report --out "$out/report.html")
[[ ! -f "$out/figure3.json" ]] || report+=(--figure3 "$out/figure3.json")
[[ ! -f "$out/figure4.json" ]] || report+=(--figure4 "$out/figure4.json")
[[ ! -f "$out/harmonics.json" ]] || report+=(--harmonics "$out/harmonics.json")
step "report" "${report[@]}"

if ((${#failed[@]})); then
  echo "$0: ${#failed[@]} steps failed; rerun the command to try them again:" >&2
  printf '  %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "done: $out/report.html"

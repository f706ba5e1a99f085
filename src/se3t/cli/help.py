"""Texts of ``--help``. They are printed without importing torch or hydra."""

from __future__ import annotations

from dataclasses import dataclass

from se3t.config import conf_dir


@dataclass(frozen=True)
class Command:
    """A command: the function behind it, a line about it, its usage and examples."""

    target: str  # 'module:function'
    summary: str
    text: str


_TRAIN = """\
usage: se3t train [key=value …] [-m] [--cfg job] [--info] [--hydra-help]

Train a model, measure it on test once, write the run record under runs/ and print the table of the experiment.
The same line again reports the finished run; an interrupted one goes on with resume=true.

examples:
  se3t train experiment=nbody                                  the SE(3)-Transformer with the paper's budget
  se3t train experiment=qm9 task=homo                          one property of QM9; preset=smoke: a minute
  se3t train experiment=qm9 task=gap model=tfn preset=fast     another property, model and budget
  se3t train experiment=qm9 data=molecules data.raw=my_molecules/ task.column=solubility
  se3t train experiment=scanobjectnn data.raw=h5_files.zip     classes of scanned objects; task.height=true: "+z"
  se3t train experiment=scanobjectnn data=shapes15 preset=quick      synthetic scans, nothing to download
  se3t train experiment=nbody preset=quick                     minutes on two cores
  se3t train experiment=nbody model=tfn model.num_degrees=3 -m seed=1,2,3
  se3t train experiment=nbody data.preset=text optim.lr=1e-3 trainer.max_steps=5000
  se3t train experiment=nbody trainer.devices=2                two processes (DDP)
  se3t train experiment=nbody resume=true                      continue an interrupted run
  se3t train --cfg job                                         print the configuration and stop

choices:
{choices}

budgets are those of an experiment: {budgets}

often changed (se3t train --cfg job shows all):
  seed  resume  runs  data.root  data.preset  data.graph  task.num_points  task.height  task.augmentation
  model.channels  model.num_degrees  optim.lr  optim.schedule  trainer.max_steps  trainer.batch_size
  trainer.devices  trainer.precision  trainer.ema_decay  logger.wandb

flags:
  -m, --multirun      one job for each combination of comma-separated values, one after another
  --cfg job           print the configuration and stop
  --info              what Hydra composed, and from where
  --hydra-help        all flags of Hydra"""

_EVAL = """\
usage: se3t eval checkpoint=<run folder or file> [key=value …]

Measure a trained model on test, or on another split: errors, errors relative to a trivial prediction, equivariance
error. A run folder means the checkpoint that validation chose. What `se3t convert` wrote needs experiment=… beside it,
and task=… for QM9.

examples:
  se3t eval checkpoint=runs/nbody/se3_transformer/0-1a2b3c4d
  se3t eval checkpoint=path/to/file.ckpt split=valid trainer.precision=64
  se3t eval checkpoint=converted.pt experiment=nbody data.preset=authors
  se3t eval checkpoint=converted.pt experiment=qm9 task=homo split=valid
  se3t eval checkpoint=runs/scanobjectnn/tfn/0-1a2b3c4d task.test_rotation=so3

settings (what is not given is as in training):
  split=test | valid | train  data.root=<folder of the stores>  data.raw=<raw files>  data.preset=…
  task.test_rotation=<degrees about a horizontal axis, at most> | so3
  trainer.precision=32 | 64 | bf16  trainer.accelerator=auto | cpu | gpu
  trainer.num_equivariance_samples=<rotations per batch>"""

_DATA = """\
usage: se3t data prepare <name> [key=value …] [force=true]

Make the data of an experiment and print the errors of trivial predictions on it. A store that exists is checked, not
made again; force=true makes it again.

examples:
  se3t data prepare nbody
  se3t data prepare nbody data.preset=text data.root=/scratch/data
  se3t data prepare nbody data.num_train=100000 data.data_seed=1
  se3t data prepare qm9                                        downloads; goes on where it was interrupted
  se3t data prepare qm9 data.raw=qm9.zip                       or a folder, gdb9.sdf, dsgdb9nsd.xyz.tar.bz2
  se3t data prepare molecules data.raw=folder                  an .sdf and a .csv of your own
  se3t data prepare scanobjectnn data.raw=h5_files.zip         what you downloaded, or its folder
  se3t data prepare scanobjectnn data.raw=h5_files data.variant=pb_t50_rs data.background=true
  se3t data prepare shapes15                                   synthetic scans of 15 shapes

names:
  {data}"""

_PREDICT = """\
usage: se3t predict --checkpoint <run folder or file> [--out predictions.csv] FILE …

Predict the property that a model was trained on, for molecules of files. A run folder, a .ckpt file or a folder that
`se3t export` wrote is all that is needed: no prepared data, no GPU. Writes a table with a row for each molecule: file,
index, identifier, the prediction with its unit, where the geometry is from, and status: ok, a warning, or why there is
no prediction.

examples:
  se3t predict --checkpoint runs/qm9/se3_transformer/0-1a2b3c4d molecules.sdf
  se3t predict --checkpoint homo/ --checkpoint gap/ --out both.csv a.sdf b.xyz c.smi
  se3t predict --checkpoint homo/ --out - molecules.xyz

files, each also with .gz:
  .sdf .mol     3-D coordinates and all hydrogen atoms; bonds as in the file
  .xyz          one or many frames; RDKit finds the bonds, at charge 0 or at charge=… in the comment line
  .smi .txt     a SMILES a line, a name behind it; RDKit makes the geometry, which the table and the screen say

not predicted: an element that no training molecule has, a total charge, no 3-D coordinates, missing hydrogen atoms,
atoms at one place, a record that cannot be read. Predicted with a warning: more atoms than any training molecule, odd
valences, several separate parts.

Of QM9, homo, lumo and gap are in meV; u0, u, h and g are atomisation energies: those of the single atoms are taken off.

flags:
  --checkpoint PATH       the model; several, each with its own --checkpoint, give a column each
  --out FILE              what to write, - for standard output (default: predictions.csv)
  --force                 replace the file
  --batch-size N          molecules at a time, at most (default: 128); many edges make it fewer by themselves
  --device auto | cpu | cuda

Exit status: 0 when a molecule was predicted, 1 when none was (the table is written all the same), 2 for a mistake in
the command."""

_EXPORT = """\
usage: se3t export --checkpoint <run folder> --to <folder>

Write a trained model for others: model.ckpt (the weights that validation chose, as plain tensors), config.yaml and
README.md, a model card: what the model is, data, budget, errors, limits, how to use and cite it. All its numbers are
those of the run record.

examples:
  se3t export --checkpoint runs/qm9/se3_transformer/0-1a2b3c4d --to homo
  se3t predict --checkpoint homo molecules.sdf
  se3t eval checkpoint=homo data.root=data

flags:
  --checkpoint PATH       run folder, or its checkpoints/best.ckpt
  --to FOLDER             what to write
  --force                 replace the folder, if se3t export wrote it"""

_TABLE = """\
usage: se3t table [<run folder or result.json> …] [--markdown] [--target <property>]

Tables 1, 2 and 3, and one for molecules of your own, from the run records: what was measured beside what is
published.
Without paths: all runs under runs/. --target: only runs of this property of molecules.

examples:
  se3t table
  se3t table --target homo
  se3t table runs/nbody/tfn --markdown"""

_FIGURE = """\
usage: se3t figure 4 [<run folder> …] [--on scanobjectnn | shapes15] [--angles 0,30,…] [--so3] [--out figure4]
                     [--data FILE.json]
       se3t figure confusion <run folder> [--out confusion]

Draw a figure of the point clouds (experiment=scanobjectnn) as PNG and PDF.

  4           accuracy against the largest rotation of the test objects about a horizontal axis, of runs trained (a)
              without and (b) with rotation augmentation; one line for each system, the mean over its seeds with a band
              of one standard deviation. Every run is measured with every rotation and the numbers are written beside
              the pictures, as JSON: what that file holds already is kept and drawn too, and not measured again.
              Folders above several runs will do; without any: all runs under runs/. All must be on the same data, and
              runs of one system, augmentation, number of points and budget may differ in nothing but their seeds.
  confusion   which class was taken for which, on the objects of test

examples:
  se3t figure 4 runs/scanobjectnn --so3
  se3t figure 4 --on shapes15 --out shapes                     where runs on both data lie under runs/
  se3t figure 4 runs/scanobjectnn/tfn/0-1a2b3c4d --angles 0,90,180 --out figures/tilt
  se3t figure 4 --data figure4.json --out again                draw once more, without measuring
  se3t figure confusion runs/scanobjectnn/se3_transformer/0-1a2b3c4d

flags:
  --on DATA               pass over runs on other data: scanobjectnn, or shapes15 (synthetic)
  --angles A,B,…          largest rotations in degrees, 0 to 180 (default: 0,30,60,90,120,150,180)
  --so3                   arbitrary rotations, too
  --out NAME              the files without their endings
  --data FILE.json        draw these numbers and measure nothing"""

_DOCTOR = """\
usage: se3t doctor [--root <folder of data>]

What is installed, which devices torch can use, which data are prepared, where Weights & Biases would write.

examples:
  se3t doctor
  se3t doctor --root /scratch/data"""

_CONVERT = """\
usage: se3t convert --from authors | nvidia [--config model.yaml] weights.pt --to file

Write the model of released weights as a file of this library, for `se3t eval` and se3t.compat.load_model. Names and
shapes of the weights decide the architecture; the configuration (constructor arguments of the released class, in YAML)
adds what they do not show and is checked against them.

examples:
  se3t convert --from nvidia --config model.yaml model_qm9.pth --to qm9.pt
  se3t convert --from authors --config model.yaml --couplings Q_J.pt nbody.pt --to nbody-se3t.pt
  se3t convert --from nvidia --config se3.yaml --prefix simulator.str2str.se3. RF.pt --to refinement.pt

flags:
  --from authors | nvidia    equivariant_attention, or se3_transformer
  --to FILE                  what to write
  --config FILE              YAML; authors: n_heads, x_ij (add, cat or null), pooling (avg or max);
                             nvidia: num_heads, pooling (avg, max or null), return_type (a degree or null), e3nn
  --couplings FILE           the Clebsch-Gordan matrices the weights were trained with, a mapping
                             from (J, d_in, d_out), written by torch.save; by default the Q_J in the weights' file.
                             The authors' weights mean nothing without them: their signs differ from machine to machine
  --prefix TEXT              the part of a larger model whose parameters begin like this
  --force                    replace the file"""

_CHECK_GOLDEN = """\
usage: se3t check-golden FILE … [--kernel NAME] [--precision 64 | 32] [--device cpu | cuda]

Compute what a reference file holds once more, and print the largest relative error of the output, of each layer, of the
rotated and translated output, and of all gradients. Exit status 1 when one is above its tolerance, 2 for a file that
cannot be used.

examples:
  se3t check-golden golden/*.pt
  se3t check-golden --kernel edge_frame --precision 64 nbody.pt

A reference file holds config, state_dict, inputs, output, and as it likes layer_outputs, R and output_rotated,
output_translated, probe and grads, Q_J; as tensors and plain values, written by torch.save.

flags:
  --kernel edge_frame | vectorised | reference | all     default: all
  --precision 64 | 32 | all                              default: all
  --device cpu | cuda                                    default: cpu"""

_BENCH = """\
usage: se3t bench <what> [flags]

Time, weigh and compare on this machine. Contenders take turns in one process; nothing is timed that does not compute
what the reference kernel computes. Graphs are synthetic.

what:
  step      one training step (forward and backward, basis included) by workload and contender, and the share of this
            machine's measured peak that it reaches
  layer     one convolution by kernel, over channels, degrees and edges
  scaling   one attention layer over points, neighbours and degrees; the exponent of time in edges
  memory    peak memory of a training step by workload and contender, each in a process of its own
  data      batches per second of the prepared data, on one core
  clouds    one training step of the ScanObjectNN models, farthest point sampling and neighbours included
  sh        spherical harmonics by degree against SciPy, e3nn and sphericart, with the error of each

examples:
  se3t bench step --quick
  se3t bench step --workload nbody qm9 --contenders edge_frame vectorised e3nn --json --plot step.pdf
  se3t bench step --workload qm9 --adapter other.py --threads 2
  se3t bench layer --sweep channels edges
  se3t bench scaling --max-edges 100000
  se3t bench memory --workload qm9_complete --contenders edge_frame-low edge_frame-speed
  se3t bench data --root data
  se3t bench clouds --contenders se3_transformer tfn --neighbors 10
  se3t bench sh --max-degree 6 --plot harmonics.png

flags of all:
  --quick                 small and few: seconds, for a look
  --device cpu | cuda     where (default: cpu)
  --threads N             of torch on the CPU
  --repetitions N         timed turns; --seconds S: for all together, in equal shares; who has used up its own takes no
                          further turn, from the third on
  --json [FILE]           write all figures; without FILE: benchmarks/results/<what>-<device>.json
  --plot [FILE]           draw them, PNG, PDF or SVG by the ending; without FILE: beside the JSON
  --seed N                of everything random

flags of some:
  --workload NAME …       step, memory: nbody, nbody_attentive, qm9, qm9_complete, pointcloud, pointcloud_deg3,
                          pointcloud_k10
  --contenders NAME …     step, layer, scaling, memory: kernels by name; edge_frame and auto with the endings -low and
                          -speed (model.memory); step, memory: also with -separate (keys and values apart, a radial
                          network for each pair of degrees), and e3nn (the same model, its convolutions as e3nn tensor
                          products); step: peer (se3-transformer-pytorch); sh: se3t, sphericart, e3nn, scipy; clouds:
                          se3_transformer, tfn, both also with +z (the height). Ratios refer to the first
  --adapter FILE …        step: Python files with build(workload) -> (step, description), where step() does one
                          training step; FILE:name=value,name=value hands arguments on to build
  --num-graphs N          step, memory, clouds: graphs of a batch
  --neighbors K …         clouds: neighbours of each point (default: 10 40)
  --no-memory             step, scaling, clouds: leave peak memory out
  --sweep NAME …          layer: channels, degrees, edges; scaling: points, neighbors, degree
  --max-edges N           scaling: largest number of edges (default: a million)
  --stores NAME …         data: nbody, qm9, shapes15; --root FOLDER: of the prepared data; what is missing is made for
                          the moment, for qm9 as synthetic molecules
  --max-degree J          sh: largest degree (default: 10); --num-vectors N (default: 100,000)"""

_COMPLETION = """\
usage: se3t --completion bash | zsh

Print the script for tab completion of commands, groups and settings.

examples:
  eval "$(se3t --completion bash)"                             in this shell; put the line into ~/.bashrc to keep it
  eval "$(se3t --completion zsh)"                              the same in ~/.zshrc"""

COMMANDS: dict[str, Command] = {
    "train": Command("se3t.cli.train:run", "train a model and print its error beside the published one", _TRAIN),
    "eval": Command("se3t.cli.evaluate:run", "measure a checkpoint on test", _EVAL),
    "data": Command("se3t.cli.data:run", "prepare the data of an experiment", _DATA),
    "predict": Command("se3t.cli.predict:run", "a property of molecules in SDF, XYZ or SMILES files", _PREDICT),
    "export": Command("se3t.cli.export:run", "a trained model with its model card, for others", _EXPORT),
    "table": Command("se3t.cli.table:run", "print the tables of the paper from the run records", _TABLE),
    "figure": Command("se3t.cli.figure:run", "draw accuracies of rotated objects, or a confusion matrix", _FIGURE),
    "convert": Command("se3t.cli.convert:run", "released weights as a model of this library", _CONVERT),
    "check-golden": Command("se3t.cli.check_golden:run", "compare with values of the released codes", _CHECK_GOLDEN),
    "bench": Command("se3t.cli.bench:run", "time and memory of kernels, models and data on this machine", _BENCH),
    "doctor": Command("se3t.cli.doctor:run", "versions, devices, data, what is missing", _DOCTOR),
    "completion": Command("se3t.cli.completion:run", "tab completion for bash and zsh", _COMPLETION),
}


def main_help() -> str:
    """Text of ``se3t --help``."""
    lines = [f"  {name:<14}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: se3t <command> [key=value …]",
            "",
            "SE(3)-Transformers: train, measure and compare the models of the paper.",
            "",
            "commands:",
            *lines,
            "",
            "examples:",
            "  se3t train experiment=nbody preset=quick",
            "  se3t train experiment=nbody model=tfn -m seed=1,2,3",
            "  se3t eval checkpoint=runs/nbody/se3_transformer/0-1a2b3c4d",
            "  se3t data prepare nbody data.preset=text",
            "  se3t train experiment=qm9 task=homo preset=smoke",
            "  se3t predict --checkpoint runs/qm9/se3_transformer/0-1a2b3c4d molecules.sdf",
            "  se3t doctor",
            "",
            "se3t <command> --help says more; se3t --version; SE3T_DEBUG=1 shows tracebacks.",
        ]
    )


def command_help(name: str) -> str:
    """Text of ``se3t <name> --help``."""
    text = COMMANDS[name].text
    if "{choices}" in text:
        groups = ("experiment", "task", "model", "preset", "data")
        text = text.replace("{choices}", "\n".join(f"  {group}={' | '.join(choices(group))}" for group in groups))
    budgets = "; ".join(f"{name}: {', '.join(choices(f'budget/{name}'))}" for name in choices("experiment"))
    return text.replace("{budgets}", budgets).replace("{data}", ", ".join(choices("data")))


def choices(group: str) -> list[str]:
    """The choices of a configuration group: its YAML files."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")) if group else []

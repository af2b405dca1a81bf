"""Train a byte-level language model, from one command.

    python examples/train_lm.py                                  # on Python's own standard library: minutes on two cores
    python examples/train_lm.py --data book.txt.gz --steps 2000
    python examples/train_lm.py --set attn_kv_heads=2 rotary_pos_emb=False rel_pos_bias=True     # any flag of the library
    python examples/train_lm.py --resume runs/20260131-120000    # go on where Ctrl-C stopped it, to the bit
    torchrun --nproc-per-node 2 examples/train_lm.py --parallel fsdp     # by several processes: ddp, fsdp or tp

A run leaves a checkpoint, which sample.py reads, and its loss curve in a folder of its own. Any number of processes may go on with
it, in any way of working together.
Needs the extra packages of `pip install 'x-transformers[examples]'`.
"""
import argparse
import math
import os
import random
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from lm import Problem, checkpoint, workers
from lm.curve import draw
from lm.data import Corpus, batch_at, counted_seed, fixed_windows, read_corpus
from lm.model import DEFAULTS, build, flags_of, model_config, on_device, room
from lm.speed import Meter
from lm.terminal import at_least, flag_pair, interruption, write
from lm.workers import Workers
from torch import Tensor, nn
from tqdm import tqdm

from x_transformers.errors import CheckpointError, DecodeError, FlagError, InputError

KEPT = ('seq_len', 'batch', 'accumulate', 'lr', 'warmup', 'decay', 'clip', 'seed', 'bf16')      # a resumed run may not change these


@dataclass
class Run:
    """All that training reads and changes."""
    settings: argparse.Namespace
    folder: Path
    corpus: Corpus
    model: nn.Module
    optimizer: torch.optim.Optimizer
    workers: Workers
    step: int = 0
    losses: list[float] = field(default_factory=list)                       # nats, of every step
    held_out: list[tuple[int, float]] = field(default_factory=list)         # (step, bits per byte)
    meter: Meter | None = None                                              # of the speed of steps


def make_parser() -> argparse.ArgumentParser:
    defaults = ' '.join(f'{name}={value}' for name, value in DEFAULTS.items())
    parser = argparse.ArgumentParser('train_lm.py', usage='train_lm.py [--NAME VALUE ...], --help lists them all', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--data', metavar='FILE', help='text to learn, plain or .gz (default: the Python files of the standard library)')
    add('--set', metavar='NAME=VALUE', nargs='+', action='extend', type=flag_pair, default=[], help=f'flags of the model, over {defaults}')
    add('--seq-len', type=at_least(1), default=256, help='bytes in a sequence')
    add('--batch', type=at_least(1), default=8, help='sequences in a batch')
    add('--accumulate', type=at_least(1), default=1, help='batches in a step')
    add('--steps', type=at_least(1), default=400)
    add('--lr', type=at_least(0, float), default=3e-3, help='learning rate after warmup; then it falls as a cosine, to 0')
    add('--warmup', type=at_least(0), default=40, help='steps of linear warmup')
    add('--decay', type=at_least(0, float), default=0.1, help='weight decay of matrices')
    add('--clip', type=at_least(0, float), default=1., help='largest norm of a gradient')
    add('--seed', type=at_least(0), default=0)
    add('--bf16', action=argparse.BooleanOptionalAction, default=False, help='compute in bfloat16 where autocast does')
    add('--compile', action=argparse.BooleanOptionalAction, default=False, help='torch.compile the training step')
    add('--parallel', choices=('ddp', 'fsdp', 'tp'), help='how the processes that torchrun started work together; --batch is that of all')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--peak-flops', type=at_least(1, float), metavar='N',
        help='operations per second that a device can do, of which MFU is the share (default: those of a large matrix product)')
    add('--eval-every', type=at_least(1), default=100, metavar='STEPS')
    add('--eval-windows', type=at_least(1), default=512, help='sequences held out; a quarter of them while training')
    add('--save-every', type=at_least(1), default=100, metavar='STEPS')
    add('--out', metavar='DIR', help='where to save (default: runs/<time>)')
    add('--resume', metavar='DIR', help='the folder of a run to go on with')
    add('--prompt', default='def ', help='what the text written at the end begins with')
    add('--sample', type=at_least(0), default=400, help='bytes to write at the end')
    add('--temperature', type=at_least(0, float), default=0.8)
    return parser


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The settings; a resumed run has those it was started with, where the command line is silent."""
    settings = make_parser().parse_args(argv)
    if not settings.resume:
        return settings
    training = checkpoint.load_training(checkpoint.find(Path(settings.resume)))
    settings = make_parser().parse_args(argv, argparse.Namespace(**training['settings']))
    for name in KEPT:
        if getattr(settings, name) != training['settings'][name]:
            raise Problem(f'--{name.replace("_", "-")} {getattr(settings, name)} cannot be combined with --resume: the run began with '
                          f'{training["settings"][name]}. Leave it out, or begin a new run.')
    if settings.set or settings.out:
        raise Problem(f'{"--set" if settings.set else "--out"} cannot be combined with --resume: '
                      'a run goes on with its flags, in its folder. Leave it out, or begin a new run.')
    return settings


def prepare(settings: argparse.Namespace) -> Run:
    """A run at its first step, or at that of the checkpoint. Whatever is wrong with the input is found here."""
    together = workers.start(settings)
    corpus = read_corpus(settings.data, settings.seq_len)
    torch.manual_seed(settings.seed)
    if settings.resume:
        saved = checkpoint.find(Path(settings.resume))
        model = checkpoint.load(saved)
    else:
        model = build(model_config(dict(settings.set), settings.seq_len))
    room(model, os.fsencode(settings.prompt))
    model = on_device(model, settings.device)
    meter = Meter.of(model, settings)
    model = together.parallel(model)
    folder = saved.parent if settings.resume else new_folder(settings.out) if together.first else Path()
    run = Run(settings, folder, corpus, model, make_optimizer(model, settings.decay), together, meter=meter)
    if settings.resume:
        restore(run, saved)
    return run


def new_folder(out: str | None) -> Path:
    folder = Path(out or time.strftime('runs/%Y%m%d-%H%M%S'))
    if checkpoint.latest(folder):
        raise Problem(f'--out {folder} holds a run already. Go on with it by --resume {shlex.quote(str(folder))}, or name another folder.')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'latest.tmp').touch()             # now, rather than at the first checkpoint
    except OSError as error:
        raise Problem(f'--out {folder} cannot be written ({error.strerror}). Name another folder.') from error
    return folder


def make_optimizer(model: nn.Module, decay: float) -> torch.optim.Optimizer:
    """AdamW; gains and biases do not decay."""
    parameters = list(model.parameters())
    groups = [dict(params=[p for p in parameters if p.ndim > 1], weight_decay=decay),
              dict(params=[p for p in parameters if p.ndim <= 1], weight_decay=0.)]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def save(run: Run) -> None:
    settings = {name: value for name, value in vars(run.settings).items() if name not in ('set', 'out', 'resume', 'parallel')}
    training = dict(step=run.step, settings=settings, corpus=run.corpus.fingerprint, losses=run.losses, held_out=run.held_out)
    checkpoint.save(run.folder, run.step, run.model, training, run.optimizer, run.workers)
    if not run.workers.first:
        return
    checkpoint.write_atomically(run.folder / 'loss.png', draw(run.losses, run.held_out, run.corpus.about))


def restore(run: Run, saved: Path) -> None:
    training = checkpoint.load_training(saved)
    if training['corpus'] != run.corpus.fingerprint:
        raise Problem(f'--resume {run.settings.resume} learned another text than {run.corpus.about}. Name the same one with --data.')
    if training['step'] >= run.settings.steps:
        raise Problem(f'--resume {run.settings.resume} is at step {training["step"]}, and --steps is {run.settings.steps}. '
                      'To go on, give a larger --steps.')
    checkpoint.load_optimizer(saved, run.optimizer, run.workers)
    run.step, run.losses = training['step'], training['losses']
    run.held_out = [(step, bits) for step, bits in training['held_out']]


def train(run: Run) -> bool:
    """Run the remaining steps; False when Ctrl-C came first. Either way the last step is saved."""
    s = run.settings
    windows = fixed_windows(run.corpus.held_out, s.eval_windows, s.seq_len + 1)
    loss_of = torch.compile(run.model) if s.compile else run.model
    with progress_bar(run) as bar, interruption(patient=run.workers.count > 1) as interrupted:
        while run.step < s.steps and not run.workers.mean(interrupted.is_set(), s.device):
            with run.meter:
                run.losses.append(take_step(run, loss_of))
            run.step += 1
            show(bar, run)
            if run.step % s.eval_every == 0:
                run.held_out.append((run.step, bits_per_byte(run, windows[::4])))
                say(run, f'step {run.step:5}   loss {recent(run.losses):.3f}   held out {run.held_out[-1][1]:.3f} bits per byte')
            if run.step % s.save_every == 0:
                save(run)
        save(run)
    if run.step < s.steps:
        return False
    say(run, f'speed     {run.meter}')
    say(run, f'held out  {bits_per_byte(run, windows):.3f} bits per byte, on {len(windows)} windows of {s.seq_len} bytes')
    return True


def say(run: Run, line: str) -> None:
    if run.workers.first:
        tqdm.write(line)


def take_step(run: Run, loss_of) -> float:
    """One update from `accumulate` batches; the mean loss in nats. Its random numbers depend on the seed and the step alone."""
    s = run.settings
    for group in run.optimizer.param_groups:
        group['lr'] = learning_rate(run.step, s)
    total = 0.
    for index in range(run.step * s.accumulate, (run.step + 1) * s.accumulate):
        seed = counted_seed('noise', s.seed, index, *filter(None, [run.workers.rank]))
        torch.manual_seed(seed)
        random.seed(seed)
        batch = batch_at(run.corpus.train, index, s.seed, s.batch, s.seq_len + 1)
        with precision(s):
            loss = loss_of(run.workers.rows(batch).to(s.device)) / s.accumulate
        loss.backward()
        total += loss.item()
    total = run.workers.mean(total, s.device)
    expect_finite(total, run)
    nn.utils.clip_grad_norm_(run.model.parameters(), s.clip)
    run.optimizer.step()
    run.optimizer.zero_grad()
    return total


def expect_finite(loss: float, run: Run) -> None:
    if not math.isfinite(loss):
        raise Problem(f'the loss became {loss} at step {run.step} with --lr {run.settings.lr}. '
                      'Begin anew with a lower --lr or a longer --warmup.')


def learning_rate(step: int, s: argparse.Namespace) -> float:
    """Linear warmup, then half a cosine down to zero."""
    warm = min(1., (step + 1) / (s.warmup + 1))
    return s.lr * warm * (1 + math.cos(math.pi * step / s.steps)) / 2


def precision(s: argparse.Namespace):
    return torch.autocast(torch.device(s.device).type, torch.bfloat16, enabled=s.bf16)


@torch.no_grad()
def bits_per_byte(run: Run, windows: Tensor) -> float:
    """Mean cross-entropy of each byte given those before it in its window."""
    run.model.eval()
    nats = 0.
    with run.workers.within(run.model) as model:
        for part in windows.to(run.settings.device).split(run.settings.batch):
            with precision(run.settings):
                logits = model.net(part[:, :-1])
            nats += F.cross_entropy(logits.float().transpose(1, 2), part[:, 1:], reduction='sum').item()
    run.model.train()
    expect_finite(nats, run)
    return nats / windows[:, 1:].numel() / math.log(2)


def recent(losses: list[float], span: int = 20) -> float:
    return sum(losses[-span:]) / len(losses[-span:])


def progress_bar(run: Run) -> tqdm:
    """Counts bytes, so that its rate is tokens per second."""
    s = run.settings
    per_step = s.batch * s.accumulate * s.seq_len
    return tqdm(total=s.steps * per_step, initial=run.step * per_step, unit='tok', unit_scale=True, dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 15, disable=not run.workers.first)


def show(bar: tqdm, run: Run) -> None:
    bar.set_description(f'step {run.step}/{run.settings.steps}', refresh=False)
    bar.set_postfix(loss=f'{recent(run.losses):.3f}', refresh=False)
    bar.update(run.settings.batch * run.settings.accumulate * run.settings.seq_len)


def announce(run: Run) -> None:
    c, s = run.corpus, run.settings
    flags = ' '.join(f'{name}={value}' for name, value in flags_of(run.workers.plain(run.model)).items())
    print(f'text      {c.about}: {len(c.train) / 1e6:.1f} MB to learn, {len(c.held_out) / 1e6:.1f} MB held out')
    print(f'model     {sum(p.numel() for p in run.model.parameters()):,} parameters: {flags}')
    print(f'run       {run.folder}: step {run.step} to {s.steps}, of {s.batch * s.accumulate} x {s.seq_len} bytes, on {s.device}'
          + (f', by {run.workers.count} processes ({s.parallel})' if s.parallel else ''))


def compose(run: Run) -> None:
    """Let the model write, as far as its flags allow; one that was trained by several processes is read back by the first."""
    prompt = os.fsencode(run.settings.prompt)
    model = run.model if run.workers.strategy is None else checkpoint.load(checkpoint.find(run.folder))
    length = int(min(run.settings.sample, room(model, prompt)))
    if not length:
        return
    print()
    try:
        write(model, prompt, length, temperature=run.settings.temperature)
    except DecodeError as error:
        print(f'(it cannot write: {error})')


def main(argv: list[str] | None = None) -> int:
    here = os.path.relpath(__file__)
    try:
        run = prepare(parse(argv))
        if run.workers.first:
            announce(run)
        folder = shlex.quote(str(run.folder))
        complete = train(run)
        if not run.workers.first:
            return 0
        if not complete:
            print(f'Stopped at step {run.step} of {run.settings.steps}, and saved. Go on with: python {here} --resume {folder}')
            return 0
        compose(run)
        print(f'\nSaved in {folder}, with the curve in loss.png. More text: python {os.path.dirname(here)}/sample.py {folder}')
    except (Problem, CheckpointError, FlagError, InputError, DecodeError) as error:
        if workers.is_first():                                  # the others say the same
            print(f'train_lm.py: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('Stopped.', file=sys.stderr)
        return 130
    finally:
        workers.stop()
    return 0


if __name__ == '__main__':
    sys.exit(main())

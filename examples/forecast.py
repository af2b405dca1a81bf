"""Learn the carbon dioxide over Mauna Loa month by month, and measure how far off forecasts of the year ahead are.

    python examples/forecast.py                             # half a minute
    python examples/forecast.py --horizon 24 --out runs/two-years.png

The series comes with statsmodels: 1958 to 2001, in parts per million. Its last ten years are held out. The model reads changes
from month to month, and a forecast is rolled out on its own predictions, from every month of the years held out.
"""
import argparse
import sys
from pathlib import Path

import torch
from lm.terminal import at_least, between
from torch import Tensor

from x_transformers import ContinuousAutoregressiveWrapper, ContinuousTransformerWrapper, Decoder

YEAR = 12                                                   # months
HELD_OUT = 10 * YEAR


def carbon_dioxide() -> tuple[Tensor, Tensor]:
    """Parts per million (n,) in each month, and the time of each (n,) in years."""
    from statsmodels.datasets import co2
    monthly = co2.load().data['co2'].resample('MS').mean().interpolate()
    years = torch.tensor(monthly.index.year + (monthly.index.month - 1) / YEAR)
    return torch.tensor(monthly.to_numpy(), dtype=torch.float32), years


def windows(series: Tensor, starts: Tensor, length: int) -> Tensor:
    """Pieces of the series (b, length)."""
    return series[starts[:, None] + torch.arange(length)]


def build(context: int) -> ContinuousAutoregressiveWrapper:
    # positions are added to the tokens: of one number alone, a norm leaves only the sign
    stack = Decoder(dim=32, depth=2, heads=4, attn_dim_head=8, use_rmsnorm=True, attn_dropout=0.1, ff_dropout=0.1)
    net = ContinuousTransformerWrapper(dim_in=1, dim_out=1, max_seq_len=context, attn_layers=stack)
    return ContinuousAutoregressiveWrapper(net)


def train(model: ContinuousAutoregressiveWrapper, changes: Tensor, steps: int, batch: int, noise: float = 0.2) -> list[float]:
    """The loss of every step. Changes are read from the mean of their piece, since growth was not always the same, and with noise,
    since a forecast reads its own errors."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    losses, context = [], model.max_seq_len
    for step in range(steps):
        pieces = windows(changes, torch.randint(0, len(changes) - context, (batch,)), context + 1)
        pieces = pieces - pieces[:, :-1].mean(dim=1, keepdim=True)
        loss = model((pieces + noise * torch.randn_like(pieces))[..., None])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 5) == 0:
            print(f'step {step + 1}: loss {loss:.3f}')
    return losses


def forecast(model: ContinuousAutoregressiveWrapper, series: Tensor, origins: Tensor, horizon: int) -> Tensor:
    """The months from each origin on (b, horizon), of which the model sees none."""
    past = windows(series.diff(prepend=series[:1]), origins - model.max_seq_len, model.max_seq_len)
    mean = past.mean(dim=1, keepdim=True)
    changes = model.generate((past - mean)[..., None], horizon)[..., 0] + mean
    return series[origins - 1, None] + changes.cumsum(dim=-1)


def naive(series: Tensor, origins: Tensor, horizon: int) -> dict[str, Tensor]:
    """Forecasts (b, horizon) without a model."""
    last = series[origins - 1, None].expand(-1, horizon)
    season = windows(series, origins - YEAR, YEAR)[:, torch.arange(horizon) % YEAR]
    years = torch.arange(horizon) // YEAR + 1
    growth = (series[origins - 1] - series[origins - 1 - YEAR])[:, None] * years
    return {'the last month': last, 'the same month of the year before': season, 'and the growth since': season + growth}


def draw(years: Tensor, series: Tensor, origins: Tensor, made: Tensor, path: Path) -> None:
    """The years held out, and forecasts that follow one another."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 4), layout='constrained')
    axes = figure.subplots()
    axes.plot(years[-HELD_OUT - 2 * YEAR:], series[-HELD_OUT - 2 * YEAR:], color='0.6', label='measured')
    horizon = made.shape[1]
    for start, values in zip(origins[::horizon].tolist(), made[::horizon]):
        axes.plot(years[start:start + horizon], values, color='tab:red', label='forecast' if start == origins[0] else None)
        axes.axvline(years[start], color='0.85', linewidth=0.8, zorder=0)
    axes.set(xlabel='year', ylabel='carbon dioxide, parts per million', title=f'{horizon} months ahead, from what is left of each line')
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('forecast.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=1000)
    parser.add_argument('--batch', type=at_least(1), default=32)
    parser.add_argument('--context', type=between(YEAR, 20 * YEAR), default=4 * YEAR, help='months that a forecast is made from')
    parser.add_argument('--horizon', type=between(1, HELD_OUT), default=YEAR, help='months that are forecast')
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument('--out', type=Path, metavar='PNG', default=Path('runs/forecast.png'), help='where to draw forecasts')
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    series, years = carbon_dioxide()
    known = len(series) - HELD_OUT
    model = build(args.context)
    train(model, series[:known].diff(), args.steps, args.batch)
    origins = torch.arange(known, len(series) - args.horizon + 1)
    made, right = forecast(model, series, origins, args.horizon), windows(series, origins, args.horizon)
    print(f'{len(origins)} forecasts of {args.horizon} months, mean absolute error in parts per million:')
    for name, values in {'the model': made, **naive(series, origins, args.horizon)}.items():
        print(f'{(values - right).abs().mean():6.3f}  {name}')
    draw(years, series, origins, made, args.out)
    print(f'drawn to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

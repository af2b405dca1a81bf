"""What was counted: a row for each part of a model, as data and as a table to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One part of a model."""

    name: str  # its path, as in `named_modules`; empty: what stands between the parts
    kind: str  # what it is
    shape: str  # of an attention its heads, of a feed-forward its widths, of others their largest weight
    parameters: int  # those that a part above holds too are counted there
    runs: int  # how often a forward pass calls it
    flops: int  # of a forward pass
    state: int = 0  # bytes that a decoded token adds to what it remembers, in one row of a batch
    most_state: int | None = None  # bytes that this grows to at most; None: as long as the sequence does


@dataclass(frozen=True)
class Summary:
    """What a model holds, computes and remembers. `print` it for a table."""

    model: str
    tokens: int  # in the forward pass that was counted, of one row
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Numbers in the parameters; what is shared counts once."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Of a forward pass over `tokens` tokens."""
        return sum(row.flops for row in self.rows)

    @property
    def flops_per_token(self) -> float:
        return self.flops / self.tokens

    @property
    def state(self) -> int:
        """Bytes that a decoded token adds to what one row of a batch remembers, as long as no window is full."""
        return sum(row.state for row in self.rows)

    def state_of(self, tokens: int) -> int:
        """Bytes that so many tokens of one row take in the state."""
        grown = [(row.state * tokens, row.most_state) for row in self.rows]
        return sum(state if most is None else min(state, most) for state, most in grown)

    def __str__(self) -> str:
        body = [self._cells(row) for row in self.rows]
        total = ('total', '', f'{self.parameters:,}', f'{self.flops_per_token:,.0f}', f'{self.state:,}' if self.state else '-')
        head = ('', 'shape', 'parameters', 'FLOPs / token', 'state bytes / token')
        widths = [max(map(len, column)) for column in zip(head, *body, total)]
        line = lambda cells: '  '.join((c.ljust if i < 2 else c.rjust)(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip()
        rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
        title = f'{self.model}, {self.tokens:,} token{"s" if self.tokens > 1 else ""}'
        return '\n'.join((title, line(head), rule, *map(line, body), rule, line(total)))

    def _cells(self, row: Row) -> tuple[str, ...]:
        name = f'{row.name}  {row.kind}'.strip() + (f', runs {row.runs} times' if row.runs > 1 else '')
        bound = f' to {row.most_state:,}' if row.most_state is not None else ''
        flops = row.flops / self.tokens
        return name, row.shape, f'{row.parameters:,}', f'{flops:,.0f}', f'{row.state:,}{bound}' if row.state else '-'

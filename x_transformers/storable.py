"""Saving and loading, as methods of every class that is made of flags. What does the work is imported when it is first called."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, TypeVar

Folder = str | os.PathLike[str]
Model = TypeVar('Model', bound='Storable')


class Storable:
    """A module that goes into a folder and comes back: `config.json` and `model.safetensors`.

    >>> import tempfile
    >>> from x_transformers import Encoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Encoder(dim=32, depth=1).save(folder)
    ...     encoder = Encoder.load(folder, dtype=torch.bfloat16)
    >>> next(encoder.parameters()).dtype
    torch.bfloat16
    """

    def save(self, folder: Folder, *, leave_out: Collection[str] = ()) -> None:
        """Write flags and numbers into `folder`, in place of what is there, in one step wherever the process may be killed.

        leave_out: names of flags that no file can hold, functions and modules of your own; give them to `load` again.
        """
        from x_transformers.files.saving import save

        save(self, folder, leave_out=leave_out)  # type: ignore[arg-type]

    @classmethod
    def load(cls: type[Model], folder: Folder, **wishes: Any) -> Model:
        """The model that `save(folder)` wrote; `wishes` are those of `x_transformers.load`."""
        from x_transformers.files.loading import load

        return load(folder, expected=cls, **wishes)

    def load_weights(self, path: Folder, *, strict: bool = True, verify: bool = True) -> Any:
        """Take the numbers of a file of safetensors, or of the folder of a model; returns what of it did not fit.

        Everything is checked before the first number is changed. strict: it must fit altogether.
        """
        from x_transformers.files.loading import load_weights

        return load_weights(self, path, strict=strict, verify=verify)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ with the names of huggingface_hub

    def save_pretrained(self, save_directory: Folder, *, repo_id: str | None = None, push_to_hub: bool = False, **wishes: Any) -> Any:
        """`save`, and with `push_to_hub=True` also `push_to_hub`, to `repo_id` or a repository with the name of the folder."""
        from x_transformers.files.hub import save_pretrained

        return save_pretrained(self, save_directory, repo_id, push_to_hub, wishes)

    @classmethod
    def from_pretrained(cls: type[Model], pretrained_model_name_or_path: Folder, **wishes: Any) -> Model:
        """`load` from a folder or a repository of the Hub, in evaluation mode.

        revision, cache_dir, token, force_download, local_files_only: as in huggingface_hub (`pip install 'x-transformers[hub]'`).
        """
        from x_transformers.files.hub import from_pretrained

        return from_pretrained(cls, pretrained_model_name_or_path, wishes)

    def push_to_hub(self, repo_id: str, **wishes: Any) -> Any:
        """Save into a repository of the Hub, which is made where there is none (`pip install 'x-transformers[hub]'`).

        private, token, branch, create_pr, commit_message: as in huggingface_hub. leave_out: as in `save`.
        """
        from x_transformers.files.hub import push_to_hub

        return push_to_hub(self, repo_id, wishes)


def load(folder: Folder, **wishes: Any) -> Any:
    """The model that `model.save(folder)` wrote, of whatever class it is, in training mode. Nothing in the files is executed.

    strict: the file must hold every tensor of the model, and no other (True); without it what fits is taken, and a warning lists
    the rest. dtype: of all numbers (by default each is as it was saved). device: where they go. verify: compare the digest of
    everything that was saved (True). classes: of your own, that the file may name. Other keywords are flags: those that were
    left out when saving, and any that shall differ, such as `attn_flash=False`.

    Raises `CheckpointError`, which names the file and what is wrong with it.
    """
    from x_transformers.files.loading import load

    return load(folder, **wishes)

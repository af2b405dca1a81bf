"""The Hub, by the names and arguments of huggingface_hub's mixin. Needs the extra: pip install 'x-transformers[hub]'."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from x_transformers.errors import CheckpointError
from x_transformers.files.contents import CONFIG, WEIGHTS
from x_transformers.files.loading import load
from x_transformers.files.saving import save

DOWNLOAD = ('revision', 'cache_dir', 'token', 'force_download', 'local_files_only')  # of snapshot_download
UPLOAD = ('commit_message', 'commit_description', 'create_pr')  # of upload_folder


def hub() -> Any:
    """The package, or what to do where there is none."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            "the Hub needs the package huggingface_hub, which is not installed: pip install 'x-transformers[hub]'. A folder on this "
            'machine needs nothing: model.save(folder), load(folder).'
        ) from error
    return huggingface_hub


def save_pretrained(model: Any, folder: str | os.PathLike[str], repo_id: str | None, push: bool, wishes: dict[str, Any]) -> Any:
    save(model, folder, leave_out=wishes.pop('leave_out', ()))
    if push:
        return upload(folder, repo_id or Path(folder).resolve().name, wishes)
    if wishes:
        raise CheckpointError(f'save_pretrained takes no {sorted(wishes)[0]} without push_to_hub=True; leave it out')
    return None


def push_to_hub(model: Any, repo_id: str, wishes: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder, leave_out=wishes.pop('leave_out', ()))
        return upload(folder, repo_id, wishes)


def upload(folder: str | os.PathLike[str], repo_id: str, wishes: dict[str, Any]) -> Any:
    """The two files of a model, and nothing else that lies there."""
    api = hub().HfApi(token=wishes.pop('token', None))
    private, branch = wishes.pop('private', None), wishes.pop('branch', None)
    unknown = sorted(wishes.keys() - {*UPLOAD})
    if unknown:
        raise CheckpointError(f'push_to_hub takes no {unknown[0]}; expected private, token, branch, leave_out, {", ".join(UPLOAD)}')
    repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
    if branch is not None:
        api.create_branch(repo_id=repo_id, branch=branch, exist_ok=True)
    wishes.setdefault('commit_message', 'Save a model of x_transformers')
    return api.upload_folder(repo_id=repo_id, folder_path=folder, revision=branch, allow_patterns=[CONFIG, WEIGHTS], **wishes)


def from_pretrained(cls: type, name: str | os.PathLike[str], wishes: dict[str, Any]) -> Any:
    download = {key: wishes.pop(key) for key in DOWNLOAD if key in wishes}
    folder = name if os.path.isdir(name) else fetched(str(name), download)
    return load(folder, expected=cls, **wishes).eval()


def fetched(repo_id: str, download: dict[str, Any]) -> str:
    """Where the files of a repository lie on this machine."""
    package = hub()
    try:
        return str(package.snapshot_download(repo_id, allow_patterns=[CONFIG, WEIGHTS], **download))
    except (OSError, ValueError, package.errors.HfHubHTTPError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(
            f'{repo_id!r} is no folder here, and cannot be had from the Hub ({reason}). Mend the name, or save there first.'
        ) from error

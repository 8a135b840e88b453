"""Sending a run to a model hub of Hugging Face's kind: the card as ``README.md``, and the files that load the agent.

It goes where ``huggingface_hub`` sends it (``HF_ENDPOINT``, else huggingface.co), with the token that this finds. A
repository that is not there yet is made, a private one. Everything goes in one commit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.run_folder import RunFolder

_WAY_OUT = "set HF_TOKEN, or log in with hf auth login"


class HubError(OSError):
    """A hub cannot be reached, or refuses what was sent; the message says which."""


class ModelHub:
    """A repository on a hub, to which a run can be sent; nothing is sent before :meth:`send`."""

    def __init__(self, repository: str) -> None:
        """Find the token.

        Raises:
            ConfigError: without ``huggingface_hub`` or a token, or if there can be no repository of that name.
        """
        try:
            import huggingface_hub.utils
        except ImportError as error:
            raise ConfigError(f"--push needs huggingface_hub: pip install 'palaestra[hub]' ({error})") from None
        tools: Any = huggingface_hub.utils
        try:
            tools.validate_repo_id(repository)
        except tools.HFValidationError as error:
            raise ConfigError(f"--push {repository}: {error}") from None
        tools.disable_progress_bars()
        self.repository, token = repository, huggingface_hub.get_token()
        if token is None:
            raise ConfigError(f"--push needs a token of the hub: {_WAY_OUT}")
        self._api = huggingface_hub.HfApi(token=token)

    def send(self, folder: RunFolder, card: str) -> tuple[str, list[str]]:
        """Send a card and the files of its run.

        Returns:
            The address of the commit, and the names of the files that were sent.

        Raises:
            HubError: if the hub cannot be reached, or refuses them.
        """
        from huggingface_hub import CommitOperationAdd

        files: dict[str, bytes | Path] = {folder.card_file.name: card.encode()}
        files |= {path.name: path for path in files_to_send(folder)}
        parts = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        try:
            made = self._api.create_repo(self.repository, private=True, exist_ok=True)
            sent = self._api.create_commit(made.repo_id, parts, commit_message="Model of palaestra")
        except Exception as error:
            if not (isinstance(error, OSError | ValueError) or _is_of_the_client(error)):
                raise
            raise HubError(f"--push {self.repository} to {self._api.endpoint}: {_reason(error)}") from error
        return sent.commit_url, list(files)


def files_to_send(folder: RunFolder) -> list[Path]:
    """The files beside the card that are sent: those that load and evaluate the agent, and the numbers of its card."""
    files = (folder.model_file, folder.config_file, folder.environment_file, folder.facts_file)
    tests = folder.evaluation_file, folder.stress_file, folder.positions_file
    return [path for path in (*files, *tests) if path.is_file()]


def _is_of_the_client(error: Exception) -> bool:
    """True for errors of ``huggingface_hub`` and of the HTTP client below it, which differs between its versions."""
    clients = ("huggingface_hub", "httpx", "httpx2", "requests")
    return any(kind.__module__.partition(".")[0] in clients for kind in type(error).__mro__)


def _reason(error: Exception) -> str:
    """The hub's own words in one line, where it has sent any."""
    response: Any = getattr(error, "response", None)
    if response is None:
        return " ".join(str(error).split()) or type(error).__name__
    said = getattr(error, "server_message", None) or " ".join(str(error).split())
    way_out = f"; {_WAY_OUT}" if response.status_code in (401, 403) else ""
    return f"the hub answered {response.status_code}: {said}{way_out}"

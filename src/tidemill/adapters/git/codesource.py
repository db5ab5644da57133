"""Port `codesource` for a Git repository at a ref: fetched into a bare clone, each commit laid out in its own folder.

Who reads files of one commit goes on doing so when the next one comes: its folder appears whole, beside the other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tidemill.model.errors import SettingsError, Unreachable

#: Seconds that a fetch may take.
_PATIENCE = 120
#: Commits that stay laid out: the present one, and the one before it, of which files may still be read.
_KEPT = 2
#: Nobody is there to be asked for a password, and no helper program of the repository's choice is run.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "LC_ALL": "C"}
_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "core.fsmonitor=false")


@dataclass(frozen=True, slots=True)
class GitSource:
    """Code in a repository.

    Args:
        url: of the repository, or a path.
        ref: a branch, tag or commit.
        path: the folder in it.
        folder: where the clone and the commits are kept.
        every: how often to ask for changes.
    """

    url: str
    ref: str
    path: str
    folder: Path
    every: timedelta | None = timedelta(seconds=60)

    def sync(self) -> Path:
        """Fetch, and lay out the commit that the ref is at."""
        if self.url.startswith("-") or self.ref.startswith("-"):
            raise SettingsError(f'"{self.url}" at "{self.ref}" is no repository.', hint='url = "https://..."')
        self._fetch()
        commit = self._commit()
        laid_out = self.folder / "commits" / commit
        if not laid_out.is_dir():
            self._lay_out(commit, laid_out)
        os.utime(laid_out)
        self._tidy(laid_out)
        root = laid_out / self.path
        if not root.is_dir() or not root.resolve().is_relative_to(laid_out.resolve()):
            raise SettingsError(f'There is no folder "{self.path}" in {_shown(self.url)} at {self.ref}.')
        return root

    def _fetch(self) -> None:
        if not (self._repository / "HEAD").is_file():
            self._repository.mkdir(parents=True, exist_ok=True)
            self._git("init", "--quiet", "--bare", ".")
        heads = ("+HEAD:refs/source/HEAD", "+refs/heads/*:refs/source/heads/*", "+refs/tags/*:refs/source/tags/*")
        done = self._git("fetch", "--quiet", "--prune", "--no-tags", "--", self.url, *heads, check=False)
        if done.returncode:
            said = _shown(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "git fetch failed")
            raise Unreachable(
                f"The repository of the pipelines cannot be fetched: {said}",
                where=_shown(self.url),
                hint=f"git ls-remote {_shown(self.url)}",
            )

    def _commit(self) -> str:
        """The commit that the ref names there: a branch, a tag, or a commit itself."""
        names = [f"refs/source/heads/{self.ref}", f"refs/source/tags/{self.ref}"]
        names = ["refs/source/HEAD"] if self.ref == "HEAD" else names
        names += [self.ref] if re.fullmatch(r"[0-9a-f]{7,64}", self.ref) else []
        for name in names:
            done = self._git("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}", check=False)
            if not done.returncode:
                return done.stdout.strip()
        raise SettingsError(
            f'There is no branch, tag or commit "{self.ref}" in {_shown(self.url)}.',
            hint=f"git ls-remote {_shown(self.url)}",
        )

    def _lay_out(self, commit: str, folder: Path) -> None:
        making = folder.with_name(f".{uuid.uuid4().hex}")
        making.mkdir(parents=True)
        try:
            index = {"GIT_INDEX_FILE": str(making) + ".index"}
            self._git(*_SAFE, f"--work-tree={making}", "checkout", "--quiet", "--force", commit, "--", ".", env=index)
            with suppress(OSError):  # another process was faster
                making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
            Path(str(making) + ".index").unlink(missing_ok=True)

    def _tidy(self, present: Path) -> None:
        """Delete commits that nobody reads any more; what a run needs of them is kept as a version."""
        others = [one for one in present.parent.iterdir() if one != present and not one.name.startswith(".")]
        others.sort(key=lambda one: one.stat().st_mtime, reverse=True)
        for old in others[_KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)

    @property
    def _repository(self) -> Path:
        return self.folder / "repository"

    def _git(
        self, *arguments: str, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        # A hook that starts us would have pointed git at its own repository.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment = {**inherited, **_ENVIRONMENT, "GIT_DIR": str(self._repository), **(env or {})}
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self._repository, env=environment, capture_output=True, text=True,
                errors="replace", stdin=subprocess.DEVNULL, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise SettingsError('The program "git" is not installed.', hint="install git, or use a folder") from None
        except subprocess.TimeoutExpired:
            raise Unreachable(
                f"The repository of the pipelines does not answer within {_PATIENCE} s.", where=_shown(self.url)
            ) from None
        if check and done.returncode:
            raise Unreachable(f"git {arguments[0]} failed: {_shown(done.stderr.strip())}", where=_shown(self.url))
        return done


def _shown(text: str) -> str:
    """Without the password that a URL may hold."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)

"""`fusion plugins` and `fusion plugins check NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusion.cli import listing
from fusion.cli.groups import Group

if TYPE_CHECKING:
    from fusion.contracts.findings import Finding

app = typer.Typer(cls=Group, help="List the plugins, or check one.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def plugins(context: typer.Context) -> None:
    """List the plugins, with the reason for each that could not be loaded; `check NAME` checks one."""
    if context.invoked_subcommand is None:
        listing.plugins_()


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="PACKAGE|METHOD", show_default=False)],
) -> int:
    """Check a plugin, or a method, against the contract of its kind; exit status 1 if a check fails."""
    from fusion.contracts import packages
    from fusion.contracts.findings import FAILS

    chosen = packages.choose(name)
    all_findings: list[Finding] = []
    for heading, found in packages.checked(chosen):
        print(f"\n{heading}" if all_findings else heading, flush=True)
        for finding in found:
            all_findings.append(finding)
            _print(finding)
    print(f"\n{packages.summary(all_findings)}")
    return int(any(finding.verdict == FAILS for finding in all_findings))


def _print(finding: Finding) -> None:
    from fusion.console.streams import visible

    text = " ".join(visible(line) for line in finding.text.splitlines())
    print(f"  {finding.verdict:<8}{finding.title:<32}{text}".rstrip(), flush=True)

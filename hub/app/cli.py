"""The command line. Each command imports what it needs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="vaguemestre",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The interoperability hub that French health software plugs into.\n\n"
    "Exit codes: 0 ok, 1 failed, 2 wrong use or configuration.\n\n"
    "Example: vaguemestre check --config config/embedded.toml",
)
messages_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=(
        "Look at the ledger of a hub, and act on it, with the hub running or stopped.\n\n"
        "Example: vaguemestre messages list -c vaguemestre.toml"
    ),
)
token_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=("API tokens.\n\nExample: vaguemestre token create -c vaguemestre.toml --name monitoring --role operator"),
)
db_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help=("The database.\n\nExample: vaguemestre db upgrade -c vaguemestre.toml")
)
simulate_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=("National services, simulated, for training and tests.\n\nExample: vaguemestre simulate dmp --listen 127.0.0.1:8090"),
)
app.add_typer(messages_app, name="messages")
app.add_typer(token_app, name="token")
app.add_typer(db_app, name="db")
app.add_typer(simulate_app, name="simulate")

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration (TOML).", envvar="VAGUEMESTRE_CONFIG")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def _installed(config: Path, *, as_json: bool = False) -> Any:
    """The checked configuration; its mistakes, one a line or as JSON, and exit 2."""
    from logging import ERROR

    from hub.app.config import ConfigurationRefused, load
    from hub.app.logging import set_up_logging

    set_up_logging(level=ERROR)  # to stderr, and only what is wrong; `run` says more
    try:
        return load(config)
    except ConfigurationRefused as refused:
        from hub.app.terminal import tell_mistakes

        tell_mistakes(refused.mistakes, as_json=as_json)
        raise typer.Exit(2) from None


@app.command()
def run(
    config: Config,
    role: Annotated[str, typer.Option(help="all, or one part of a hub of several processes: edge, worker or web.")] = "all",
    status: Annotated[str, typer.Option(help="HOST:PORT where an edge or a worker answers /healthz, /readyz and /metrics.")] = "",
) -> None:
    """Run a hub, or one process of it, until SIGTERM, which drains it.

    Example: vaguemestre run --config config/embedded.toml
    """
    from hub.app.run import run_hub, wrong_role

    installed = _installed(config)
    wrong = wrong_role(installed, role, status)
    if wrong:
        typer.echo(wrong, err=True)
        raise typer.Exit(2)
    raise typer.Exit(run_hub(installed, role=role, status=status))


@app.command()
def check(config: Config, json: Json = False) -> None:
    """Validate a configuration and print the graph of sources, routes and destinations.

    Example: vaguemestre check --config config/embedded.toml
    """
    from hub.app.check import print_graph

    installed = _installed(config, as_json=json)
    raise typer.Exit(print_graph(installed, as_json=json))


@app.command("try")
def try_(
    config: Config,
    message: Annotated[Path, typer.Argument(help="A file with one HL7 v2 message; - for standard input.")],
    source: Annotated[str, typer.Option(help="As if it came from this source; the first one when left out.")] = "",
    json: Json = False,
) -> None:
    """Say what one message would do: answer, route, record change, deliveries. Nothing is kept and nothing is sent.

    Example: vaguemestre try --config config/embedded.toml admission.hl7
    """
    from hub.app.try_message import try_message

    raise typer.Exit(try_message(_installed(config), message, source, as_json=json))


@app.command()
def send(
    files: Annotated[list[Path], typer.Argument(help="Files with HL7 v2 messages, one or several each; - for standard input.")],
    to: Annotated[str, typer.Option("--to", help="HOST:PORT of an MLLP listener.")],
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS.")] = False,
    ca: Annotated[Path | None, typer.Option("--ca", help="Authority of the listener's certificate (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="Client certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its key (PEM).")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for each answer.")] = 30.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only say what was refused.")] = False,
) -> None:
    """Send messages over MLLP and print each answer. Line ends are made CR; exit 1 when one is not accepted.

    Example: vaguemestre send --to 127.0.0.1:2575 admission.hl7 report.hl7
    """
    from hub.app.send import send_files

    raise typer.Exit(send_files(files, to, tls=tls, ca=ca, cert=cert, key=key, timeout_s=timeout_s, quiet=quiet))


@app.command("check-message")
def check_message(
    files: Annotated[list[Path], typer.Argument(help="Files with HL7 v2 messages, one or several each; - for standard input.")],
    profile: Annotated[str, typer.Option(help="This profile, not the one that each message names; none for HL7 alone.")] = "",
    environment: Annotated[str, typer.Option(help="The hub that would answer: test or production.")] = "test",
    values: Annotated[
        bool, typer.Option("--values", help="Also show the values that are wrong: they may be a patient's.")
    ] = False,
    schematron: Annotated[Path | None, typer.Option(help="A kit whose rules are run over CDA documents.")] = None,
    json: Json = False,
) -> None:
    """Say in words where messages break HL7 and the French profiles, and what the hub would answer. Exit 1 when one has errors.

    Example: vaguemestre check-message admission.hl7 report.hl7
    """
    from hub.app.check_message import check_messages

    raise typer.Exit(
        check_messages(files, profile=profile, environment=environment, values=values, schematron=schematron, as_json=json)
    )


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up until Ctrl-C, with the console open.")] = False,
    port_base: Annotated[int, typer.Option("--port-base", help="Web port; MLLP is this minus 5505.")] = 8080,
) -> None:
    """Run a hub on loopback, play a short day of synthetic traffic, and print what became of each message.

    Example: vaguemestre demo --keep
    """
    from hub.app.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, port_base=port_base))


@app.command()
def doctor(config: Config, json: Json = False) -> None:
    """Say what is wrong with this installation: versions, schema, ports, certificates, clock, disk.

    Example: vaguemestre doctor --config /etc/vaguemestre/vaguemestre.toml
    """
    from hub.app.doctor import examine

    raise typer.Exit(examine(_installed(config, as_json=json), as_json=json))


@messages_app.command("list")
def messages_list(
    config: Config,
    state: Annotated[str, typer.Option(help="RECEIVED, ROUTED, DONE, PARTIAL, REFUSED, SET_ASIDE, NO_ROUTE or DISCARDED.")] = "",
    source: Annotated[str, typer.Option(help="Name of the [[source]].")] = "",
    type: Annotated[str, typer.Option(help="MSH-9, for example ADT^A01.")] = "",
    control_id: Annotated[str, typer.Option(help="MSH-10.")] = "",
    since: Annotated[str, typer.Option(help="30m, 2h, 3d, or an instant such as 2026-11-24T08:00:00Z.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    after: Annotated[str, typer.Option(help="Cursor of the page before.")] = "",
    json: Json = False,
) -> None:
    """List kept messages, newest first.

    Example: vaguemestre messages list -c vaguemestre.toml --state REFUSED --since 2h
    """
    from hub.app.messages import list_messages

    raise typer.Exit(
        list_messages(
            _installed(config),
            state=state,
            source=source,
            type_=type,
            control_id=control_id,
            since=since,
            limit=limit,
            after=after,
            as_json=json,
        )
    )


@messages_app.command("show")
def messages_show(config: Config, message_id: str, json: Json = False) -> None:
    """Show one message: answer, findings, deliveries and attempts. Its content is not shown.

    Example: vaguemestre messages show -c vaguemestre.toml 0192f3a4-…
    """
    from hub.app.messages import show_message

    raise typer.Exit(show_message(_installed(config), message_id, as_json=json))


@messages_app.command("replay")
def messages_replay(
    config: Config,
    message_id: str,
    destination: Annotated[
        list[str] | None, typer.Option("--destination", "-d", help="Only this destination; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Translate and deliver a kept message again, at the end of its lanes. DMP and mail only when named.

    Example: vaguemestre messages replay -c vaguemestre.toml 0192f3a4-… --destination lab-out
    """
    from hub.app.messages import replay

    raise typer.Exit(replay(_installed(config), message_id, destination or [], ask=not yes))


@messages_app.command("discard")
def messages_discard(
    config: Config, message_id: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Close a message: its open deliveries are cancelled, its bytes stay.

    Example: vaguemestre messages discard -c vaguemestre.toml 0192f3a4-…
    """
    from hub.app.messages import discard

    raise typer.Exit(discard(_installed(config), message_id, ask=not yes))


HeldPatient = Annotated[str, typer.Option("--patient", help="Id of a patient: all of their messages, those to come too.")]
HeldSource = Annotated[str, typer.Option("--source", help="Name of a source: all of its messages, those to come too.")]
HoldReason = Annotated[str, typer.Option("--reason", help="Why; the audit trail keeps it.")]


@messages_app.command("hold")
def messages_hold(
    config: Config,
    reason: HoldReason,
    message_id: Annotated[str, typer.Argument()] = "",
    patient: HeldPatient = "",
    source: HeldSource = "",
) -> None:
    """Keep a message, a patient's or a source's, whatever [retention] says, until they are released.

    Example: vaguemestre messages hold -c vaguemestre.toml 0192f3a4-… --reason "request of the court, file 12"
    """
    from hub.app.holding import hold

    raise typer.Exit(hold(_installed(config), message=message_id, patient=patient, source=source, reason=reason))


@messages_app.command("release")
def messages_release(
    config: Config,
    reason: HoldReason,
    message_id: Annotated[str, typer.Argument()] = "",
    patient: HeldPatient = "",
    source: HeldSource = "",
) -> None:
    """End a hold.

    Example: vaguemestre messages release -c vaguemestre.toml --source labo --reason "case closed"
    """
    from hub.app.holding import release

    raise typer.Exit(release(_installed(config), message=message_id, patient=patient, source=source, reason=reason))


@messages_app.command("holds")
def messages_holds(
    config: Config,
    released: Annotated[bool, typer.Option("--released", help="Also those that ended.")] = False,
    json: Json = False,
) -> None:
    """List what is held, by whom, and why.

    Example: vaguemestre messages holds -c vaguemestre.toml
    """
    from hub.app.holding import list_holds

    raise typer.Exit(list_holds(_installed(config), released=released, as_json=json))


@token_app.command("create")
def token_create(
    config: Config,
    name: Annotated[str, typer.Option(help="Who will hold it; lists and the audit trail show it.")],
    role: Annotated[str, typer.Option(help="operator, professional, pharmacist or system.")],
    rpps: Annotated[str, typer.Option(help="Who a professional is.")] = "",
    finess: Annotated[str, typer.Option(help="Their structure.")] = "",
    masked: Annotated[bool, typer.Option("--masked", help="An operator that may not read message bodies.")] = False,
) -> None:
    """Make an API token and print it once, as the last word. Works while the hub runs.

    Example: vaguemestre token create -c vaguemestre.toml --name monitoring --role operator
    """
    from hub.app.token import create

    raise typer.Exit(create(_installed(config), name=name, role=role, rpps=rpps, finess=finess, masked=masked))


@token_app.command("list")
def token_list(config: Config, json: Json = False) -> None:
    """List tokens, without their secret.

    Example: vaguemestre token list -c vaguemestre.toml
    """
    from hub.app.token import list_all

    raise typer.Exit(list_all(_installed(config), as_json=json))


@token_app.command("revoke")
def token_revoke(config: Config, name: str) -> None:
    """Revoke the tokens of that name.

    Example: vaguemestre token revoke -c vaguemestre.toml monitoring
    """
    from hub.app.token import revoke

    raise typer.Exit(revoke(_installed(config), name))


@simulate_app.command("dmp")
def simulate_dmp_(
    listen: Annotated[str, typer.Option(help="HOST:PORT; where [dmp] url of --config points when left out.")] = "",
    answer: Annotated[str, typer.Option(help="success, failure:CODE, silence, or mixed.")] = "success",
    fail_every: Annotated[int, typer.Option(min=0, help="Refuse every nth submission besides.")] = 0,
    delay_s: Annotated[float, typer.Option(min=0.0, help="Seconds before each answer.")] = 0.0,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A configuration; its [dmp] says where to listen.")
    ] = None,
) -> None:
    """Take what a hub sends to the DMP (ITI-41, ITI-57, ITI-18), keep it in memory, and answer as told; GET / gives counts.

    Example: vaguemestre simulate dmp --listen 127.0.0.1:8090 --answer mixed
    """
    from hub.app.simulate import run_dmp

    raise typer.Exit(
        run_dmp(listen, _installed(config) if config else None, answer=answer, fail_every=fail_every, delay_s=delay_s)
    )


@db_app.command("upgrade")
def db_upgrade(config: Config) -> None:
    """Create the database or bring it to this version's schema. `run` does the same at its start.

    Example: vaguemestre db upgrade -c vaguemestre.toml
    """
    from hub.app.database import upgrade_database

    raise typer.Exit(upgrade_database(_installed(config)))


@db_app.command("prune")
def db_prune(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove what [retention] does not keep any more, as the running hub does by itself, beside it or without it.

    Example: vaguemestre db prune -c vaguemestre.toml --dry-run
    """
    from hub.app.prune import prune_database

    raise typer.Exit(prune_database(_installed(config), dry_run=dry_run, as_json=json))


@app.command("retranslate")
def retranslate(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many documents would be read again.")] = False,
    kind: Annotated[str, typer.Option("--type", help="Only documents of this type code (LOINC or TRE_A05).")] = "",
    json: Json = False,
) -> None:
    """Read again the documents that an older translation read: their facts become what this version says of them.

    Beside the running hub or without it. Stopped in the middle, the next call goes on with what is left.

    Example: vaguemestre retranslate -c vaguemestre.toml --dry-run
    """
    from hub.app.retranslate import retranslate_documents

    raise typer.Exit(retranslate_documents(_installed(config), dry_run=dry_run, kind=kind, as_json=json))


@db_app.command("copy")
def db_copy(
    source: Annotated[Path, typer.Option("--from", help="Configuration of the hub to copy; it must be stopped.")],
    target: Annotated[Path, typer.Option("--to", help="Configuration whose [store] names an empty database.")],
) -> None:
    """Copy a database and its large bodies into another, SQLite to PostgreSQL or back, and compare every row.

    Example: vaguemestre db copy --from vaguemestre.toml --to cluster.toml
    """
    from hub.app.copy import copy_database

    raise typer.Exit(copy_database(_installed(source), _installed(target)))


def main() -> None:
    """Entry point of the `vaguemestre` command."""
    from hub.model.refusals import HubError

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except HubError as error:  # one that its command did not expect: still a sentence, not a traceback
        typer.echo(error.sentence, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

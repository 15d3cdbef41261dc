"""The command `hfmgc`. Each verb is a few lines; what it needs is imported when it is called."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .errors import HfmgcError
from .stopping import catch_signals, exit_code, release_signals
from .text import as_text, escape_output, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 1 after an error, or where `predict` skipped files or `check` found none usable."""
    arguments = _parser().parse_args(argv)
    escape_output()
    if "--json" in getattr(arguments, "overrides", ()):  # behind the config it is no field of the recipe either
        arguments.overrides.remove("--json")
        arguments.json = True
    as_json = getattr(arguments, "json", False)
    catch_signals()
    try:
        # Under --json nothing but the document may reach standard output, whatever libraries print.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result, text, *code = arguments.verb(arguments)
    except HfmgcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print("interrupted", file=sys.stderr)
        return exit_code(stopped)
    finally:
        release_signals()
    try:
        # Backslash escapes are invalid JSON, so where output is not UTF-8 JSON uses its own escapes.
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        document = as_json and json.dumps(result, indent=2, ensure_ascii=ascii_only, allow_nan=False)
        print(document or text, flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code[0] if code else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfmgc", description="Music genre classification, judged by whole tracks.")
    parser.add_argument("--version", action="version", version=f"hfmgc {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    evaluate = verbs.add_parser("evaluate", help="report how good a saved checkpoint is on data")
    evaluate.add_argument("checkpoint", help="folder of a finished run, or a repository on the Hub")
    evaluate.add_argument("--data", required=True, help="a folder of genres, or a dataset's name")
    evaluate.add_argument("--data_options", type=_mapping, default={}, help="options of the dataset, as YAML or JSON")
    evaluate.add_argument("--exclude", help="list of tracks to leave out: track_id, reason")
    evaluate.add_argument("--shortest_seconds", type=_seconds, default=1.0, help="audio that is shorter is skipped")
    evaluate.add_argument(
        "--side",
        choices=("auto", "all", "unseen", "train", "validation", "test"),
        default="auto",
        help="a side of the checkpoint's own split; unseen: tracks that it was not trained on, whatever they are called "
        "here; auto: the test side where the data contain it, else the unseen tracks",
    )
    evaluate.add_argument("--revision", help="commit of the repository on the Hub")
    evaluate.add_argument("--batch_size", type=_positive, default=8, help="tracks at a time")
    evaluate.add_argument("--num_proc", type=_positive, default=1, help="processes that decode and extract")
    evaluate.add_argument("--output", type=Path, help="folder for results.json and the picture")
    evaluate.add_argument("--json", action="store_true", help="print the report as one JSON document")
    evaluate.set_defaults(verb=_evaluate)

    listing = verbs.add_parser("list", help="name the architectures, with their papers, sizes and recipes")
    listing.add_argument("--json", action="store_true", help="print one JSON document, with all configs of each")
    listing.set_defaults(verb=_list)

    show = verbs.add_parser("show", help="say what a recipe would build, without building it")
    show.add_argument("config", help="recipe config (YAML)")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.add_argument("overrides", nargs=argparse.REMAINDER, help="--field value ..., as in the recipe")
    show.set_defaults(verb=_show)

    check = verbs.add_parser("check", help="decode everything, and report broken, silent, short and duplicate tracks")
    check.add_argument("data", help="a folder of genres, a manifest, features, or a dataset's name")
    check.add_argument("--data_options", type=_mapping, default={}, help="options of the dataset, as YAML or JSON")
    check.add_argument("--num_proc", type=_positive, default=1, help="processes that decode")
    check.add_argument(
        "--shortest_seconds", type=_seconds, default=1.0, help="what is shorter is reported as too short"
    )
    check.add_argument(
        "--write_exclusions", metavar="FILE", help="write what is better left out as a CSV for --exclude"
    )
    check.add_argument("--json", action="store_true", help="print the report as one JSON document")
    check.set_defaults(verb=_check)

    extract = verbs.add_parser(
        "extract", help="extract the features of a dataset once, in shards, to train from later"
    )
    extract.add_argument("data", help="a folder of genres, a manifest, or a dataset's name")
    extract.add_argument("output", type=Path, help="folder of the shards; an interrupted extraction resumes there")
    extract.add_argument("--data_options", type=_mapping, default={}, help="options of the dataset, as YAML or JSON")
    extract.add_argument("--exclude", help="list of tracks to leave out: track_id, reason")
    extract.add_argument("--shortest_seconds", type=_seconds, default=1.0, help="audio that is shorter is skipped")
    extract.add_argument(
        "--front_end", type=_mapping, default={}, help="fields of the front end, such as '{preset: gtzan_decimated}'"
    )
    extract.add_argument("--model_type", default="hfmgc-ast", help="whose front end, where no preset is named")
    extract.add_argument("--dtype", default="float32", help="float32, or float16 for half the size")
    extract.add_argument("--shard_size", type=_positive, default=64, help="tracks of a shard")
    extract.add_argument("--num_proc", type=_positive, default=1, help="processes that extract")
    extract.add_argument("--json", action="store_true", help="print what was done as one JSON document")
    extract.set_defaults(verb=_extract)

    embed = verbs.add_parser("embed", help="write the embeddings of a dataset's tracks to a parquet file")
    embed.add_argument("data", help="a folder of genres, a manifest, features, or a dataset's name")
    embed.add_argument("output", type=Path, help="parquet file; the same command resumes after an interruption")
    embed.add_argument("--checkpoint", required=True, help="folder of a finished run, or a repository on the Hub")
    embed.add_argument("--windows", action="store_true", help="a row for each window, not for each track")
    embed.add_argument("--data_options", type=_mapping, default={}, help="options of the dataset, as YAML or JSON")
    embed.add_argument("--exclude", help="list of tracks to leave out: track_id, reason")
    embed.add_argument("--shortest_seconds", type=float, default=1.0, help="audio that is shorter is skipped")
    embed.add_argument("--revision", help="commit of the repository on the Hub")
    embed.add_argument("--batch_size", type=_positive, default=16, help="windows at a time")
    embed.add_argument("--json", action="store_true", help="print what was done as one JSON document")
    embed.set_defaults(verb=_embed)

    predict = verbs.add_parser("predict", help="the genres of files, from any checkpoint")
    predict.add_argument("checkpoint", help="folder of a finished run, or a repository on the Hub")
    predict.add_argument("files", nargs="+", help="audio files")
    predict.add_argument("--top_k", type=_positive, default=5, help="how many genres to print for each file")
    predict.add_argument("--shortest_seconds", type=_seconds, default=1.0, help="a file that is shorter is unusable")
    predict.add_argument("--json", action="store_true", help="print one JSON document")
    predict.set_defaults(verb=_predict)

    push = verbs.add_parser("push", help="send a finished run to the Hub in one commit")
    push.add_argument("folder", type=Path, help="folder of a finished run")
    push.add_argument("--hub_model_id", required=True, help="USER/NAME")
    push.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    push.add_argument("--revision", help="branch to commit to; made if missing")
    push.set_defaults(verb=_push)
    return parser


def _evaluate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .evaluation.evaluate import evaluate_checkpoint

    report = evaluate_checkpoint(
        arguments.checkpoint,
        arguments.data,
        data_options=arguments.data_options,
        exclude=arguments.exclude,
        shortest_seconds=arguments.shortest_seconds,
        side=arguments.side,
        revision=arguments.revision,
        batch_size=arguments.batch_size,
        num_proc=arguments.num_proc,
    )
    text = report.to_text()
    if arguments.output:
        from .errors import saving_to

        with saving_to(arguments.output):
            arguments.output.mkdir(parents=True, exist_ok=True)
            text += "\n\n" + "\n".join(f"written: {path}" for path in report.save(arguments.output))
    return report.to_dict(), text


def _list(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .training.listing import list_architectures

    return list_architectures()


def _show(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .training.show import show_recipe

    return show_recipe(arguments.config, arguments.overrides)


def _check(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .data.check import check_source
    from .data.sources import open_source

    source = open_source(arguments.data, arguments.data_options)
    report = check_source(source, num_proc=arguments.num_proc, shortest_seconds=arguments.shortest_seconds)
    text = report.to_text()
    if arguments.write_exclusions:
        from .data.sources.exclusions import write_exclusions

        write_exclusions(Path(arguments.write_exclusions), report.exclusions())
        text += f"\nwritten: {arguments.write_exclusions} ({len(report.exclusions())} tracks), for --exclude"
    return report.to_dict(), text, int(not report.usable)


def _extract(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .data.extraction import extract_corpus
    from .data.sources import open_source
    from .settings import settings_from
    from .training.arguments import ModelArguments
    from .training.assembly import build_feature_extractor

    fields = {"model_type": arguments.model_type, "front_end": arguments.front_end}
    (model_arguments,) = settings_from(fields, (ModelArguments,), where="command line")
    result = extract_corpus(
        open_source(arguments.data, arguments.data_options, exclude=arguments.exclude),
        build_feature_extractor(model_arguments),
        arguments.output,
        dtype=arguments.dtype,
        shard_size=arguments.shard_size,
        shortest_seconds=arguments.shortest_seconds,
        num_proc=arguments.num_proc,
    )
    lines = [f"{result['tracks']} tracks extracted to {arguments.output}; train with --data {arguments.output}"]
    lines += [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in result["skipped"]]
    return result, "\n".join(lines)


def _embed(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .inference.embed import embed_tracks

    result = embed_tracks(
        arguments.checkpoint,
        arguments.data,
        arguments.output,
        data_options=arguments.data_options,
        exclude=arguments.exclude,
        revision=arguments.revision,
        windows=arguments.windows,
        batch_size=arguments.batch_size,
        shortest_seconds=arguments.shortest_seconds,
    )
    kind = "windows" if arguments.windows else "tracks"
    lines = [f"written: {arguments.output}: embeddings of {result['rows']} {kind}, {result['hidden']} values each"]
    lines += [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in result["skipped"]]
    return result, "\n".join(lines)


def _predict(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .errors import AudioError
    from .inference.predict import TrackClassifier

    classifier = TrackClassifier(arguments.checkpoint)
    answers, failures = {}, {}
    for file in arguments.files:
        name = as_text(file)
        try:
            answers[name] = classifier.classify_file(
                file, top_k=arguments.top_k, shortest_seconds=arguments.shortest_seconds
            )
        except AudioError as error:
            failures[name] = error.reason
    if not answers:
        raise HfmgcError("; ".join(f"{file}: unusable: {reason}" for file, reason in failures.items()))
    lines = [
        one_line(f"{file}: " + ", ".join(f"{item['label']} {item['score']:.3f}" for item in scores))
        for file, scores in answers.items()
    ] + [one_line(f"{file}: unusable: {reason}") for file, reason in failures.items()]
    return {"predictions": answers, "skipped": failures}, "\n".join(lines), int(bool(failures))


def _push(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .hub.push import push_run

    url = push_run(arguments.folder, arguments.hub_model_id, private=arguments.private, revision=arguments.revision)
    return {"url": url}, f"pushed to {url}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0 on, got {text!r}")
    return seconds


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    from .settings import load_yaml, yaml_problem

    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{yaml_problem(error)}: {text!r}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a mapping such as '{{seed: 1}}', got {text!r}")
    return value


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

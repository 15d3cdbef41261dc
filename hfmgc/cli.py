"""The command `hfmgc`. Each verb is a few lines; what it needs is imported when it is called."""

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .errors import HfmgcError, saving_to
from .stopping import catch_signals, exit_code, release_signals
from .text import escape_output, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 1 after an error or if `check` found no usable file, 3 if `predict` skipped one."""
    options = vars(_parser().parse_args(argv))
    escape_output()
    verb, as_json = options.pop("verb"), options.pop("json", False)
    if "--json" in options.get("overrides", ()):  # behind the config, where fields of the recipe stand
        options["overrides"].remove("--json")
        as_json = True
    catch_signals()
    try:
        # Under --json nothing but the document may reach standard output, whatever libraries print.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result, text, *code = verb(**options)
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
    except BrokenPipeError:  # the reader (head, less) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code[0] if code else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfmgc", description="Music genre classification, evaluated on whole tracks."
    )
    parser.add_argument("--version", action="version", version=f"hfmgc {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    # Arguments of several verbs
    shared = {
        "data": {"help": "a folder of genres, a manifest, features, or a dataset's name"},
        "embeddings": {"type": Path, "help": "parquet file by hfmgc embed"},
        "song": {"help": "audio file"},
        "--data_options": {"type": _mapping, "default": {}, "help": "options of the dataset, as YAML or JSON"},
        "--exclude": {"help": "list of tracks to leave out: track_id, reason"},
        "--shortest_seconds": {"type": _seconds, "default": 1.0, "help": "shorter audio is skipped"},
        "--num_proc": {"type": _positive, "default": 1, "help": "processes that decode and extract"},
        "--revision": {"help": "commit of the repository on the Hub"},
        "--batch_size": {"type": _positive, "help": "windows per batch"},
        "--json": {"action": "store_true", "help": "print one JSON document"},
    }

    def add(name: str, verb: Callable, text: str, *arguments: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text)
        added.set_defaults(verb=verb)
        for argument in arguments:
            added.add_argument(argument, **shared[argument])
        return added

    of_data = ("--data_options", "--shortest_seconds", "--json")
    options = (*of_data, "--exclude", "--num_proc", "--revision")
    evaluate = add("evaluate", _evaluate, "evaluate a saved checkpoint", *options)
    evaluate.add_argument("checkpoint", help="folder of a finished run, or a repository on the Hub")
    evaluate.add_argument("--data", required=True, **shared["data"])
    evaluate.add_argument(
        "--side",
        choices=("auto", "all", "unseen", "train", "validation", "test"),
        default="auto",
        help="a side of the checkpoint's own split; unseen: tracks that it was not trained on, under any "
        "name; auto: the test side if the data contain it, otherwise the unseen tracks",
    )
    evaluate.add_argument("--batch_size", type=_positive, default=8, help="tracks per batch")
    evaluate.add_argument("--output", type=Path, help="folder for results.json and the picture")

    add("list", _list, "list the architectures, with their papers, sizes and recipes", "--json")

    show = add("show", _show, "show what a recipe would build, without building it", "--json")
    show.add_argument("config", help="recipe config (YAML)")
    show.add_argument("overrides", nargs=argparse.REMAINDER, help="--field value ..., as in the recipe")

    options = ("data", *of_data, "--num_proc")
    check = add("check", _check, "report broken, silent, short and duplicate tracks", *options)
    check.add_argument("--write_exclusions", metavar="FILE", help="write the tracks to exclude as a CSV for --exclude")

    options = ("data", *of_data, "--exclude", "--num_proc")
    extract = add("extract", _extract, "store the features of a dataset, to train from later", *options)
    extract.add_argument("output", type=Path, help="folder of the shards; an interrupted extraction resumes there")
    extract.add_argument(
        "--front_end", type=_mapping, default={}, help="fields of the front end, such as '{preset: gtzan_decimated}'"
    )
    extract.add_argument(
        "--model_type", default="hfmgc-ast", help="architecture whose front end is used without a preset"
    )
    extract.add_argument("--dtype", default="float32", help="float32, or float16 for half the size")
    extract.add_argument("--shard_size", type=_positive, default=64, help="tracks per shard")

    restore = add("restore", _restore, "draw what a model pre-trained by denoising restores of a song", "--json")
    restore.add_argument(
        "checkpoint", help="folder of a pre-training run (Deformer, prior autoencoder), or a repository"
    )
    restore.add_argument("song", **shared["song"])
    restore.add_argument("--output", type=Path, help="the picture; by default SONG.restored.png")
    restore.add_argument("--seed", type=int, default=0, help="of the noise")

    options = ("data", *of_data, "--exclude", "--revision", "--batch_size")
    embed = add("embed", _embed, "write the embeddings of tracks to a parquet file", *options)
    embed.add_argument("output", type=Path, help="parquet file; the same command resumes after an interruption")
    embed.add_argument(
        "--checkpoint",
        default="package:msd",
        help="folder of a finished run, a repository on the Hub, or package:NAME (default: package:msd)",
    )
    embed.add_argument("--windows", action="store_true", help="a row for each window, not for each track")

    options = ("--shortest_seconds", "--batch_size", "--json")
    predict = add("predict", _predict, "predict the genres of files", *options)
    predict.add_argument(
        "paths",
        nargs="+",
        metavar="[CHECKPOINT] PATH",
        help="folder of a finished run or repository on the Hub (default: the packaged checkpoints), then files, folders, "
        "globs, or - for a list on standard input",
    )
    predict.add_argument("--top_k", type=_positive, default=5, help="how many genres and tags to print for each file")
    predict.add_argument(
        "--output", type=Path, help=".csv, .jsonl or .parquet file; the same command resumes after an interruption"
    )
    predict.add_argument(
        "--timeline", type=Path, metavar="FOLDER", help="write the genres along each song as CSV and PNG"
    )
    predict.add_argument("--all_windows", action="store_true", help="cover the whole of each song")
    predict.add_argument("--num_proc", type=_positive, default=1, help="files decoded at the same time")

    options = ("song", "embeddings", "--json")
    similar = add("similar", _similar, "find the songs of an embeddings file that are nearest to a song", *options)
    similar.add_argument("--checkpoint", help="the checkpoint of the embeddings, if it was moved")
    similar.add_argument("--top_k", type=_positive, default=10, help="how many songs to print")

    options = ("embeddings", "--json")
    project = add("project", _project, "draw embeddings in two dimensions, coloured by genre", *options)
    project.add_argument("output", type=Path, help="PNG file")
    project.add_argument("--method", choices=("tsne", "pca"), default="tsne", help="t-SNE, or principal components")
    project.add_argument("--seed", type=int, default=0, help="seed of t-SNE")

    push = add("push", _push, "publish a finished run on the Hub in one commit")
    push.add_argument("folder", type=Path, help="folder of a finished run")
    push.add_argument("--hub_model_id", required=True, help="USER/NAME")
    push.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    push.add_argument("--revision", help="branch to commit to; created if missing")
    return parser


def _list() -> tuple[dict[str, Any], str]:
    from .training.listing import list_architectures

    return list_architectures()


def _evaluate(output: Path | None, **options: Any) -> tuple[dict[str, Any], str]:
    from .evaluation.evaluate import evaluate_checkpoint
    from .training.run_folder import RUN_FILE, check_output_folder

    if output:
        check_output_folder("output", output, options["data"])
        if (output / RUN_FILE).exists():
            raise HfmgcError(f"output {output} holds a run, whose results would be replaced: name another folder")
    report = evaluate_checkpoint(**options)
    text = report.to_text()
    if output:
        with saving_to(output):
            output.mkdir(parents=True, exist_ok=True)
            text += "\n\n" + "\n".join(f"written: {path}" for path in report.save(output))
    return report.to_dict(), text


def _show(**options: Any) -> tuple[dict[str, Any], str]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read on import; recipes are shown from the local cache
    from .training.show import show_recipe

    return show_recipe(**options)


def _check(
    data: str, data_options: dict[str, Any], write_exclusions: str | None, **options: Any
) -> tuple[dict[str, Any], str, int]:
    from .data.check import check_source
    from .data.sources import open_source
    from .data.sources.exclusions import write_exclusions as write

    if write_exclusions and Path(write_exclusions).suffix.lower() != ".csv":
        raise HfmgcError(f"write_exclusions {write_exclusions}: the list is a CSV: name a file that ends in .csv")
    report = check_source(open_source(data, data_options), **options)
    text = report.to_text()
    if write_exclusions:
        write(Path(write_exclusions), report.exclusions())
        text += f"\nwritten: {write_exclusions} ({len(report.exclusions())} tracks), for --exclude"
    return report.to_dict(), text, int(not report.usable)


def _extract(
    data: str,
    output: Path,
    data_options: dict[str, Any],
    exclude: str | None,
    model_type: str,
    front_end: dict[str, Any],
    **options: Any,
) -> tuple[dict[str, Any], str]:
    from .data.extraction import extract_corpus
    from .data.sources import open_source
    from .settings import settings_from
    from .training.arguments import ModelArguments
    from .training.build import build_feature_extractor
    from .training.run_folder import check_output_folder

    check_output_folder("output", output, data)
    fields = {"model_type": model_type, "front_end": front_end}
    (model_arguments,) = settings_from(fields, (ModelArguments,), where="command line")
    source = open_source(data, data_options, exclude=exclude)
    result = extract_corpus(source, build_feature_extractor(model_arguments), output, **options)
    text = f"{result['tracks']} tracks extracted to {output}; train with --data {output}"
    return result, "\n".join([text, *_skipped(result)])


def _restore(**options: Any) -> tuple[dict[str, Any], str]:
    from .inference.restore import restore_song

    return restore_song(**options)


def _embed(**options: Any) -> tuple[dict[str, Any], str]:
    from .inference.embed import embed_tracks
    from .training.run_folder import check_output_folder

    check_output_folder(
        "output", options["output"].parent, options["data"]
    )  # a parquet file would turn it into features
    result = embed_tracks(**options)
    kind = "windows" if options["windows"] else "tracks"
    text = f"written: {options['output']}: embeddings of {result['rows']} {kind}, {result['hidden']} values each"
    return result, "\n".join([text, *_skipped(result)])


def _skipped(result: dict[str, Any]) -> list[str]:
    return [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in result["skipped"]]


def _predict(
    paths: list[str], output: Path | None, timeline: Path | None, **options: Any
) -> tuple[dict[str, Any], str, int]:
    # A waiting thread of OpenMP spins by default: on a busy machine that takes many times the processor time of the model.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _without_collections():
        from transformers.utils.logging import disable_progress_bar

        from .inference.songs import SongPredictor, find_files, predictions_text, split_checkpoint

        disable_progress_bar()  # of loading the weights
        checkpoints, paths = split_checkpoint(paths)
        files = find_files(paths)
        if timeline:
            from .inference.timeline import TimelineWriter

            options["timeline"] = TimelineWriter(timeline, files)
        predictor = SongPredictor(checkpoints, **options)
    if output:
        from .inference.prediction_files import write_predictions

        rows = write_predictions(predictor, files, output)
    else:
        rows = [song.row for song in predictor.predict(files)]
    usable = {row["file"]: row for row in rows if not row["problem"]}
    unusable = [row for row in rows if row["problem"]]
    skipped, code = {row["file"]: row["problem"] for row in unusable}, 3 if unusable else 0
    if not output:
        return {"predictions": usable, "skipped": skipped}, predictions_text(rows), code
    text = f"written: {output} (songs: {len(usable)}, unusable files: {len(unusable)})\n{predictions_text(unusable)}"
    return {"output": str(output), "songs": len(usable), "skipped": skipped}, text.rstrip(), code


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Keep what is imported and loaded out of garbage collections, during the imports and at exit: they take a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _similar(**options: Any) -> tuple[dict[str, Any], str]:
    from .inference.similar import similar_songs

    songs = similar_songs(**options)
    lines = [one_line(f"{song['similarity']:.3f}  {song['track_id']}  {song['genre'] or ''}") for song in songs]
    return {"songs": songs}, "\n".join(lines)


def _project(**options: Any) -> tuple[dict[str, Any], str]:
    from .inference.project import project_embeddings

    result = project_embeddings(**options)
    return result, f"written: {options['output']} ({result['points']} points, {result['genres']} genres)"


def _push(**options: Any) -> tuple[dict[str, Any], str]:
    from .hub.push import push_run

    url = push_run(**options)
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

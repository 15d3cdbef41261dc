"""The command `hfmgc`: its arguments, and a function for each verb, which imports what it needs when it is called."""

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
    """Run the command and return its exit code.

    It is 1 after an error or if `check` found no usable file, and 3 if `predict` skipped a file.
    """
    options = vars(_parser().parse_args(argv))
    escape_output()
    verb, as_json = options.pop("verb"), options.pop("json", False)
    if "--json" in options.get("overrides", ()):  # argparse takes all words after the config for overrides
        options["overrides"].remove("--json")
        as_json = True
    catch_signals()
    try:
        # With --json only the document may reach standard output, whatever libraries print.
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
        # The backslash escapes of `escape_output` are invalid JSON, so JSON for other encodings than UTF-8 is ASCII.
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
    shared = {  # arguments that several verbs have
        "data": {"help": "folder of genres, manifest, stored features, or name of a dataset"},
        "embeddings": {"type": Path, "help": "parquet file written by hfmgc embed"},
        "song": {"help": "audio file"},
        "--data_options": {"type": _mapping, "default": {}, "help": "options of the dataset, as YAML or JSON"},
        "--exclude": {"help": "list of tracks to exclude, with the columns track_id and reason"},
        "--shortest_seconds": {"type": _seconds, "default": 1.0, "help": "skip shorter audio (default: %(default)s)"},
        "--num_proc": {
            "type": _positive,
            "default": 1,
            "help": "processes that decode and extract (default: %(default)s)",
        },
        "--revision": {"help": "commit of the checkpoint's repository on the Hub"},
        "--batch_size": {"type": _positive, "help": "windows per batch"},
        "--json": {"action": "store_true", "help": "print one JSON document"},
    }

    def add(name: str, verb: Callable, text: str, *arguments: str) -> argparse.ArgumentParser:
        verb_parser = verbs.add_parser(name, help=text)
        verb_parser.set_defaults(verb=verb)
        for argument in arguments:
            verb_parser.add_argument(argument, **shared[argument])
        return verb_parser

    data_arguments = ("--data_options", "--shortest_seconds", "--json")
    arguments = (*data_arguments, "--exclude", "--num_proc", "--revision")
    evaluate = add("evaluate", _evaluate, "evaluate a saved checkpoint", *arguments)
    evaluate.add_argument("checkpoint", help="folder of a finished run, or a repository on the Hub")
    evaluate.add_argument("--data", required=True, **shared["data"])
    evaluate.add_argument(
        "--side",
        choices=("auto", "all", "unseen", "train", "validation", "test"),
        default="auto",
        help="train, validation or test: a side of the checkpoint's split; unseen: tracks that it was not trained on; "
        "auto (default): the test side if the data contain it, otherwise the unseen tracks; all: every track",
    )
    evaluate.add_argument("--batch_size", type=_positive, default=8, help="tracks per batch (default: %(default)s)")
    evaluate.add_argument("--output", type=Path, help="folder for results.json and the plot")

    add("list", _list, "list the architectures, with their papers, sizes and recipes", "--json")

    show = add("show", _show, "show what a recipe would build, without building it", "--json")
    show.add_argument("config", help="config of a recipe (YAML)")
    show.add_argument("overrides", nargs=argparse.REMAINDER, help="--field value ..., as for the recipe")

    arguments = ("data", *data_arguments, "--num_proc")
    check = add("check", _check, "report broken, silent, short and duplicate tracks", *arguments)
    check.add_argument("--write_exclusions", metavar="FILE", help="write the tracks to exclude to a CSV for --exclude")

    arguments = ("data", *data_arguments, "--exclude", "--num_proc")
    extract = add("extract", _extract, "extract and store the features of a dataset for later training", *arguments)
    extract.add_argument(
        "output", type=Path, help="folder for the shards; the same command resumes after an interruption"
    )
    extract.add_argument(
        "--front_end", type=_mapping, default={}, help="fields of the front end, such as '{preset: gtzan_decimated}'"
    )
    extract.add_argument(
        "--model_type",
        default="hfmgc-ast",
        help="architecture whose front end is used if --front_end has no preset (default: %(default)s)",
    )
    extract.add_argument("--dtype", default="float32", help="float32 (default), or float16 for half the size")
    extract.add_argument("--shard_size", type=_positive, default=64, help="tracks per shard (default: %(default)s)")

    restore = add("restore", _restore, "plot how a model pre-trained by denoising restores a song", "--json")
    restore.add_argument(
        "checkpoint", help="folder of a pre-training run (Deformer, prior autoencoder), or a repository"
    )
    restore.add_argument("song", **shared["song"])
    restore.add_argument("--output", type=Path, help="PNG file (default: SONG.restored.png)")
    restore.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")

    arguments = ("data", *data_arguments, "--exclude", "--revision", "--batch_size")
    embed = add("embed", _embed, "write the embeddings of tracks to a parquet file", *arguments)
    embed.add_argument("output", type=Path, help="parquet file; the same command resumes after an interruption")
    embed.add_argument(
        "--checkpoint",
        default="package:msd",
        help="folder of a finished run, a repository on the Hub, or package:NAME (default: %(default)s)",
    )
    embed.add_argument("--windows", action="store_true", help="write a row per window instead of per track")

    arguments = ("--shortest_seconds", "--batch_size", "--json")
    predict = add("predict", _predict, "predict the genres of files", *arguments)
    predict.add_argument(
        "paths",
        nargs="+",
        metavar="[CHECKPOINT] PATH",
        help="folder of a finished run or repository on the Hub (default: the packaged checkpoints), then files, folders, "
        "globs, or - for a list on standard input",
    )
    predict.add_argument(
        "--top_k", type=_positive, default=5, help="genres and tags to print per file (default: %(default)s)"
    )
    predict.add_argument(
        "--output", type=Path, help=".csv, .jsonl or .parquet file; the same command resumes after an interruption"
    )
    predict.add_argument(
        "--timeline", type=Path, metavar="FOLDER", help="write the genres along each song to a CSV and a PNG"
    )
    predict.add_argument("--all_windows", action="store_true", help="cover the whole of each song")
    predict.add_argument(
        "--num_proc", type=_positive, default=1, help="files decoded at the same time (default: %(default)s)"
    )

    arguments = ("song", "embeddings", "--json")
    similar = add("similar", _similar, "find the songs whose embeddings are nearest to a song's", *arguments)
    similar.add_argument("--checkpoint", help="checkpoint of the embeddings, if it was moved")
    similar.add_argument("--top_k", type=_positive, default=10, help="songs to print (default: %(default)s)")

    arguments = ("embeddings", "--json")
    project = add("project", _project, "plot embeddings in two dimensions, coloured by genre", *arguments)
    project.add_argument("output", type=Path, help="PNG file")
    project.add_argument(
        "--method", choices=("tsne", "pca"), default="tsne", help="t-SNE (default) or principal components"
    )
    project.add_argument("--seed", type=int, default=0, help="seed of t-SNE (default: %(default)s)")

    push = add("push", _push, "publish a finished run on the Hub in one commit")
    push.add_argument("folder", type=Path, help="folder of a finished run")
    push.add_argument("--hub_model_id", required=True, help="USER/NAME")
    push.add_argument("--private", action="store_true", default=None, help="if the repository is new, make it private")
    push.add_argument("--revision", help="branch to commit to; it is created if it does not exist")
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
            raise HfmgcError(f"output {output}: holds a run, which would lose its results: name another folder")
    report = evaluate_checkpoint(**options)
    text = report.to_text()
    if output:
        with saving_to(output):
            output.mkdir(parents=True, exist_ok=True)
            text += "\n\n" + "\n".join(f"written: {path}" for path in report.save(output))
    return report.to_dict(), text


def _show(**options: Any) -> tuple[dict[str, Any], str]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported; `show` downloads nothing
    from .training.show import show_recipe

    return show_recipe(**options)


def _check(
    data: str, data_options: dict[str, Any], write_exclusions: str | None, **options: Any
) -> tuple[dict[str, Any], str, int]:
    from .data.check import check_source
    from .data.sources import open_source
    from .data.sources.exclusions import write_exclusions as write

    if write_exclusions and Path(write_exclusions).suffix.lower() != ".csv":
        raise HfmgcError(f"write_exclusions {write_exclusions}: must be a CSV: name a file that ends in .csv")
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

    # A parquet file in the folder of the data would make it a folder of stored features.
    check_output_folder("output", options["output"].parent, options["data"])
    result = embed_tracks(**options)
    kind = "windows" if options["windows"] else "tracks"
    text = f"written: {options['output']} ({result['rows']} {kind}, {result['hidden']} values each)"
    return result, "\n".join([text, *_skipped(result)])


def _skipped(result: dict[str, Any]) -> list[str]:
    return [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in result["skipped"]]


def _predict(
    paths: list[str], output: Path | None, timeline: Path | None, **options: Any
) -> tuple[dict[str, Any], str, int]:
    # By default waiting OpenMP threads spin. On a busy machine this takes many times the processor time of the model.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _no_garbage_collection():
        from transformers.utils.logging import disable_progress_bar

        from .inference.songs import SongPredictor, find_files, predictions_text, split_checkpoint

        disable_progress_bar()  # of transformers, which shows how it loads the weights
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
def _no_garbage_collection() -> Iterator[None]:
    """Skip garbage collections of imports and models, here and at exit, which would double the time for a song."""
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
        raise argparse.ArgumentTypeError(f"expected a number of seconds, at least 0, got {text!r}")
    return seconds


def _mapping(text: str) -> dict[str, Any]:
    from .settings import load_yaml

    try:
        value = load_yaml(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: {text!r}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a mapping such as '{{seed: 1}}', got {text!r}")
    return value


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
